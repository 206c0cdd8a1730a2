"""Layer ids: the store's own directory names, and the names that users give to scratches.

An id names a folder, so its text is checked before anything else happens. Docker's ids (64 hex
digits, also with `-init` or `-removing` behind them) fit, and so do the names its conformance
tests use; whatever could leave the folder or hide in it does not.
"""

from __future__ import annotations

import re
import secrets

from windowsfilter.digests import ChainID
from windowsfilter.errors import UsageError

MAX_ID_CHARS = 128

_ID = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_.-]{{0,{MAX_ID_CHARS - 1}}}\Z")


def is_id(text: str) -> bool:
    """Whether `text` may name a layer or a scratch."""
    return _ID.match(text) is not None


def check_id(text: str, what: str = "layer id") -> str:
    """`text` itself; UsageError if it may not name a layer (or `what`)."""
    if not is_id(text):
        raise UsageError(
            f"{text[:100]!r} is no {what}: 1 to {MAX_ID_CHARS} letters, digits, '_', '.', '-' "
            f"are, the first one a letter or digit"
        )
    return text


def random_id() -> str:
    """A fresh id of 64 hex digits, as Docker makes them."""
    return secrets.token_hex(32)


def id_of_chain(chain_id: ChainID) -> str:
    """The id of a layer with this content on these parents: equal layers are stored once."""
    return chain_id.hex
