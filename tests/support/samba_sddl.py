"""Asks Samba's library about SDDL: one JSON object a line in, one out. Run by Samba's own Python.

`{"sddl": text}` is compiled: `{"hex": bytes}`; `{"hex": bytes}` is printed: `{"sddl": text}`; what
it refuses is `{"error": why}`. The argument is the SID of the domain that aliases such as `DA`
are below.
"""

from __future__ import annotations

import json
import sys

from samba.dcerpc import security
from samba.ndr import ndr_pack, ndr_unpack


def answer(request: dict[str, str], domain: object) -> dict[str, str]:
    try:
        if "sddl" in request:
            found = security.descriptor.from_sddl(request["sddl"], domain)
            return {"hex": ndr_pack(found).hex()}
        found = ndr_unpack(security.descriptor, bytes.fromhex(request["hex"]))
        return {"sddl": found.as_sddl(domain)}
    except (ValueError, RuntimeError, security.SDDLValueError) as error:
        return {"error": f"{type(error).__name__}: {error}"}


def main() -> None:
    domain = security.dom_sid(sys.argv[1])
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line), domain)), flush=True)


if __name__ == "__main__":
    main()
