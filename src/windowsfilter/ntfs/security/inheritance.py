"""What descriptor a new file or directory gets from the directory it is made in.

NTFS computes it once, when the file is made: inheritable ACEs of the parent come down, marked as
inherited; what the creator asks for goes before them; CREATOR OWNER and CREATOR GROUP become who
made the file, and generic rights become the rights of files. An ACE that has to keep its general
form for those below, too, comes down twice: once as it acts here, once inherit-only.

There is no token here: the caller says who owns new files, and which DACL they get when nothing
is inherited. Not in scope: what changing a directory does to the files that are in it already.
Sources: MS-DTYP 2.5.3.4; the Win32 pages on ACE inheritance and on SeAssignSecurityEx; descriptors
of real systems, where those say nothing: docs/formats/security-descriptors.md names each case.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from windowsfilter.ntfs.security.aces import Ace, OpaqueAce
from windowsfilter.ntfs.security.acls import Acl
from windowsfilter.ntfs.security.descriptor import SecurityDescriptor
from windowsfilter.ntfs.security.flags import (
    FILE_ALL_ACCESS,
    FILE_GENERIC_EXECUTE,
    FILE_GENERIC_READ,
    FILE_GENERIC_WRITE,
    AccessRight,
    AceFlag,
    AceType,
    ControlFlag,
)
from windowsfilter.ntfs.sids import ADMINISTRATORS, CREATOR_GROUP, CREATOR_OWNER, SYSTEM, Sid

DEFAULT_DACL = Acl.of(
    Ace(type=AceType.ACCESS_ALLOWED, mask=FILE_ALL_ACCESS, sid=sid)
    for sid in (SYSTEM, ADMINISTRATORS)
)
"""All rights to SYSTEM and to administrators."""

# Plain numbers: arithmetic with enum members takes microseconds each.
_OI = int(AceFlag.OBJECT_INHERIT)
_CI = int(AceFlag.CONTAINER_INHERIT)
_NP = int(AceFlag.NO_PROPAGATE_INHERIT)
_IO = int(AceFlag.INHERIT_ONLY)
_ID = int(AceFlag.INHERITED)
_HOW_INHERITED = _OI | _CI | _NP | _IO | _ID

_GENERIC_RIGHTS = (
    (int(AccessRight.GENERIC_READ), FILE_GENERIC_READ),
    (int(AccessRight.GENERIC_WRITE), FILE_GENERIC_WRITE),
    (int(AccessRight.GENERIC_EXECUTE), FILE_GENERIC_EXECUTE),
    (int(AccessRight.GENERIC_ALL), FILE_ALL_ACCESS),
)
_GENERIC = sum(bit for bit, _ in _GENERIC_RIGHTS)

# Their masks and SIDs grant nothing to anybody: they are values, and come down as they are.
_NO_RIGHTS = frozenset(
    {
        AceType.MANDATORY_LABEL,
        AceType.RESOURCE_ATTRIBUTE,
        AceType.SCOPED_POLICY_ID,
        AceType.PROCESS_TRUST_LABEL,
    }
)
# Inherited even where everything else is kept out.
_PIERCING = frozenset({AceType.RESOURCE_ATTRIBUTE, AceType.SCOPED_POLICY_ID})
# Only here is a second equal ACE known to be left out by Windows.
_MERGED = frozenset(
    {
        AceType.ACCESS_ALLOWED,
        AceType.ACCESS_DENIED,
        AceType.SYSTEM_AUDIT,
        AceType.SYSTEM_ALARM,
    }
)


_PLAIN_TYPES = {
    AceType.ACCESS_ALLOWED_OBJECT: AceType.ACCESS_ALLOWED,
    AceType.ACCESS_DENIED_OBJECT: AceType.ACCESS_DENIED,
    AceType.SYSTEM_AUDIT_OBJECT: AceType.SYSTEM_AUDIT,
    AceType.SYSTEM_ALARM_OBJECT: AceType.SYSTEM_ALARM,
    AceType.ACCESS_ALLOWED_CALLBACK_OBJECT: AceType.ACCESS_ALLOWED_CALLBACK,
    AceType.ACCESS_DENIED_CALLBACK_OBJECT: AceType.ACCESS_DENIED_CALLBACK,
    AceType.SYSTEM_AUDIT_CALLBACK_OBJECT: AceType.SYSTEM_AUDIT_CALLBACK,
    AceType.SYSTEM_ALARM_CALLBACK_OBJECT: AceType.SYSTEM_ALARM_CALLBACK,
}


@dataclass(frozen=True, slots=True)
class _Bits:
    """The control bits that speak of one of the two lists."""

    present: int
    auto_inherited: int
    protected: int


_DACL = _Bits(
    int(ControlFlag.DACL_PRESENT),
    int(ControlFlag.DACL_AUTO_INHERITED),
    int(ControlFlag.DACL_PROTECTED),
)
_SACL = _Bits(
    int(ControlFlag.SACL_PRESENT),
    int(ControlFlag.SACL_AUTO_INHERITED),
    int(ControlFlag.SACL_PROTECTED),
)


def new_descriptor(
    parent: SecurityDescriptor | None,
    *,
    creator: SecurityDescriptor | None = None,
    is_directory: bool,
    owner: Sid,
    group: Sid,
    default_dacl: Acl = DEFAULT_DACL,
) -> SecurityDescriptor:
    """The descriptor of a file or directory made in a directory whose own is `parent`.

    `creator` is what whoever makes it asks for: its owner and group go before `owner` and `group`,
    its ACEs before inherited ones. Those that are marked as inherited it does not ask for, unless
    it is protected: then they stay as its own, and nothing but claims and central policies is
    inherited. A NULL DACL that it asks for stays one. `default_dacl` is for when no DACL is asked
    for and no ACE is inherited.

    The same arguments give the same answer, so it may be kept. Raises FormatError when the
    result exceeds what fits: one ACE may become two, so this can happen below any parent.
    """
    if creator is not None:
        owner = creator.owner or owner
        group = creator.group or group
    child = _Child(is_directory=is_directory, owner=owner, group=group)
    dacl, control = _combined(_DACL, child, parent, creator)
    if not control & _DACL.present:
        dacl = _list(child.asked_for(default_dacl.aces), default_dacl)
    sacl, sacl_control = _combined(_SACL, child, parent, creator)
    if sacl_control & _SACL.present:
        control |= sacl_control
    rm_control = 0
    if creator is not None and creator.control & ControlFlag.RM_CONTROL_VALID:
        control |= int(ControlFlag.RM_CONTROL_VALID)
        rm_control = creator.rm_control
    descriptor = SecurityDescriptor(
        control=control, owner=owner, group=group, dacl=dacl, sacl=sacl, rm_control=rm_control
    )
    descriptor.build()  # it is this that knows what fits
    return descriptor


def inherited_aces(
    acl: Acl, *, is_directory: bool, owner: Sid, group: Sid
) -> tuple[Ace | OpaqueAce, ...]:
    """What the ACEs of a directory's `acl` become in a file or directory made in it."""
    child = _Child(is_directory=is_directory, owner=owner, group=group)
    return tuple(child.inherited(acl.aces))


def _combined(
    bits: _Bits,
    child: _Child,
    parent: SecurityDescriptor | None,
    creator: SecurityDescriptor | None,
) -> tuple[Acl | None, int]:
    """One of the two lists, and its control bits; without PRESENT there is no list."""
    above = _acl(parent, bits)
    inherited = child.inherited(above.aces) if above else []
    control = parent.control & bits.auto_inherited if parent else 0
    if creator is None or not creator.control & bits.present:
        if above is None or not inherited:
            return None, control
        return _list(inherited, above), control | bits.present
    control |= bits.present | creator.control & bits.protected
    asked = _acl(creator, bits)
    if asked is None and bits is _DACL:
        return None, control
    own: list[Ace | OpaqueAce] = []
    for ace in asked.aces if asked else ():
        if not ace.flags & _ID:
            own.append(ace)
        elif creator.control & bits.protected and ace.type not in _PIERCING:
            own.append(replace(ace, flags=ace.flags & ~_ID))
    if creator.control & bits.protected:
        inherited = [ace for ace in inherited if ace.type in _PIERCING]
    return _list((*child.asked_for(own), *inherited), above, asked), control


def _list(aces: Iterable[Ace | OpaqueAce], *sources: Acl | None) -> Acl:
    """A list of ACEs that come from others.

    A revision says which ACE types a reader must know, and of some we do not know what they need.
    """
    acl = Acl.of(aces)
    revisions = [source.revision for source in sources if source]
    return replace(acl, revision=max([acl.revision, *revisions]))


def _acl(descriptor: SecurityDescriptor | None, bits: _Bits) -> Acl | None:
    if descriptor is None:
        return None
    return descriptor.dacl if bits is _DACL else descriptor.sacl


@dataclass(frozen=True, slots=True, kw_only=True)
class _Child:
    """The file or directory that is made, and what becomes of ACEs in it."""

    is_directory: bool
    owner: Sid
    group: Sid

    def asked_for(self, aces: Iterable[Ace | OpaqueAce]) -> Iterator[Ace | OpaqueAce]:
        """What becomes of ACEs that the creator gives it."""
        for ace in aces:
            if ace.flags & _IO or not _is_general(ace):
                yield ace
            elif self.is_directory and ace.flags & (_OI | _CI):
                yield self._resolved(ace, ace.flags & ~_HOW_INHERITED)
                yield replace(ace, flags=ace.flags | _IO)
            else:
                yield self._resolved(ace, ace.flags)

    def inherited(self, aces: Iterable[Ace | OpaqueAce]) -> list[Ace | OpaqueAce]:
        """What becomes of the ACEs of its parent."""
        return _without_repeats([passed for ace in aces for passed in self._passed_down(ace)])

    def _passed_down(self, ace: Ace | OpaqueAce) -> Iterator[Ace | OpaqueAce]:
        """The inherited form of one ACE: none, one, or one for here and one for below.

        What we cannot take apart comes down by its flags, as it is: Windows does so with types it
        does not know, and leaving one out could open what it was to close.
        """
        kept = ace.flags & ~_HOW_INHERITED | _ID
        below = kept | ace.flags & (_OI | _CI)
        passes_on = self.is_directory and ace.flags & (_OI | _CI) and not ace.flags & _NP
        acts = ace.flags & (_CI if self.is_directory else _OI)
        if isinstance(ace, Ace) and ace.inherited_object_type is not None:
            acts = 0  # it waits for an object of that type, and files are of none
        if not acts:
            if passes_on:
                yield replace(ace, flags=below | _IO)
        elif not passes_on:
            yield self._acting(ace, kept)
        elif _is_general(ace):
            yield self._acting(ace, kept)
            yield replace(ace, flags=below | _IO)
        else:
            yield replace(ace, flags=below)

    def _acting(self, ace: Ace | OpaqueAce, flags: int) -> Ace | OpaqueAce:
        """An inherited ACE that acts here and goes no further."""
        if isinstance(ace, Ace) and ace.object_type is None and not ace.object_flags:
            ace = replace(ace, type=_PLAIN_TYPES.get(ace.type, ace.type))
        return self._resolved(ace, flags)

    def _resolved(self, ace: Ace | OpaqueAce, flags: int) -> Ace | OpaqueAce:
        """An ACE in the terms of this file: rights of files, and who it is that made it."""
        if not isinstance(ace, Ace) or not _is_general(ace):
            return replace(ace, flags=flags)
        mask = ace.mask & ~_GENERIC
        for generic, rights in _GENERIC_RIGHTS:
            if ace.mask & generic:
                mask |= rights
        sid = ace.sid
        if sid == CREATOR_OWNER:
            sid = self.owner
        elif sid == CREATOR_GROUP:
            sid = self.group
        return replace(ace, flags=flags, mask=mask, sid=sid)


def _is_general(ace: Ace | OpaqueAce) -> bool:
    """Whether it means something else for each file: generic rights, or whoever made it."""
    if not isinstance(ace, Ace) or ace.type in _NO_RIGHTS:
        return False
    return bool(ace.mask & _GENERIC) or ace.sid == CREATOR_OWNER or ace.sid == CREATOR_GROUP


def _without_repeats(aces: list[Ace | OpaqueAce]) -> list[Ace | OpaqueAce]:
    """Leave out ACEs that act here only and say what another one says.

    They come about when CREATOR OWNER turns into somebody who has the same rights anyway. An equal
    ACE further on counts only if those between are of the same type: before a denial is not
    after it.
    """
    runs: list[int] = []
    lasting: set[tuple[int, object]] = set()
    run, last = 0, -1
    for ace in aces:
        if not ace.flags & _IO and ace.type != last:
            run, last = run + 1, ace.type
        runs.append(run)
        if isinstance(ace, Ace) and ace.flags & (_OI | _CI) and not ace.flags & _IO:
            lasting.add((run, _meaning(ace)))
    result: list[Ace | OpaqueAce] = []
    said: set[object] = set()
    for ace, run in zip(aces, runs, strict=True):
        if isinstance(ace, Ace) and ace.type in _MERGED and not ace.flags & _IO:
            meaning = _meaning(ace)
            acts_only = not ace.flags & (_OI | _CI)
            if acts_only and (meaning in said or (run, meaning) in lasting):
                continue
            said.add(meaning)
        result.append(ace)
    return result


def _meaning(ace: Ace) -> tuple[object, ...]:
    return ace.type, ace.flags & ~_HOW_INHERITED, ace.mask, ace.sid, ace.data
