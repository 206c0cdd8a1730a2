"""SDDL against the outputs of Windows itself, and of Wine where Wine is right.

The vectors of Windows are published with Samba (GPL-3), so they are read from the reference material and are no
part of this repository.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from windowsfilter.ntfs.security import Acl, SddlError, SecurityDescriptor

# The machine that made the vectors.
DOMAIN = "S-1-5-21-2457507606-2709100691-398136650"

# What Wine 8's advapi32 does otherwise than Windows: it cannot read these, or reads something else.
UNKNOWN_TO_WINE = (
    *("D:(A;;0;;;WD)", "D:(A;;fa;;;wd)", "S:(ML;;NW;;;HI)", "S:(ML;;NWNRNX;;;SI)"),
    "D:(OA;CI;CR;ab721a53-1e2f-11d0-9819-00aa0040529b;;WD)",
    *(
        f"O:{alias}"
        for alias in [
            "AA",
            "AS",
            "CD",
            "CY",
            "ER",
            "ES",
            "HO",
            "IS",
            "KA",
            "LU",
            "MP",
            "MU",
            "RA",
            "RM",
            "RO",
            "SS",
            "UD",
            "WR",
        ]
    ),
)
WRONG_IN_WINE = (
    "D:NO_ACCESS_CONTROL",  # makes an empty DACL of it
    "O:bogus",  # takes it for a SID
)
WINE_DOMAIN = "S-1-5-21-0-0-0"


def windows_vectors(shared: Path) -> dict[str, str]:
    groups = json.loads((shared / "vectors/sddl-windows/sddl-to-bytes.json").read_text("utf-8"))
    return {text: wire for group in groups.values() for text, wire in group.items()}


# Of a plain ACE without rights for an alias other than WD, Windows reserves the four bytes of an object ACE's
# flags, raises the ACL's revision, and leaves the bytes as slack. Nobody reads them; we leave none.
_SLACK = re.compile(r"\([AD];\w*;;;;(?!WD)[A-Z]{2}\)")


def with_slack_of_windows(text: str, descriptor: SecurityDescriptor) -> bytes:
    """The bytes with the slack that Windows leaves for this text."""
    count = len(_SLACK.findall(text))
    acl = descriptor.dacl
    if not count or acl is None:
        return descriptor.build()
    return replace(descriptor, dacl=Acl(revision=4, aces=acl.aces, slack=bytes(4 * count))).build()


def test_text_compiles_to_the_bytes_of_windows(shared: Path) -> None:
    wrong = []
    exceptions = 0
    for text, wire in windows_vectors(shared).items():
        made = SecurityDescriptor.from_sddl(text, domain=DOMAIN)
        exceptions += made.build() != bytes.fromhex(wire)
        if with_slack_of_windows(text, made) != bytes.fromhex(wire):
            wrong.append((text, made.build().hex(), wire))
    assert not wrong
    assert exceptions == 7


def test_what_is_printed_compiles_to_the_same_bytes(shared: Path) -> None:
    wrong = []
    for text, wire in windows_vectors(shared).items():
        descriptor = SecurityDescriptor.parse(bytes.fromhex(wire))
        printed = descriptor.to_sddl()
        again = SecurityDescriptor.from_sddl(printed)
        exact = with_slack_of_windows(printed, again) == descriptor.build()
        if not exact or not descriptor.sddl_is_exact():
            wrong.append((text, printed))
    assert not wrong


def wine_vectors(shared: Path) -> list[dict[str, str]]:
    index = json.loads((shared / "vectors/backuptar/index.json").read_text("utf-8"))
    return list(index["sddl2sd"])


def test_text_means_what_wine_makes_of_it(shared: Path) -> None:
    compared = 0
    for vector in wine_vectors(shared):
        text = vector["sddl"]
        if "sd" not in vector or text in UNKNOWN_TO_WINE or text in WRONG_IN_WINE:
            continue
        made = SecurityDescriptor.from_sddl(text, domain=WINE_DOMAIN)
        # Wine lays components out in another order, so values are compared.
        theirs = SecurityDescriptor.parse(bytes.fromhex(vector["sd"])).normalised()
        assert made.normalised() == theirs, text
        if "back" in vector:
            assert made.to_sddl() == vector["back"], text
        compared += 1
    assert compared > 60


def test_text_that_wine_refuses_is_refused_unless_wine_does_not_know_it(shared: Path) -> None:
    for vector in wine_vectors(shared):
        if "sd" in vector or vector["sddl"] in UNKNOWN_TO_WINE:
            continue
        with pytest.raises(SddlError):
            SecurityDescriptor.from_sddl(vector["sddl"], domain=WINE_DOMAIN)
