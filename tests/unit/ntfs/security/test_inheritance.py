"""What a new file or directory gets from its parent directory.

The worked examples are descriptors of real systems where those are published, else computed by
hand from the rules of MS-DTYP. Text is read and printed by a few lines of this file, so that
they do not lean on the SDDL of the package.
"""

from __future__ import annotations

import re
from dataclasses import replace
from uuid import UUID

import pytest

from windowsfilter.errors import FormatError
from windowsfilter.ntfs.security import Ace, AceFlag, AceType, Acl, OpaqueAce, SecurityDescriptor
from windowsfilter.ntfs.security.flags import ControlFlag
from windowsfilter.ntfs.security.inheritance import (
    DEFAULT_DACL,
    inherited_aces,
    new_descriptor,
)
from windowsfilter.ntfs.sids import Sid

TI = "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464"
RAP = "S-1-15-2-2"
U = "S-1-5-21-1-2-3-1001"
SIDS = {
    "SY": "S-1-5-18",
    "BA": "S-1-5-32-544",
    "BU": "S-1-5-32-545",
    "AU": "S-1-5-11",
    "AN": "S-1-5-7",
    "AC": "S-1-15-2-1",
    "WD": "S-1-1-0",
    "CO": "S-1-3-0",
    "CG": "S-1-3-1",
    "OW": "S-1-3-4",
    "IU": "S-1-5-4",
    "SU": "S-1-5-6",
    "HI": "S-1-16-12288",
    "LW": "S-1-16-4096",
    "TI": TI,
    "RAP": RAP,
    "U": U,
}
TYPES = {"A": 0, "D": 1, "AU": 2, "OA": 5, "XA": 9, "ZA": 0xB, "ML": 0x11, "RA": 0x12, "SP": 0x13}
FLAGS = {"OI": 1, "CI": 2, "NP": 4, "IO": 8, "ID": 0x10, "SA": 0x40, "FA": 0x80}
RIGHTS = {
    "FA": 0x1F01FF,
    "FR": 0x120089,
    "FW": 0x120116,
    "FX": 0x1200A0,
    "GA": 0x10000000,
    "GX": 0x20000000,
    "GW": 0x40000000,
    "GR": 0x80000000,
    "DC": 2,
    "LC": 4,
    "RP": 0x10,
    "CR": 0x100,
    "SD": 0x10000,
    "RC": 0x20000,
    "NW": 1,
}
ACE = re.compile(r"\((\w+);(\w*);(\w*);;;([\w-]+)\)")


def sid(name: str) -> Sid:
    return Sid.from_text(SIDS.get(name, name))


def ace(text: str) -> Ace:
    found = ACE.fullmatch(text)
    assert found, text
    kind, flags, rights, who = found.groups()
    if rights.startswith("0x"):
        mask = int(rights, 16)
    else:
        mask = sum(RIGHTS[pair] for pair in re.findall("..", rights))
    return Ace(
        type=AceType(TYPES[kind]),
        flags=sum(FLAGS[pair] for pair in re.findall("..", flags)),
        mask=mask,
        sid=sid(who),
    )


def acl(text: str) -> Acl:
    return Acl.of(ace(found[0]) for found in ACE.finditer(text))


def descriptor(text: str) -> SecurityDescriptor:
    """`D:` or `S:`, flags, ACEs: one list is enough here."""
    head = re.match(r"([DS]):(P?)(AI)?", text)
    assert head, text
    letter, protected, inherited = head.groups()
    prefix = "DACL" if letter == "D" else "SACL"
    control = 0
    if protected:
        control |= ControlFlag[f"{prefix}_PROTECTED"]
    if inherited:
        control |= ControlFlag[f"{prefix}_AUTO_INHERITED"]
    rules = acl(text[head.end() :])
    if letter == "D":
        return SecurityDescriptor(control=control, dacl=rules)
    return SecurityDescriptor(control=control, sacl=rules)


PROGRAM_DATA = (
    "D:PAI(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICIIO;GA;;;CO)"
    "(A;OICI;0x1200a9;;;BU)(A;CI;DCLCRPCR;;;BU)"
)
# name -> parent, child owner, child file, child directory.
EXAMPLES = {
    "ProgramData, a user": (
        PROGRAM_DATA,
        "U",
        "D:AI(A;ID;FA;;;SY)(A;ID;FA;;;BA)(A;ID;FA;;;U)(A;ID;0x1200a9;;;BU)",
        (
            "D:AI(A;OICIID;FA;;;SY)(A;OICIID;FA;;;BA)(A;ID;FA;;;U)(A;OICIIOID;GA;;;CO)"
            "(A;OICIID;0x1200a9;;;BU)(A;CIID;DCLCRPCR;;;BU)"
        ),
    ),
    "ProgramData, an administrator": (
        PROGRAM_DATA,
        "BA",
        "D:AI(A;ID;FA;;;SY)(A;ID;FA;;;BA)(A;ID;0x1200a9;;;BU)",
        (
            "D:AI(A;OICIID;FA;;;SY)(A;OICIID;FA;;;BA)(A;OICIIOID;GA;;;CO)(A;OICIID;0x1200a9;;;BU)"
            "(A;CIID;DCLCRPCR;;;BU)"
        ),
    ),
    "Windows, SYSTEM": (
        (
            "D:PAI(A;;FA;;;TI)(A;CIIO;GA;;;TI)(A;;0x1301bf;;;SY)(A;OICIIO;GA;;;SY)"
            "(A;;0x1301bf;;;BA)(A;OICIIO;GA;;;BA)(A;;0x1200a9;;;BU)(A;OICIIO;GXGR;;;BU)"
            "(A;OICIIO;GA;;;CO)(A;;0x1200a9;;;AC)(A;OICIIO;GXGR;;;AC)"
            "(A;;0x1200a9;;;RAP)(A;OICIIO;GXGR;;;RAP)"
        ),
        "SY",
        (
            "D:AI(A;ID;FA;;;SY)(A;ID;FA;;;BA)(A;ID;0x1200a9;;;BU)(A;ID;0x1200a9;;;AC)"
            "(A;ID;0x1200a9;;;RAP)"
        ),
        (
            "D:AI(A;ID;FA;;;TI)(A;CIIOID;GA;;;TI)(A;ID;FA;;;SY)(A;OICIIOID;GA;;;SY)(A;ID;FA;;;BA)"
            "(A;OICIIOID;GA;;;BA)(A;ID;0x1200a9;;;BU)(A;OICIIOID;GXGR;;;BU)(A;OICIIOID;GA;;;CO)"
            "(A;ID;0x1200a9;;;AC)(A;OICIIOID;GXGR;;;AC)(A;ID;0x1200a9;;;RAP)"
            "(A;OICIIOID;GXGR;;;RAP)"
        ),
    ),
    "another volume": (
        (
            "D:(A;;FA;;;BA)(A;OICIIO;GA;;;BA)(A;;FA;;;SY)(A;OICIIO;GA;;;SY)(A;;0x1301bf;;;AU)"
            "(A;OICIIO;SDGXGWGR;;;AU)(A;;0x1200a9;;;BU)(A;OICIIO;GXGR;;;BU)"
        ),
        "U",
        "D:(A;ID;FA;;;BA)(A;ID;FA;;;SY)(A;ID;0x1301bf;;;AU)(A;ID;0x1200a9;;;BU)",
        (
            "D:(A;ID;FA;;;BA)(A;OICIIOID;GA;;;BA)(A;ID;FA;;;SY)(A;OICIIOID;GA;;;SY)"
            "(A;ID;0x1301bf;;;AU)(A;OICIIOID;SDGXGWGR;;;AU)(A;ID;0x1200a9;;;BU)"
            "(A;OICIIOID;GXGR;;;BU)"
        ),
    ),
    "Users\\Public, SYSTEM": (
        (
            "D:PAI(A;OICI;FA;;;BA)(A;OICIIO;FA;;;CO)(A;OICI;FA;;;SY)"
            "(A;OICIIO;0x1301ff;;;IU)(A;;0x1200af;;;IU)(A;OICIIO;0x1301ff;;;SU)(A;;0x1200af;;;SU)"
            "(A;OICIIO;0x1301ff;;;S-1-5-3)(A;;0x1200af;;;S-1-5-3)"
        ),
        "SY",
        (
            "D:AI(A;ID;FA;;;BA)(A;ID;FA;;;SY)(A;ID;0x1301ff;;;IU)(A;ID;0x1301ff;;;SU)"
            "(A;ID;0x1301ff;;;S-1-5-3)"
        ),
        (
            "D:AI(A;OICIID;FA;;;BA)(A;OICIIOID;FA;;;CO)(A;OICIID;FA;;;SY)(A;OICIID;0x1301ff;;;IU)"
            "(A;OICIID;0x1301ff;;;SU)(A;OICIID;0x1301ff;;;S-1-5-3)"
        ),
    ),
    "a client's C:\\": (
        (
            "D:PAI(A;OICI;FA;;;BA)(A;OICI;FA;;;SY)(A;OICI;0x1200a9;;;BU)"
            "(A;OICIIO;SDGXGWGR;;;AU)(A;;LC;;;AU)"
        ),
        "U",
        "D:AI(A;ID;FA;;;BA)(A;ID;FA;;;SY)(A;ID;0x1200a9;;;BU)(A;ID;0x1301bf;;;AU)",
        (
            "D:AI(A;OICIID;FA;;;BA)(A;OICIID;FA;;;SY)(A;OICIID;0x1200a9;;;BU)"
            "(A;ID;0x1301bf;;;AU)(A;OICIIOID;SDGXGWGR;;;AU)"
        ),
    ),
    "what BuildKit gives directories": (
        (
            "D:(A;OICI;FA;;;BA)(A;OICI;FA;;;SY)(A;;FA;;;BA)(A;OICIIO;GA;;;CO)"
            "(A;OICI;0x1200a9;;;BU)(A;CI;LC;;;BU)(A;CI;DC;;;BU)"
        ),
        "U",
        "D:(A;ID;FA;;;BA)(A;ID;FA;;;SY)(A;ID;FA;;;U)(A;ID;0x1200a9;;;BU)",
        (
            "D:(A;OICIID;FA;;;BA)(A;OICIID;FA;;;SY)(A;ID;FA;;;U)(A;OICIIOID;GA;;;CO)"
            "(A;OICIID;0x1200a9;;;BU)(A;CIID;LC;;;BU)(A;CIID;DC;;;BU)"
        ),
    ),
    "each flag": (
        (
            "D:(D;OICINP;FW;;;AN)(A;OI;GR;;;AU)(A;CINP;GXGR;;;BU)(A;OICI;FA;;;CG)"
            "(A;OICI;RC;;;OW)(A;IO;FA;;;BA)"
        ),
        "U",
        "D:(D;ID;FW;;;AN)(A;ID;FR;;;AU)(A;ID;FA;;;SY)(A;ID;RC;;;OW)",
        (
            "D:(D;ID;FW;;;AN)(A;OIIOID;GR;;;AU)(A;ID;0x1200a9;;;BU)(A;ID;FA;;;SY)"
            "(A;OICIIOID;FA;;;CG)(A;OICIID;RC;;;OW)"
        ),
    ),
    "a label, and what is audited": (
        "S:(ML;OINPIO;NW;;;HI)(AU;OICISAFA;GW;;;WD)",
        "U",
        "S:(ML;ID;NW;;;HI)(AU;IDSAFA;FW;;;WD)",
        "S:(AU;IDSAFA;FW;;;WD)(AU;OICIIOIDSAFA;GW;;;WD)",
    ),
}


def made(
    parent: SecurityDescriptor | None,
    *,
    is_directory: bool = False,
    owner: str = "U",
    creator: SecurityDescriptor | None = None,
) -> SecurityDescriptor:
    return new_descriptor(
        parent, creator=creator, is_directory=is_directory, owner=sid(owner), group=sid("SY")
    )


def lists(found: SecurityDescriptor) -> tuple[int, Acl | None, Acl | None]:
    """What an example tells: the DACL of one that speaks of a SACL is the default."""
    return found.control, found.dacl, found.sacl


@pytest.mark.parametrize("is_directory", [False, True], ids=["file", "directory"])
@pytest.mark.parametrize(("parent", "owner", "file", "directory"), EXAMPLES.values(), ids=EXAMPLES)
def test_worked_examples(
    parent: str, owner: str, file: str, directory: str, is_directory: bool
) -> None:
    found = made(descriptor(parent), owner=owner, is_directory=is_directory)
    expected = descriptor(directory if is_directory else file)
    if expected.dacl is None:
        expected = replace(expected, dacl=DEFAULT_DACL)
    assert lists(found) == lists(expected)
    assert (found.owner, found.group) == (sid(owner), sid("SY"))


def child_aces(text: str, *, is_directory: bool, owner: str = "U") -> tuple[Ace | OpaqueAce, ...]:
    return inherited_aces(acl(text), is_directory=is_directory, owner=sid(owner), group=sid("SY"))


class TestWhoAndWhichList:
    def test_owner_and_group_are_the_creators_if_it_names_them(self) -> None:
        found = made(None, creator=SecurityDescriptor(owner=sid("BA"), group=sid("BU")))
        assert (found.owner, found.group) == (sid("BA"), sid("BU"))

    def test_creator_owner_becomes_the_owner_that_the_creator_names(self) -> None:
        parent = descriptor("D:(A;OI;FA;;;CO)(A;OI;FR;;;CG)")
        found = made(parent, creator=SecurityDescriptor(owner=sid("BA"), group=sid("BU")))
        assert found.dacl == acl("(A;ID;FA;;;BA)(A;ID;FR;;;BU)")

    def test_nothing_to_inherit_leaves_the_default_with_rights_of_files(self) -> None:
        for parent in (None, descriptor("D:AI(A;;FA;;;BA)"), SecurityDescriptor()):
            found = new_descriptor(
                parent,
                is_directory=False,
                owner=sid("U"),
                group=sid("SY"),
                default_dacl=acl("(A;;GA;;;CO)(A;;GXGR;;;BU)"),
            )
            assert found.dacl == acl("(A;;FA;;;U)(A;;0x1200a9;;;BU)")
            assert found.sacl is None
            assert not found.control & ControlFlag.SACL_PRESENT

    def test_a_null_dacl_above_has_nothing_to_inherit(self) -> None:
        parent = SecurityDescriptor(control=ControlFlag.DACL_PRESENT)
        assert made(parent).dacl == DEFAULT_DACL

    def test_a_null_dacl_that_is_asked_for_stays_one(self) -> None:
        asked = SecurityDescriptor(control=ControlFlag.DACL_PRESENT)
        found = made(descriptor(PROGRAM_DATA), creator=asked)
        assert found.dacl is None
        assert found.control & ControlFlag.DACL_PRESENT

    def test_an_empty_dacl_that_is_asked_for_takes_what_is_inherited(self) -> None:
        found = made(descriptor("D:(A;OI;FA;;;BA)"), creator=descriptor("D:"))
        assert found.dacl == acl("(A;ID;FA;;;BA)")
        assert made(None, creator=descriptor("D:")).dacl == Acl.of(())

    def test_own_aces_go_first_and_those_once_inherited_are_not_asked_for(self) -> None:
        found = made(
            descriptor("D:AI(A;OI;FA;;;BA)"),
            creator=descriptor("D:AI(A;;FR;;;WD)(A;ID;FA;;;SU)"),
        )
        assert found == replace(
            descriptor("D:AI(A;;FR;;;WD)(A;ID;FA;;;BA)"), owner=sid("U"), group=sid("SY")
        )

    def test_a_protected_list_keeps_what_it_has_and_inherits_nothing(self) -> None:
        found = made(
            descriptor("D:AI(A;OI;FA;;;BA)"),
            creator=descriptor("D:PAI(A;;FR;;;WD)(A;ID;FA;;;SU)"),
        )
        assert found.dacl == acl("(A;;FR;;;WD)(A;;FA;;;SU)")
        assert found.control & ControlFlag.DACL_PROTECTED

    def test_protection_above_changes_nothing_below(self) -> None:
        assert lists(made(descriptor("D:PAI(A;OI;FA;;;BA)"))) == lists(
            made(descriptor("D:AI(A;OI;FA;;;BA)"))
        )

    def test_claims_and_central_policies_come_down_into_protected_lists(self) -> None:
        parent = descriptor("S:(RA;OI;;;;WD)(SP;OI;;;;S-1-17-1)(AU;OISA;FA;;;WD)")
        asked = descriptor("S:P(AU;SA;FR;;;WD)(RA;ID;;;;WD)")
        expected = acl("(AU;SA;FR;;;WD)(RA;ID;;;;WD)(SP;ID;;;;S-1-17-1)")
        found = made(parent, creator=asked)
        assert found.sacl == expected
        # Asked for anew, as when a file is moved, they are not there twice.
        assert made(parent, creator=found).sacl == expected

    def test_requests_to_inherit_are_not_kept(self) -> None:
        request = ControlFlag.DACL_AUTO_INHERIT_REQ | ControlFlag.SACL_AUTO_INHERIT_REQ
        asked = replace(descriptor("D:(A;;FA;;;BA)"), control=int(request))
        assert not made(replace(descriptor("D:"), control=int(request)), creator=asked).control & (
            request
        )

    def test_the_byte_of_a_resource_manager_is_kept(self) -> None:
        asked = SecurityDescriptor(control=ControlFlag.RM_CONTROL_VALID, rm_control=7)
        found = made(None, creator=asked)
        assert found.rm_control == 7
        assert found.control & ControlFlag.RM_CONTROL_VALID

    def test_a_list_that_is_not_there_is_not_marked_as_inherited(self) -> None:
        both = int(ControlFlag.DACL_AUTO_INHERITED | ControlFlag.SACL_AUTO_INHERITED)
        parent = replace(descriptor("D:AI(A;OI;FA;;;BA)"), control=both)
        assert made(parent).control & both == ControlFlag.DACL_AUTO_INHERITED


class TestAcesThatAreAskedFor:
    def test_files_keep_flags_that_mean_nothing_there(self) -> None:
        asked = descriptor("D:(A;OICI;GA;;;CO)")
        assert made(None, creator=asked).dacl == acl("(A;OICI;FA;;;U)")

    def test_general_ones_become_two_where_they_are_inheritable(self) -> None:
        asked = descriptor("D:(A;OICI;GA;;;CO)(A;CINP;GR;;;BU)(A;;GX;;;WD)(A;OICI;FA;;;SY)")
        assert made(None, creator=asked, is_directory=True).dacl == acl(
            "(A;;FA;;;U)(A;OICIIO;GA;;;CO)(A;;FR;;;BU)(A;CINPIO;GR;;;BU)(A;;FX;;;WD)(A;OICI;FA;;;SY)"
        )

    def test_files_get_the_one_that_acts(self) -> None:
        asked = descriptor("D:(A;;GA;;;CO)(A;;GW;;;CG)(A;IO;GA;;;CO)")
        assert made(None, creator=asked).dacl == acl("(A;;FA;;;U)(A;;FW;;;SY)(A;IO;GA;;;CO)")


class TestOneAce:
    @pytest.mark.parametrize("flags", ["", "CI", "CIIO", "NP", "IO", "CINPIO"])
    def test_files_get_only_what_is_for_files(self, flags: str) -> None:
        assert child_aces(f"(A;{flags};FA;;;BA)", is_directory=False) == ()

    @pytest.mark.parametrize("flags", ["OI", "OICI", "OINP", "OICINP", "OIIO", "OICINPIO", "OIID"])
    def test_files_get_it_without_flags_for_those_below(self, flags: str) -> None:
        assert child_aces(f"(A;{flags};FA;;;BA)", is_directory=False) == (ace("(A;ID;FA;;;BA)"),)

    @pytest.mark.parametrize(
        ("above", "below"),
        {
            "": None,
            "IO": None,
            "NP": None,
            "OINP": None,
            "OI": "OIIOID",
            "OIIO": "OIIOID",
            "CI": "CIID",
            "CIIO": "CIID",
            "OICI": "OICIID",
            "OICIIOID": "OICIID",
            "CINP": "ID",
            "OICINPIO": "ID",
        }.items(),
    )
    def test_directories_get_it_by_the_flags(self, above: str, below: str | None) -> None:
        expected = () if below is None else (ace(f"(A;{below};FA;;;BA)"),)
        assert child_aces(f"(A;{above};FA;;;BA)", is_directory=True) == expected

    @pytest.mark.parametrize(
        ("mask", "rights"),
        {
            "GR": "0x120089",
            "GW": "0x120116",
            "GX": "0x1200a0",
            "GA": "0x1f01ff",
            "GXGR": "0x1200a9",
            "GRGW": "0x12019f",
            "SDGXGWGR": "0x1301bf",
            "0x43000000": "0x3120116",
        }.items(),
    )
    def test_generic_rights_become_those_of_files(self, mask: str, rights: str) -> None:
        assert child_aces(f"(A;OI;{mask};;;BA)", is_directory=False) == (
            ace(f"(A;ID;{rights};;;BA)"),
        )

    def test_high_flags_are_kept(self) -> None:
        above = replace(ace("(AU;OICISAFA;GA;;;WD)"), flags=0xE3)
        (below,) = inherited_aces(
            Acl.of([above]), is_directory=False, owner=sid("U"), group=sid("SY")
        )
        assert below.flags == 0xF0

    def test_labels_are_values_and_no_rights(self) -> None:
        above = "(ML;OICI;GA;;;LW)"
        assert child_aces(above, is_directory=True) == (ace("(ML;OICIID;GA;;;LW)"),)
        assert child_aces(above, is_directory=False) == (ace("(ML;ID;GA;;;LW)"),)

    def test_conditions_come_down_as_they_are(self) -> None:
        above = replace(ace("(XA;OI;GR;;;CO)"), data=b"artx\xf8\0\0\0")
        assert inherited_aces(
            Acl.of([above]), is_directory=False, owner=sid("U"), group=sid("SY")
        ) == (replace(ace("(XA;ID;FR;;;U)"), data=b"artx\xf8\0\0\0"),)


class TestObjectAces:
    USER_CLASS = UUID("bf967aba-0de6-11d0-a285-00aa003049e2")
    RIGHT = UUID("ab721a53-1e2f-11d0-9819-00aa0040529b")

    def passed(self, above: Ace, *, is_directory: bool) -> tuple[Ace | OpaqueAce, ...]:
        return inherited_aces(
            Acl.of([above]), is_directory=is_directory, owner=sid("U"), group=sid("SY")
        )

    def test_one_for_a_class_only_passes_through(self) -> None:
        above = replace(ace("(OA;OICI;GR;;;CO)"), inherited_object_type=self.USER_CLASS)
        assert self.passed(above, is_directory=False) == ()
        assert self.passed(above, is_directory=True) == (replace(above, flags=0x1B),)
        no_further = replace(above, flags=above.flags | AceFlag.NO_PROPAGATE_INHERIT)
        assert self.passed(no_further, is_directory=True) == ()

    def test_one_for_every_class_acts_and_keeps_what_it_is_about(self) -> None:
        above = replace(ace("(OA;OICI;GR;;;BU)"), object_type=self.RIGHT)
        acting = replace(ace("(OA;ID;FR;;;BU)"), object_type=self.RIGHT)
        assert self.passed(above, is_directory=False) == (acting,)
        assert self.passed(above, is_directory=True) == (acting, replace(above, flags=0x1B))

    def test_one_about_nothing_becomes_a_plain_one_where_it_acts(self) -> None:
        assert self.passed(ace("(OA;OI;GR;;;BU)"), is_directory=False) == (ace("(A;ID;FR;;;BU)"),)
        condition = replace(ace("(ZA;OI;FR;;;BU)"), data=b"artx")
        assert self.passed(condition, is_directory=False) == (
            replace(ace("(XA;ID;FR;;;BU)"), data=b"artx"),
        )

    def test_flags_that_nobody_knows_keep_it_what_it_is(self) -> None:
        above = replace(ace("(OA;OI;FR;;;BU)"), object_flags=4)
        assert self.passed(above, is_directory=False) == (replace(above, flags=0x10),)


class TestUnknownAces:
    """Types that we cannot take apart come down by their flags, body untouched."""

    @pytest.mark.parametrize(
        ("flags", "file", "directory"),
        [
            (0x00, None, None),
            (0x01, 0x10, 0x19),
            (0x02, None, 0x12),
            (0x03, 0x10, 0x13),
            (0x0B, 0x10, 0x13),
            (0x07, 0x10, 0x10),
            (0xE3, 0xF0, 0xF3),
        ],
    )
    def test_by_flags(self, flags: int, file: int | None, directory: int | None) -> None:
        # The compound type, with generic rights in its body, and one that nobody named yet.
        for kind in (4, 0x99):
            above = OpaqueAce(type=kind, flags=flags, body=b"\0\0\0\x10odd body")
            for is_directory, expected in ((False, file), (True, directory)):
                found = inherited_aces(
                    Acl.of([above]), is_directory=is_directory, owner=sid("U"), group=sid("SY")
                )
                if expected is None:
                    assert found == ()
                else:
                    assert found == (replace(above, flags=expected),)

    def test_the_list_keeps_the_revision_that_its_aces_may_need(self) -> None:
        above = Acl(revision=3, aces=(OpaqueAce(type=4, flags=3, body=bytes(8)),))
        found = made(SecurityDescriptor(dacl=above), is_directory=True)
        assert found.dacl is not None
        assert found.dacl.revision == 3
        found = made(SecurityDescriptor(dacl=above), creator=descriptor("D:(A;;FA;;;BA)"))
        assert found.dacl is not None
        assert found.dacl.revision == 3


def test_a_list_with_object_aces_has_the_revision_they_need_whatever_the_parent_says() -> None:
    above = Acl(revision=2, aces=(ace("(OA;OICI;FR;;;BU)"),))
    found = made(SecurityDescriptor(dacl=above), is_directory=True)
    assert found.dacl is not None
    assert found.dacl.revision == 4


class TestRepeats:
    def test_one_that_acts_here_only_is_left_out_if_another_says_the_same(self) -> None:
        # Behind it, before it, and both in a file.
        assert child_aces("(A;OICI;FA;;;BA)(A;OICIIO;GA;;;CO)", is_directory=True, owner="BA") == (
            ace("(A;OICIID;FA;;;BA)"),
            ace("(A;OICIIOID;GA;;;CO)"),
        )
        assert child_aces("(A;OICIIO;GA;;;CO)(A;OICI;FA;;;BA)", is_directory=True, owner="BA") == (
            ace("(A;OICIIOID;GA;;;CO)"),
            ace("(A;OICIID;FA;;;BA)"),
        )
        assert child_aces("(A;OICIIO;GA;;;CO)(A;OICI;FA;;;BA)", is_directory=False, owner="BA") == (
            ace("(A;ID;FA;;;BA)"),
        )

    def test_a_denial_is_not_given_up_for_one_behind_an_allow_ace(self) -> None:
        found = child_aces(
            "(D;OICI;FW;;;CO)(A;OICI;FA;;;WD)(D;OICI;FW;;;BA)", is_directory=True, owner="BA"
        )
        assert found[0] == ace("(D;ID;FW;;;BA)")
        assert found[-1] == ace("(D;OICIID;FW;;;BA)")

    def test_what_differs_in_mask_flags_or_type_stays(self) -> None:
        text = "(A;OI;FA;;;CO)(A;OI;FR;;;BA)(D;OI;FA;;;BA)"
        assert len(child_aces(text, is_directory=False, owner="BA")) == 3
        text = "(AU;OISA;FA;;;CO)(AU;OIFA;FA;;;BA)(AU;OISA;FA;;;BA)"
        assert len(child_aces(text, is_directory=False, owner="BA")) == 2

    def test_what_does_not_act_here_is_not_between(self) -> None:
        found = child_aces(
            "(A;OICIIO;GA;;;CO)(D;OIIO;FW;;;WD)(A;OICI;FA;;;BA)", is_directory=True, owner="BA"
        )
        assert found == tuple(
            ace(text)
            for text in ("(A;OICIIOID;GA;;;CO)", "(D;OIIOID;FW;;;WD)", "(A;OICIID;FA;;;BA)")
        )

    def test_bytes_behind_the_sid_make_a_difference(self) -> None:
        plain = ace("(A;OI;FA;;;BA)")
        rules = Acl.of([plain, replace(plain, data=b"more"), plain])
        found = inherited_aces(rules, is_directory=False, owner=sid("U"), group=sid("SY"))
        assert [getattr(below, "data", None) for below in found] == [b"", b"more"]

    def test_types_with_more_than_mask_and_sid_are_never_merged(self) -> None:
        assert len(child_aces("(XA;OI;FA;;;BA)(XA;OI;FA;;;BA)", is_directory=False)) == 2


class TestBounds:
    def test_a_list_that_no_longer_fits_is_an_error(self) -> None:
        # 2,500 ACEs of 24 bytes fit, twice as many do not.
        general = [
            Ace(type=AceType.ACCESS_ALLOWED, flags=3, mask=0x10000000, sid=Sid(5, (32, number)))
            for number in range(2500)
        ]
        parent = SecurityDescriptor(dacl=Acl.of(general))
        assert len(parent.build()) <= 0x10000
        made(parent)
        with pytest.raises(FormatError, match="bytes"):
            made(parent, is_directory=True)

    def test_lists_that_fit_alone_must_fit_together(self) -> None:
        aces = [
            Ace(type=AceType.SYSTEM_AUDIT, flags=3, mask=number, sid=sid("WD"))
            for number in range(2000)
        ]
        parent = SecurityDescriptor(dacl=Acl.of(aces))
        with pytest.raises(FormatError, match="security descriptor"):
            made(parent, creator=SecurityDescriptor(sacl=Acl.of(aces)))
