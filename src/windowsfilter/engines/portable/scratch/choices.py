"""What a request to change metadata comes to for one entry: by the rules of NTFS, or refused by name."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from windowsfilter.engines.portable.scratch.changed_records import NEW_GROUP, NEW_OWNER
from windowsfilter.engines.portable.scratch.metadata import Metadata
from windowsfilter.engines.portable.scratch.set_metadata import Choice, Setting, Subject
from windowsfilter.engines.portable.scratch.upper import ScratchRefused
from windowsfilter.errors import FormatError, UsageError
from windowsfilter.ntfs.attributes import FileAttribute, why_not_settable
from windowsfilter.ntfs.basic_info import BasicInfo
from windowsfilter.ntfs.security import SecurityDescriptor
from windowsfilter.ntfs.security.inheritance import new_descriptor
from windowsfilter.ntfs.sids import Sid, alias_sid

_NORMAL = int(FileAttribute.NORMAL)


def security(
    descriptor: SecurityDescriptor | None = None,
    *,
    inherited: bool = False,
    owner: Sid | None = None,
    group: Sid | None = None,
) -> Choice:
    """Set a whole descriptor, or what the entry would inherit, or change the one it has.

    `owner` and `group` take the place of those that the descriptor has otherwise.
    """

    def choose(subject: Subject) -> Setting | None:
        after = descriptor
        if inherited:
            after = _inherited(subject)
        elif descriptor is None:
            after = descriptor_of(subject)
        if owner is not None or group is not None:
            if after is None:
                raise UsageError(
                    f"scratch: {subject.shown!r} has no security descriptor whose owner or group "
                    "could be changed; set a whole one"
                )
            after = replace(after, owner=owner or after.owner, group=group or after.group)
        wanted = b"" if after is None else after.build()
        try:
            if wanted == (subject.metadata.descriptor() or b""):
                return None
        except FormatError:  # a damaged one is replaced
            pass
        return Setting(descriptor=wanted)

    return choose


def attributes(add: int = 0, remove: int = 0) -> Choice:
    """Set and clear attributes. Raises UsageError for those that nobody can set."""
    reason = why_not_settable(add | remove)
    if reason is not None:
        raise UsageError(f"attributes: {reason}")
    if add & remove:
        raise UsageError("attributes: the same one cannot be set and cleared")

    def choose(subject: Subject) -> Setting | None:
        if add & FileAttribute.TEMPORARY and subject.is_directory:
            raise ScratchRefused(subject.path, "is a directory, which cannot be temporary")
        before = subject.metadata.attributes()
        after = (before | add) & ~remove
        if after == before:
            return None
        # NORMAL means that there is no other; 0 would mean "leave them" to Windows.
        return Setting(attributes=after & ~_NORMAL or _NORMAL)

    return choose


def times(
    creation: int | None = None,
    access: int | None = None,
    write: int | None = None,
    change: int | None = None,
) -> Choice:
    """Set times, FILETIME each. One that is not given stays, but for the change time: that is now."""
    for time in (creation, access, write, change):
        if time is not None and not 0 < time < 1 << 63:
            raise UsageError(f"times: {time} is no FILETIME that a file can have")

    def choose(subject: Subject) -> Setting | None:
        now = basic_info(subject.metadata)
        wanted = BasicInfo(
            creation=now.creation if creation is None else creation,
            access=now.access if access is None else access,
            write=now.write if write is None else write,
            change=now.change if change is None else change,
            attributes=now.attributes,
        )
        if wanted == now:
            return None
        return Setting(creation=creation, access=access, write=write, change=change)

    return choose


def basic_info(metadata: Metadata) -> BasicInfo:
    """Times and attributes as one value."""
    return BasicInfo(
        creation=metadata.creation(),
        access=metadata.access,
        write=metadata.write,
        change=metadata.change,
        attributes=metadata.attributes(),
    )


def parse_descriptor(
    given: SecurityDescriptor | str | None, domain: Sid | str | None = None
) -> SecurityDescriptor | None:
    """The descriptor of an SDDL text. Raises UsageError for what is none."""
    if not isinstance(given, str):
        return given
    try:
        return SecurityDescriptor.from_sddl(given, domain=_sid(domain, None))
    except FormatError as error:
        raise UsageError(f"SDDL {given[:200]!r}: {error}") from error


def parse_sid(given: Sid | str | None, domain: Sid | str | None = None) -> Sid | None:
    """The SID of a text, `S-1-5-18` or an alias like `SY`. Raises UsageError for what is none."""
    try:
        return _sid(given, _sid(domain, None))
    except FormatError as error:
        raise UsageError(f"SID {given!r}: {error}") from error


def _sid(given: Sid | str | None, domain: Sid | None) -> Sid | None:
    if not isinstance(given, str):
        return given
    return alias_sid(given, domain=domain) or Sid.from_text(given)


def descriptor_of(subject: Subject) -> SecurityDescriptor | None:
    """The descriptor that an entry has now. Raises ScratchRefused, naming it, for a damaged one."""
    return _descriptor(subject.path, subject.metadata)


def _descriptor(path: bytes, metadata: Metadata) -> SecurityDescriptor | None:
    try:
        data = metadata.descriptor()
    except FormatError as error:
        raise ScratchRefused(path, f"has a descriptor that cannot be used: {error}") from error
    return None if data is None else SecurityDescriptor.parse(data)


def _inherited(subject: Subject) -> SecurityDescriptor | None:
    """What NTFS would give the entry if it were made now; who owns it stays."""
    before = None
    with suppress(ScratchRefused):  # of a damaged one nothing can stay
        before = descriptor_of(subject)
    parent = _descriptor(subject.path.rpartition(b"/")[0], subject.parent)
    if parent is None:
        return None
    try:
        return new_descriptor(
            parent,
            is_directory=subject.is_directory,
            owner=(before and before.owner) or NEW_OWNER,
            group=(before and before.group) or NEW_GROUP,
        )
    except FormatError as error:
        reason = f"would inherit a descriptor that cannot be: {error}"
        raise ScratchRefused(subject.path, reason) from error
