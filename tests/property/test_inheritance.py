"""Whatever a parent directory has, what is inherited can be stored, is marked, and settles."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from windowsfilter.ntfs.security import Ace, AceFlag, AceType, Acl, OpaqueAce, SecurityDescriptor
from windowsfilter.ntfs.security.inheritance import DEFAULT_DACL, inherited_aces, new_descriptor
from windowsfilter.ntfs.sids import (
    ADMINISTRATORS,
    CREATOR_GROUP,
    CREATOR_OWNER,
    EVERYONE,
    OWNER_RIGHTS,
    SYSTEM,
    Sid,
)

A_USER = Sid.from_text("S-1-5-21-1-2-3-1001")


def made(
    parent: SecurityDescriptor | None,
    *,
    is_directory: bool = False,
    creator: SecurityDescriptor | None = None,
) -> SecurityDescriptor:
    return new_descriptor(
        parent, creator=creator, is_directory=is_directory, owner=A_USER, group=SYSTEM
    )


SOME_SIDS = st.sampled_from(
    [CREATOR_OWNER, CREATOR_GROUP, OWNER_RIGHTS, ADMINISTRATORS, SYSTEM, EVERYONE, A_USER]
)
GUIDS = st.none() | st.sampled_from([UUID(int=1), UUID(int=2)])
KNOWN = st.sampled_from([kind for kind in AceType if kind != AceType.ACCESS_ALLOWED_COMPOUND])
MASKS = st.sampled_from([0, 1, 0x1F01FF, 0x10000000, 0xC0000000, 0xFFFFFFFF])
FLAG_BYTES = st.integers(0, 255)


@st.composite
def known_aces(draw: st.DrawFn) -> Ace:
    kind = draw(KNOWN)
    found = Ace(type=kind, flags=draw(FLAG_BYTES), mask=draw(MASKS), sid=draw(SOME_SIDS))
    if "OBJECT" in kind.name:
        return replace(found, object_type=draw(GUIDS), inherited_object_type=draw(GUIDS))
    return found


UNKNOWN_ACES = st.builds(
    OpaqueAce, type=st.sampled_from([4, 0x40, 0xFF]), flags=FLAG_BYTES, body=st.just(bytes(8))
)
ACLS = st.builds(
    Acl,
    revision=st.integers(2, 4),
    aces=st.lists(known_aces() | UNKNOWN_ACES, max_size=8).map(tuple),
)
DESCRIPTORS = st.builds(
    SecurityDescriptor,
    control=st.integers(0, 0xFFFF),
    owner=st.none() | SOME_SIDS,
    group=st.none() | SOME_SIDS,
    dacl=st.none() | ACLS,
    sacl=st.none() | ACLS,
)


@given(DESCRIPTORS, st.none() | DESCRIPTORS, st.booleans())
def test_any_descriptors_make_one_that_can_be_stored(
    parent: SecurityDescriptor, creator: SecurityDescriptor | None, is_directory: bool
) -> None:
    found = made(parent, creator=creator, is_directory=is_directory)
    assert SecurityDescriptor.parse(found.build()) == found
    for above, asked, below in (
        (parent.dacl, creator and creator.dacl, found.dacl),
        (parent.sacl, creator and creator.sacl, found.sacl),
    ):
        sources = [*(above.aces if above else ()), *(asked.aces if asked else ())]
        if below is not None and sources:
            assert len(below.aces) <= 2 * len(sources) + len(DEFAULT_DACL.aces)


@given(ACLS, st.booleans())
def test_what_comes_down_is_marked_and_means_something_here(rules: Acl, is_directory: bool) -> None:
    for below in inherited_aces(rules, is_directory=is_directory, owner=A_USER, group=SYSTEM):
        assert below.flags & AceFlag.INHERITED
        assert not below.flags & AceFlag.NO_PROPAGATE_INHERIT
        if not is_directory:
            assert not below.flags & 0xF
        if below.flags & AceFlag.INHERIT_ONLY:
            assert below.flags & 3
        elif isinstance(below, Ace) and not 0x11 <= below.type <= 0x14:
            assert not below.mask & 0xF0000000
            assert below.sid not in (CREATOR_OWNER, CREATOR_GROUP)


@given(ACLS)
def test_grandchildren_get_what_children_got(rules: Acl) -> None:
    """Below the first generation nothing changes any more, but for what stopped there."""
    who = {"owner": A_USER, "group": SYSTEM}
    first = inherited_aces(rules, is_directory=True, **who)
    second = inherited_aces(Acl.of(first), is_directory=True, **who)
    third = inherited_aces(Acl.of(second), is_directory=True, **who)
    assert second == third
    assert inherited_aces(Acl.of(first), is_directory=False, **who) == inherited_aces(
        Acl.of(second), is_directory=False, **who
    )


@given(DESCRIPTORS, st.booleans())
def test_asking_for_what_one_got_changes_nothing(
    parent: SecurityDescriptor, is_directory: bool
) -> None:
    """So a descriptor can be computed anew for a file that has one already."""
    found = made(parent, is_directory=is_directory)
    if not found.dacl or not any(a.flags & AceFlag.INHERITED for a in found.dacl.aces):
        return  # the default DACL would be asked for, and stay
    again = made(parent, creator=found, is_directory=is_directory)
    assert again == found
