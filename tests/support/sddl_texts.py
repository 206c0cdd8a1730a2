"""SDDL by chance: every kind of section, ACE, condition and claim that Windows can say.

`sddl_text(random.Random(seed))` is the same on every machine. The texts are right, but for habits
that programs differ in, such as blanks and spellings of numbers.
"""

from __future__ import annotations

import random

ALIASES = [
    "AA",
    "AC",
    "AN",
    "AO",
    "AS",
    "AU",
    "BA",
    "BG",
    "BO",
    "BU",
    "CD",
    "CG",
    "CO",
    "CY",
    "ED",
    "ER",
    "ES",
    "HA",
    "HI",
    "IS",
    "IU",
    "LS",
    "LU",
    "LW",
    "ME",
    "MP",
    "MS",
    "MU",
    "NO",
    "NS",
    "NU",
    "OW",
    "PO",
    "PS",
    "PU",
    "RA",
    "RC",
    "RD",
    "RE",
    "RM",
    "RU",
    "SI",
    "SO",
    "SS",
    "SU",
    "SY",
    "UD",
    "WD",
    "WR",
]
PAIRS = [
    "CC",
    "DC",
    "LC",
    "SW",
    "RP",
    "WP",
    "DT",
    "LO",
    "CR",
    "SD",
    "RC",
    "WD",
    "WO",
    "GA",
    "GX",
    "GW",
    "GR",
]
COMPOSITES = ["FA", "FR", "FW", "FX", "KA", "KR", "KW", "KX"]
FLAGS = ["OI", "CI", "NP", "IO", "ID"]
GUIDS = (
    "ab721a53-1e2f-11d0-9819-00aa0040529b",
    "bf967aba-0de6-11d0-a285-00aa003049e2",
    "00000000-0000-0000-0000-000000000001",
)
RELATIONS = ["==", "!=", "<", "<=", ">", ">=", "Contains", "Not_Contains", "Any_of", "Not_Any_of"]
MEMBERS = [
    f"{negation}{device}Member_of{some}"
    for negation in ("", "Not_")
    for device in ("", "Device_")
    for some in ("", "_Any")
]
NAMES = ("Title", "a", "b.c", "x/y", "n:1", "WIN://SYSAPPID", "under_score")
ESCAPED_NAMES = (*NAMES, "a%0020b", "%00e9t%00e9", "%65e5%672c", "a%0025")
STRINGS = ("PM", "", "two words", "日本", "a;b)", "%0041", "😀")


def sddl_text(chance: random.Random) -> str:
    """A descriptor as text."""
    return "".join(
        section
        for section in (
            chance.choice(["", f"O:{sid(chance)}"]),
            chance.choice(["", f"G:{sid(chance)}"]),
            chance.choice(["", _dacl(chance)]),
            chance.choice(["", "", _sacl(chance)]),
        )
    )


def _dacl(chance: random.Random) -> str:
    if chance.random() < 0.03:
        return f"D:{_control(chance)}NO_ACCESS_CONTROL"
    return f"D:{_control(chance)}" + "".join(
        _dacl_ace(chance) for _ in range(chance.choice((0, 1, 1, 2, 3)))
    )


def _sacl(chance: random.Random) -> str:
    return f"S:{_control(chance)}" + "".join(
        _sacl_ace(chance) for _ in range(chance.choice((0, 1, 1, 2)))
    )


def _control(chance: random.Random) -> str:
    return "".join(flag for flag in ("P", "AR", "AI") if chance.random() < 0.3)


def _dacl_ace(chance: random.Random) -> str:
    kind = chance.choice(("A", "A", "D", "OA", "OD", "XA", "XD", "ZA"))
    fields = [kind, _flags(chance), rights(chance), *_guids(chance, kind), sid(chance)]
    if kind in ("XA", "XD", "ZA"):
        fields.append(f"({condition(chance, 3)})")
    return f"({';'.join(fields)})"


def _sacl_ace(chance: random.Random) -> str:
    kind = chance.choice(("AU", "AU", "OU", "XU", "RA", "RA", "RA", "ML", "SP", "TL"))
    if kind == "RA":
        return f"(RA;{_flags(chance)};;;;WD;{claim(chance)})"
    if kind == "ML":
        level = chance.choice(("LW", "ME", "MP", "HI", "SI", "S-1-16-0"))
        return f"(ML;{_flags(chance)};{chance.choice(('NW', 'NR', 'NX', 'NWNRNX'))};;;{level})"
    if kind == "SP":
        return f"(SP;{_flags(chance)};;;;S-1-17-{chance.randrange(99)})"
    if kind == "TL":
        return f"(TL;{_flags(chance)};{rights(chance)};;;S-1-19-512-{chance.choice((1024, 8192))})"
    audited = chance.choice(("", "SA", "FA", "SAFA"))
    fields = [kind, _flags(chance) + audited, rights(chance), *_guids(chance, kind), sid(chance)]
    if kind == "XU":
        fields.append(f"({condition(chance, 2)})")
    return f"({';'.join(fields)})"


def _flags(chance: random.Random) -> str:
    return "".join(flag for flag in FLAGS if chance.random() < 0.25)


def _guids(chance: random.Random, kind: str) -> tuple[str, str]:
    if kind in ("OA", "OD", "OU", "ZA"):
        return chance.choice(("", *GUIDS)), chance.choice(("", *GUIDS))
    return "", ""


def sid(chance: random.Random) -> str:
    """An alias, or a SID in full: of any authority, with up to 15 subauthorities."""
    if chance.random() < 0.6:
        return chance.choice(ALIASES)
    authority = chance.choice(("1", "5", "15", "99", "4294967295", "0x100000000", "0x12A05F200"))
    count = chance.choice((1, 2, 3, 5, 15))
    numbers = (chance.choice((0, 1, 21, 544, 2**32 - 1)) for _ in range(count))
    return f"S-1-{authority}-" + "-".join(map(str, numbers))


def rights(chance: random.Random) -> str:
    """A mask: letters, or a number in one of three bases."""
    match chance.randrange(6):
        case 0:
            return chance.choice(("", *COMPOSITES))
        case 1:
            return f"0x{chance.getrandbits(32):x}"
        case 2:
            return f"0x{chance.getrandbits(9):x}"
        case 3:
            return chance.choice((f"{chance.getrandbits(10)}", f"0{chance.getrandbits(10):o}"))
        case _:
            return "".join(chance.sample(PAIRS, chance.randint(1, 4)))


def condition(chance: random.Random, depth: int) -> str:
    """A conditional expression without the parentheses around it; `depth` bounds its nesting."""
    kind = chance.randrange(8) if depth else chance.randrange(4)
    match kind:
        case 0:
            return _attribute(chance)
        case 1:
            return f"{chance.choice(('Exists', 'Not_Exists'))} {_attribute(chance)}"
        case 2:
            groups = ", ".join(f"SID({sid(chance)})" for _ in range(chance.randint(1, 3)))
            return f"{chance.choice(MEMBERS)} {{{groups}}}"
        case 3:
            right = chance.choice((literal(chance), _far_attribute(chance)))
            return f"{_attribute(chance)} {chance.choice(RELATIONS)} {right}"
        case 4:
            return f"!({condition(chance, depth - 1)})"
        case _:
            joint = " && " if kind % 2 else " || "
            return joint.join(
                f"({condition(chance, depth - 1)})" for _ in range(chance.randint(2, 3))
            )


def _attribute(chance: random.Random) -> str:
    return chance.choice((chance.choice(NAMES), _far_attribute(chance)))


def _far_attribute(chance: random.Random) -> str:
    where = chance.choice(("@User.", "@Device.", "@Resource.", "@USER."))
    return where + chance.choice(ESCAPED_NAMES)


def literal(chance: random.Random, *, composite: bool = True) -> str:
    """What an attribute is compared with."""
    match chance.randrange(5 if composite else 4):
        case 0:
            return f'"{chance.choice(STRINGS)}"'
        case 1:
            return f"#{chance.randbytes(chance.randrange(5)).hex()}"
        case 2:
            return f"SID({sid(chance)})"
        case 3:
            return _integer(chance)
        case _:
            parts = (literal(chance, composite=False) for _ in range(chance.randint(0, 3)))
            return "{" + ", ".join(parts) + "}"


def _integer(chance: random.Random) -> str:
    value = chance.choice((0, 1, 8, 255, 2**31, 2**63 - 1))
    sign = chance.choice(("", "", "+", "-"))
    return sign + chance.choice((f"{value}", f"0x{value:x}", f"0{value:o}"))


def claim(chance: random.Random) -> str:
    """A resource attribute, as it stands in an RA ACE."""
    kind = chance.choice(("TI", "TU", "TS", "TD", "TB", "TX"))
    values = [_claim_value(chance, kind) for _ in range(chance.randint(1, 3))]
    flags = chance.choice((0, 1, 2, 0x20, 0x10003F))
    return f'("{chance.choice(ESCAPED_NAMES)}",{kind},0x{flags:x},{",".join(values)})'


def _claim_value(chance: random.Random, kind: str) -> str:
    match kind:
        case "TI":
            return str(chance.choice((0, 7, -8, 2**63 - 1, -(2**63))))
        case "TU":
            return str(chance.choice((0, 7, 2**63, 2**64 - 1)))
        case "TS":
            return f'"{chance.choice(STRINGS)}"'
        case "TD":
            return sid(chance)
        case "TB":
            return chance.choice(("0", "1"))
        case _:
            return chance.randbytes(chance.randint(1, 4)).hex()
