"""What is known of one entry of a chain: everything its layer says, decoded where it is asked for.

A damaged security descriptor or EA list breaks no listing: it is there as bytes, `problems` says what is
wrong with it, and only asking for its meaning raises.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Any

from windowsfilter.engines.portable import windows_metadata
from windowsfilter.errors import FormatError
from windowsfilter.ntfs.eas import ExtendedAttribute
from windowsfilter.ntfs.reparse import LinkNames, ReparsePoint, tag_name
from windowsfilter.ntfs.security import SecurityDescriptor
from windowsfilter.ntfs.sids import Sid
from windowsfilter.wire.backuptar import records


class EntryType(StrEnum):
    """What a path is."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    JUNCTION = "junction"


_LINKS = (EntryType.SYMLINK, EntryType.JUNCTION)


@dataclass(frozen=True, slots=True)
class Stream:
    """An alternate data stream; `size` in bytes."""

    name: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stat:
    """Everything a layer says of one entry. Times are FILETIME, 100 ns since 1601."""

    path: str
    type: EntryType
    size: int
    attributes: int
    creation_time: int
    last_access_time: int
    last_write_time: int
    change_time: int
    layer: str | None
    """Id of the layer that the entry comes from; None for a directory that no tar has."""
    link_target: str | None
    streams: tuple[Stream, ...]
    hard_links: int
    dangling: bool
    """A hard link without a file: listed, but not readable and not in mounts."""
    security_descriptor: bytes | None
    """As the tar has it, also where it cannot be parsed; of an old textual one, what it compiles to."""
    mode: int
    uid: int
    gid: int
    records: Mapping[bytes, bytes] = field(repr=False)
    """PAX records, raw."""
    link: bytes = field(default=b"", repr=False)
    """Link target, raw."""
    damaged: bool = False
    """Whether some of its Windows metadata cannot be used; `problems` says which."""

    @property
    def pax(self) -> dict[str, str]:
        """PAX records as text; bytes that are not WTF-8 as lone surrogates."""
        return {text(key): text(value) for key, value in self.records.items()}

    @property
    def security(self) -> SecurityDescriptor | None:
        """The security descriptor. Raises FormatError, naming the path, for a damaged one."""
        if self.security_descriptor is None:
            return None
        try:
            return _parsed(self.security_descriptor)
        except FormatError as error:
            raise FormatError(f"security descriptor of {self.path}: {error}") from error

    @property
    def sddl(self) -> str | None:
        """The security descriptor as text, None where there is none.

        Raises FormatError for a damaged one and for what SDDL has no letters for; its bytes are in
        `security_descriptor` all the same.
        """
        descriptor = self.security
        return None if descriptor is None else _text_of(descriptor.build())

    @property
    def owner(self) -> Sid | None:
        """Who owns it; None where that is not said, or not in a way that can be read."""
        return _sid_of(self, "owner")

    @property
    def group(self) -> Sid | None:
        """Its primary group, as `owner`."""
        return _sid_of(self, "group")

    @property
    def extended_attributes(self) -> tuple[ExtendedAttribute, ...]:
        """Its EAs. Raises FormatError, naming the path, for damaged ones."""
        try:
            return records.eas_of(self.records)
        except FormatError as error:
            raise FormatError(f"extended attributes of {self.path}: {error}") from error

    @property
    def reparse_point(self) -> ReparsePoint | None:
        """The reparse point of a link, or of what else has one. Raises FormatError for a damaged one."""
        try:
            return records.reparse_of(self.records, self.link, is_link=self.type in _LINKS)
        except FormatError as error:
            raise FormatError(f"reparse point of {self.path}: {error}") from error

    @property
    def problems(self) -> tuple[str, ...]:
        """What of its Windows metadata cannot be used, and why."""
        if not self.damaged:
            return ()
        return tuple(
            windows_metadata.problems(self.records, self.link, is_link=self.type in _LINKS)
        )

    def to_json(self) -> dict[str, Any]:
        """The fields as the command prints them with `--json`."""
        return {
            "path": self.path,
            "type": self.type.value,
            "size": self.size,
            "attributes": self.attributes,
            "creation_time": self.creation_time,
            "last_access_time": self.last_access_time,
            "last_write_time": self.last_write_time,
            "change_time": self.change_time,
            "layer": self.layer,
            "link_target": self.link_target,
            "streams": [{"name": stream.name, "size": stream.size} for stream in self.streams],
            "hard_links": self.hard_links,
            "dangling": self.dangling,
            **_security_json(self),
            **_extras_json(self),
            "problems": list(self.problems),
            "pax": self.pax,
            "mode": self.mode,
            "uid": self.uid,
            "gid": self.gid,
        }


def text(name: bytes) -> str:
    """For people and JSON; bytes that are not WTF-8 survive as lone surrogates."""
    try:
        return name.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return name.decode("utf-8", "surrogateescape")


@lru_cache(maxsize=1024)
def _parsed(data: bytes) -> SecurityDescriptor:
    """A layer's entries share a few hundred descriptors."""
    return SecurityDescriptor.parse(data)


@lru_cache(maxsize=1024)
def _text_of(data: bytes) -> str:
    return _parsed(data).to_sddl()


def _sid_of(stat: Stat, which: str) -> Sid | None:
    if stat.security_descriptor is None:
        return None
    try:
        descriptor = _parsed(stat.security_descriptor)
    except FormatError:
        return None
    return descriptor.owner if which == "owner" else descriptor.group


def _security_json(stat: Stat) -> dict[str, Any]:
    raw, sddl, reason = stat.security_descriptor, None, None
    try:
        sddl = stat.sddl
    except FormatError as error:  # damaged, or with parts that SDDL has no letters for
        reason = str(error)
    return {
        "owner": None if stat.owner is None else str(stat.owner),
        "group": None if stat.group is None else str(stat.group),
        "sddl": sddl,
        "sddl_missing": reason,
        "security_descriptor": None if raw is None else base64.b64encode(raw).decode(),
    }


def _extras_json(stat: Stat) -> dict[str, Any]:
    """EAs and reparse point; None for those that cannot be used."""
    try:
        eas: list[dict[str, Any]] | None = [
            {
                "name": text(ea.name),
                "flags": ea.flags,
                "value": base64.b64encode(ea.value).decode(),
            }
            for ea in stat.extended_attributes
        ]
    except FormatError:
        eas = None
    try:
        point = stat.reparse_point
    except FormatError:
        point = None
    return {"extended_attributes": eas, "reparse_point": point and _reparse_json(point)}


def _reparse_json(point: ReparsePoint) -> dict[str, Any]:
    found: dict[str, Any] = {
        "tag": point.tag,
        "name": tag_name(point.tag),
        "buffer": base64.b64encode(point.build()).decode(),
    }
    if point.is_link:
        names = LinkNames.parse(point)
        found["substitute_name"] = names.substitute_name
        found["print_name"] = names.print_name
        found["flags"] = names.flags
    return found
