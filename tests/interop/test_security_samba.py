"""Samba's library reads and prints SDDL as we do, but for the differences that are listed here.

Samba is a separate program (`.ci/newer-programs` brings it, with a Python of its own); it is not the
judge where Windows itself has spoken. Each listed difference says who is right, and stands in
docs/formats/security-descriptors.md under the same name. One that is not listed fails, and so
does one that is listed and no longer met.
"""

from __future__ import annotations

import json
import random
import re
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.support.sddl_texts import sddl_text
from windowsfilter.errors import FormatError
from windowsfilter.ntfs.security import Ace, AceType, Acl, SecurityDescriptor
from windowsfilter.ntfs.security.claims import Claim, ClaimType

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs" / "formats" / "security-descriptors.md"
WORKER = REPOSITORY / "tests" / "support" / "samba_sddl.py"
# One that no descriptor here names, so that only texts that say `DA` have SIDs below it.
DOMAIN = "S-1-5-21-4294967295-4294967294-4294967293"
SEED = 20_250_825
GENERATED = 3000

CLAIM_TYPES = {"signed claims without a sign", "truth in claims", "SIDs in claims"}
SLACK = "slack in ACLs"

Answer = dict[str, str]
Ask = Callable[[Iterable[Answer]], list[Answer]]


@pytest.fixture(scope="module")
def samba(program: Callable[[str], str]) -> Ask:
    """`samba(requests)` is its answers: see samba_sddl.py."""
    python = program("samba-python")

    def ask(requests: Iterable[Answer]) -> list[Answer]:
        lines = "".join(json.dumps(request) + "\n" for request in requests)
        done = subprocess.run(
            [python, str(WORKER), DOMAIN], input=lines, capture_output=True, text=True, check=True
        )
        return [json.loads(line) for line in done.stdout.splitlines()]

    return ask


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Something Samba cannot do with a text, which it then refuses as a whole."""

    name: str
    pattern: re.Pattern[str]
    compiling: bool
    printing: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Spelling:
    """Something Samba prints otherwise: our spelling, made into its own."""

    name: str
    pattern: re.Pattern[str]
    theirs: Callable[[re.Match[str]], str]


_HUGE = r"(?:9223372036854775[89]|922337203685477[6-9]|9[3-9]\d{17}|1\d{19})\d*"

REFUSALS = (
    Refusal(
        name="registry rights",
        pattern=re.compile(r"\([A-Z]{1,2};\w*;K[ARWX];"),
        compiling=True,
        printing=False,
    ),
    Refusal(
        name="labels, policies, trust",
        pattern=re.compile(r"\((?:ML|SP|TL|FL);"),
        compiling=True,
        printing=False,
    ),
    Refusal(
        name="NULL DACL",
        pattern=re.compile("NO_ACCESS_CONTROL"),
        compiling=True,
        printing=False,
    ),
    Refusal(
        name="unsigned claims from 2^63",
        pattern=re.compile(rf",TU,[^)]*\b{_HUGE}"),
        compiling=True,
        printing=True,
    ),
    Refusal(
        name="SIDs in claims",
        pattern=re.compile(",TD,"),
        compiling=False,
        printing=True,
    ),
)


AUTHORITY = re.compile(r"S-1-(0x[0-9A-F]+|\d+)")


def _lower_case_authority(found: re.Match[str]) -> str:
    number = int(found[1], 0)
    return f"S-1-{number:#x}" if number >= 2**32 - 1 else found[0]


def _with_plus(found: re.Match[str]) -> str:
    return found[1] + re.sub(",", ",+", found[2])


# It takes the number of a type for bits that each have letters.
TYPES = {"ML": "ALRA", "SP": "AUALRA", "TL": "OARA", "FL": "ALOARA"}
LABEL_RIGHTS = {"NW": "CC", "NR": "DC", "NX": "LC"}


def _letters_of_bits(found: re.Match[str]) -> str:
    kind, flags, rights = found.groups()
    if kind == "ML":
        rights = re.sub("N[WRX]", lambda pair: LABEL_RIGHTS[pair[0]], rights)
    return f"({TYPES[kind]};{flags};{rights};"


REGISTRY_PAIRS = {
    "KA": "CCDCLCSWRPWPSDRCWDWO",
    "KR": "CCSWRPRC",
    "KW": "DCLCRC",
}

SPELLINGS = (
    Spelling(
        name="large authorities",
        pattern=AUTHORITY,
        theirs=_lower_case_authority,
    ),
    Spelling(
        name="registry rights",
        pattern=re.compile(r"(\([A-Z]{1,2};\w*;)(K[ARW])(?=;)"),
        theirs=lambda found: found[1] + REGISTRY_PAIRS[found[2]],
    ),
    Spelling(
        name="signs of unsigned claims",
        pattern=re.compile(r"(,TU,0x\w+)((?:,\d+)+)"),
        theirs=_with_plus,
    ),
    Spelling(
        name="upper-case octets",
        pattern=re.compile(r"(,TX,0x\w+,)([0-9a-f,]*)"),
        theirs=lambda found: found[1] + found[2].upper(),
    ),
    Spelling(
        name="upper-case octets",
        pattern=re.compile(r"(?<=[ {])#[0-9a-f]+"),
        theirs=lambda found: found[0].upper(),
    ),
    Spelling(
        name="labels, policies, trust",
        pattern=re.compile(r"\((ML|SP|TL|FL);(\w*);(\w*);"),
        theirs=_letters_of_bits,
    ),
    Spelling(
        name="NULL DACL",
        pattern=re.compile("D:[PARI]*NO_ACCESS_CONTROL"),
        theirs=lambda found: "",
    ),
)


def as_samba_means(descriptor: SecurityDescriptor, used: set[str]) -> SecurityDescriptor:
    """What Samba makes of the text of a descriptor: the same, but for three types of claims."""
    if descriptor.sacl is None:
        return descriptor.normalised()
    aces = [
        _claim_as_samba_means(ace, used)
        if isinstance(ace, Ace) and ace.type == AceType.RESOURCE_ATTRIBUTE
        else ace
        for ace in descriptor.sacl.aces
    ]
    return replace(descriptor, sacl=Acl.of(aces)).normalised()


def _claim_as_samba_means(ace: Ace, used: set[str]) -> Ace:
    claim = Claim.parse(ace.data)
    match claim.type:
        case ClaimType.INT64 if all(isinstance(n, int) and n >= 0 for n in claim.values):
            used.add("signed claims without a sign")
            data = replace(claim, type=ClaimType.UINT64).build()
        case ClaimType.BOOLEAN:
            used.add("truth in claims")
            data = replace(claim, type=ClaimType.UINT64).build()
        case ClaimType.SID:
            used.add("SIDs in claims")
            texts = tuple(
                AUTHORITY.sub(_lower_case_authority, str(value)).encode() for value in claim.values
            )
            raw = bytearray(replace(claim, type=ClaimType.OCTETS, values=texts).build())
            raw[4] = ClaimType.SID
            data = bytes(raw)
        case _:
            data = claim.build()
    return replace(ace, data=data + bytes(-len(data) % 4))


def compiled_as_expected(text: str, answer: Answer, used: set[str]) -> str | None:
    """None, or how Samba's reading of a text is no listed difference from ours."""
    refused = [r.name for r in REFUSALS if r.compiling and r.pattern.search(text)]
    if "error" in answer:
        used.update(refused)
        return None if refused else f"Samba refuses it: {answer['error']}"
    if refused:
        return f"Samba reads it now, in spite of {refused}"
    ours = SecurityDescriptor.from_sddl(text, domain=DOMAIN)
    theirs = SecurityDescriptor.parse(bytes.fromhex(answer["hex"])).normalised()
    expected = as_samba_means(ours, used)
    if theirs == expected:
        return None
    return f"Samba makes {theirs.build().hex()} of it, not {expected.build().hex()}"


def printed_as_expected(ours: str, answer: Answer, used: set[str]) -> str | None:
    """None, or how what Samba prints is no listed difference from what we print."""
    refused = [r.name for r in REFUSALS if r.printing and r.pattern.search(ours)]
    if "error" in answer:
        used.update(refused)
        return None if refused else f"Samba cannot print it: {answer['error']}"
    if refused:
        return f"Samba prints it now, in spite of {refused}"
    expected = ours
    for spelling in SPELLINGS:
        changed = spelling.pattern.sub(spelling.theirs, expected)
        if changed != expected:
            used.add(spelling.name)
            expected = changed
    return None if answer["sddl"] == expected else f"Samba prints {answer['sddl']}, we {ours}"


# name -> (text, whether we take it, whether Samba does).
STRICTNESS = {
    "blanks": [
        (" O:AA G:WD ", True, False),
        ("D: P AI (A;;GA;;;SY)", True, False),
        ("D:(A;;GA;;;SY) (A;;GA;;;WD)", True, False),
        ("D:(A;;GA;;;S- 1- 5-18)", True, False),
        ("D:(A;;GA;;;SY )", True, False),
        ('S:(RA;;;;;WD;("a" , TS , 0 , "b"))', True, False),
    ],
    "lower case": [
        ("D:(xa;;cc;;;wd;(member_of{sid(ba)}))", True, False),
        ('S:(RA;;;;;WD;("a",ts,0,"b"))', True, False),
    ],
    "odd numbers of digits": [
        ("D:(XA;;CC;;;WD;(@Device.b == #abc))", True, False),
        ('S:(RA;;;;;WD;("a",TX,0,#0a))', True, False),
        ('S:(RA;;;;;WD;("a",TX,0,0))', True, False),
    ],
    "integers from 2^63": [
        ("D:(XA;;CC;;;WD;(@Device.b == 0xffffffffffffffff))", True, False),
    ],
    "needless escapes": [("D:(XA;;CC;;;WD;(@User.%0041 == 1))", True, False)],
    "claims without values": [('S:(RA;;;;;WD;("a",TI,0))', True, False)],
    "newer letters": [("O:HO", True, False), ("D:(A;CR;CR;;;WD)", True, False)],
    "ACEs in the wrong list": [
        ("D:(AU;;CR;;;WD)", False, True),
        ("S:(A;;CR;;;WD)", False, True),
        ('D:(RA;;;;;WD;("a",TS,0,"b"))', False, True),
    ],
    "GUIDs in plain ACEs": [
        ("D:(A;;CR;ab721a53-1e2f-11d0-9819-00aa0040529b;;WD)", False, True),
    ],
}
BOTH_TAKE = """\
S:D:P
D:AIPAR(A;;GA;;;SY)
D:PP(A;;GA;;;SY)
D:(A;;01234567;;;SY)
D:(A;;17;;;SY)
D:AI(A;CI;RP LCLO  RC;;;AU)
D:(A;; CC;;;SY)
D:(A;;FACC;;;WD)
D:(A;;CCCC;;;WD)
D:(A;OIOI;CR;;;WD)
D:(A;;GA;;;S-1-3-0xffffffff-3-4)
D:(OA;;CR;AB721A53-1E2F-11D0-9819-00AA0040529B;;WD)
D:(OA;;CR;;;WD)
G:BAO:BA
O:DAG:LA
D:(XA;;CC;;;WD;(@Device.b == {}))
D:(XA;;CC;;;WD;(@User.a == (1)))
D:(XA;;CC;;;WD;((@User.a) == 1))
D:(XA;;CC;;;WD;(@Device.b == ##1#2#3##))
D:(XA;;CC;;;WD;(Member_of_Any{SID(S-1-1-0)}))
D:(XA;;CC;;;WD;(@User.Title=="PM" && (@User.D=="F" || @User.D =="S")))""".splitlines()
BOTH_REFUSE = """\
x
d:(A;;GA;;;SY)
D :(A;;GA;;;SY)
D:P:S:
D:((A;;GA;;;SY))
D:(A;;GA;;)
D:(A;;GA ;;;SY)
D:(A;;CR;;;)
D:(A;;-1;;;SY)
D:(A;;0x1ffffffff;;;SY)
D:(A;;09;;;SY)
D:(A;XX;CR;;;WD)
D:(A;;GA;;;S-1-5-18 )
O:S-1-
O:XX
O:S-1-281474976710656-1
O:S-1-5-4294967296
O:S-1-5-1-2-3-4-5-6-7-8-9-10-11-12-13-14-15-16
O:BAO:BA
D:(OA;;CR;{ab721a53-1e2f-11d0-9819-00aa0040529b};;WD)
D:(XA;;CC;;;WD)
D:(XA;;CC;;;WD;)
D:(XA;;CC;;;WD;())
D:(XA;;CC;;;WD;(a == a))
D:(XA;;CC;;;WD;(! Member_of{SID(BA)}))
D:(XA;;CC;;;WD;(@User.T == !(@User.T)))
D:(XA;;CC;;;WD;(@Device.b == 0x10000000000000000))
D:(XA;;CC;;;WD;(@Device.b == {{1}}))
D:(XA;;CC;;;WD;(@User.%00 == 1))
D:(XA;;CC;;;WD;(@Token.a == 1))
D:(XA;;CC;;;WD;(Member_of_AnySID(S-1-1-0)))
D:(A;;CC;;;WD;(a))
S:(RA;;;;;WD;("a",TI,0,9223372036854775808))
S:(RA;;;;;WD;("a",TB,0,2))
S:(RA;;;;;WD;("a",TS,0,1))""".splitlines()
NAMES = {
    *(refusal.name for refusal in REFUSALS),
    *(spelling.name for spelling in SPELLINGS),
    *STRICTNESS,
    *CLAIM_TYPES,
    SLACK,
}


def generated() -> list[str]:
    chance = random.Random(SEED)
    return [sddl_text(chance) for _ in range(GENERATED)]


def we_take(text: str) -> bool:
    try:
        SecurityDescriptor.from_sddl(text, domain=DOMAIN)
    except FormatError:
        return False
    return True


def test_texts_that_windows_compiled_mean_the_same_to_samba(samba: Ask, shared: Path) -> None:
    cases = windows_made(shared)
    used: set[str] = set()
    answers = samba({"sddl": text} for text in cases)
    for text, answer in zip(cases, answers, strict=True):
        assert compiled_as_expected(text, answer, used) is None, text
    # Where Samba cannot read a text, Windows has written it: Samba is wrong.
    assert used == {"registry rights"}


def test_descriptors_that_windows_made_are_printed_alike(samba: Ask, shared: Path) -> None:
    made = [SecurityDescriptor.parse(data) for data in windows_made(shared).values()]
    used: set[str] = set()
    as_they_are = samba({"hex": found.build().hex()} for found in made)
    answers = samba({"hex": found.normalised().build().hex()} for found in made)
    for found, raw, answer in zip(made, as_they_are, answers, strict=True):
        # Nothing that it reads is behind the slack, so it takes the end for missing.
        at_end = found.dacl is not None and found.dacl.slack and not (found.owner or found.group)
        assert ("Unread Bytes" in raw.get("error", "")) == bool(at_end), SLACK
        assert raw == answer or at_end
        assert printed_as_expected(found.to_sddl(), answer, used) is None
    assert used == {"signs of unsigned claims", "registry rights"}


def test_generated_texts_mean_the_same(samba: Ask) -> None:
    texts = generated()
    used: set[str] = set()
    for text, answer in zip(texts, samba({"sddl": text} for text in texts), strict=True):
        assert compiled_as_expected(text, answer, used) is None, text
    assert used == {refusal.name for refusal in REFUSALS if refusal.compiling} | CLAIM_TYPES


def test_generated_descriptors_are_printed_alike(samba: Ask) -> None:
    found = [SecurityDescriptor.from_sddl(text).normalised() for text in generated()]
    used: set[str] = set()
    answers = samba({"hex": descriptor.build().hex()} for descriptor in found)
    for descriptor, answer in zip(found, answers, strict=True):
        assert printed_as_expected(descriptor.to_sddl(), answer, used) is None
    listed = {refusal.name for refusal in REFUSALS if refusal.printing}
    assert used == listed | {spelling.name for spelling in SPELLINGS}


def test_spellings_that_both_take_mean_the_same(samba: Ask) -> None:
    used: set[str] = set()
    for text, answer in zip(BOTH_TAKE, samba({"sddl": t} for t in BOTH_TAKE), strict=True):
        assert compiled_as_expected(text, answer, used) is None, text
    assert not used


def test_what_both_refuse(samba: Ask) -> None:
    for text, answer in zip(BOTH_REFUSE, samba({"sddl": t} for t in BOTH_REFUSE), strict=True):
        assert "error" in answer, text
        assert not we_take(text), text


@pytest.mark.parametrize("name", STRICTNESS)
def test_what_only_one_takes(samba: Ask, name: str) -> None:
    cases = STRICTNESS[name]
    for (text, ours, theirs), answer in zip(
        cases, samba({"sddl": text} for text, _, _ in cases), strict=True
    ):
        assert (we_take(text), "hex" in answer) == (ours, theirs), (text, answer)


def test_every_difference_is_in_the_documentation() -> None:
    table = PAGE.read_text().partition("| difference | Samba | right |\n")[2].partition("\n\n")[0]
    rows = [line.split("|")[1].strip() for line in table.splitlines()[1:]]
    assert sorted(rows) == sorted(NAMES)


def windows_made(shared: Path) -> dict[str, bytes]:
    """Text -> what Windows made of it."""
    path = shared / "vectors" / "sddl-windows" / "sddl-to-bytes.json"
    return {
        text: bytes.fromhex(data)
        for cases in json.loads(path.read_text()).values()
        for text, data in cases.items()
    }
