"""What a mount shows as the target of a Windows link.

A link whose target is in the view becomes a relative link to it, in the target's own spelling, that
cannot leave the view: it climbs to a common directory and descends by names, never both ways. One
image serves the layer view and the volume view, so climbing ends at the volume's root: `Files`, or
`UtilityVM/Files` for the utility VM's own disk. Every other target is shown as Windows text with
backslashes, which leads nowhere on the host.
Source of the forms of targets: "Naming Files, Paths, and Namespaces"; MS-FSCC 2.1.2.4.
"""

from __future__ import annotations

import re
from typing import Protocol

from windowsfilter.ntfs.names import fold

VERSION = 1
"""Names these rules: part of the key of every image made with them."""

MAX_TARGET = 4095
"""Linux reads no more of a link."""

_MAX_DEPTH = 40  # as many links as Linux follows
_DEVICE_PATH = re.compile(rb"\\(?:\?\?|\\\?)\\")
_DRIVE = re.compile(rb"([A-Za-z]):(?:\\|\Z)")
_SYSTEM_DRIVE = b"C"


class View(Protocol):
    """A merged tree as links see it. Nodes are ints; names are as the mount shows them."""

    def ancestors(self, node: int) -> list[tuple[bytes, int]]:
        """(name, node) of each directory from below the root down to the one that holds `node`."""

    def child(self, node: int, leaf: bytes) -> tuple[bytes, int] | None:
        """(name, node) of the entry called `leaf` in any case, None if there is none."""

    def target(self, node: int) -> bytes | None:
        """The Windows target of a link, None for everything else."""


class Translator:
    """Translates the links of one view; keeps what it resolved on the way."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._resolved: dict[int, int | None] = {}

    def translate(self, node: int, target: bytes) -> bytes:
        """What `readlink` of the link `node` gives on a mount."""
        found = self._find(node, target, 0)
        if found is not None:
            climb, names, _ = found
            relative = b"/".join([b".."] * climb + names) or b"."
            if len(relative) <= MAX_TARGET:
                return relative
        return windows_text(target)

    def _find(self, node: int, target: bytes, depth: int) -> tuple[int, list[bytes], int] | None:
        """(levels to climb, names to descend, node) of a target inside the volume."""
        parsed = parse_target(target)
        above = self._view.ancestors(node)
        level = _volume_level(above)
        if parsed is None or not level:
            return None
        absolute, leaves = parsed
        directory = above[level - 1 :]  # the volume's root first
        path = _normalize([] if absolute else [name for name, _ in directory[1:]], leaves)
        if path is None:
            return None
        spelled, here = self._descend(directory[0][1], path, depth)
        if here is None:
            return None
        common = 0
        for (name, _), other in zip(directory[1:], spelled, strict=False):
            if name != other:
                break
            common += 1
        return len(directory) - 1 - common, spelled[common:], here

    def _descend(self, root: int, path: list[bytes], depth: int) -> tuple[list[bytes], int | None]:
        """The path as spelled and the node at its end; links on the way are followed."""
        spelled: list[bytes] = []
        here: int | None = root
        for leaf in path:
            if spelled:
                here = self._follow(here, depth) if here is not None else None
            found = None if here is None else self._view.child(here, leaf)
            if found is None:
                return spelled, None
            spelled.append(found[0])
            here = found[1]
        return spelled, here

    def _follow(self, node: int, depth: int) -> int | None:
        """The directory that `node` stands for: itself, or where it leads if it is a link."""
        target = self._view.target(node)
        if target is None:
            return node
        if node not in self._resolved:
            self._resolved[node] = None  # a link that needs itself leads nowhere
            found = self._find(node, target, depth + 1) if depth < _MAX_DEPTH else None
            if found is not None:
                self._resolved[node] = self._follow(found[2], depth + 1)
        return self._resolved[node]


def parse_target(target: bytes) -> tuple[bool, list[bytes]] | None:
    r"""(from the volume's root?, components) of a target on the system's volume, else None.

    `C:\x`, `\??\C:\x` and `\x` count from the root, `..\x` does not; shares, other drives, volumes
    by GUID and paths relative to a drive's current directory are elsewhere.
    """
    text = target.replace(b"/", b"\\")
    prefix = _DEVICE_PATH.match(text)
    if prefix:
        text = text[prefix.end() :]
    drive = _DRIVE.match(text)
    if drive:
        if drive[1].upper() != _SYSTEM_DRIVE:
            return None
        text = text[drive.end() :]
    elif prefix or text.startswith(b"\\\\") or b":" in text:
        return None
    absolute = drive is not None or text.startswith(b"\\")
    leaves = [leaf for leaf in text.split(b"\\") if leaf not in (b"", b".")]
    if not absolute and not text:
        return None
    return absolute, leaves


def windows_text(target: bytes) -> bytes:
    r"""The target with backslashes only, never one that Linux could follow.

    A single name (`..` above all) would be a path to Linux too, so it gets `.\` in front.
    """
    text = target.replace(b"/", b"\\").replace(b"\0", b"")
    if b"\\" not in text:
        text = b".\\" + text
    if len(text) > MAX_TARGET:
        text = text[:MAX_TARGET]
        while text[-1] & 0xC0 == 0x80:  # leave no part of a character
            text = text[:-1]
        if text[-1] >= 0xC0:
            text = text[:-1]
    return text


def _volume_level(above: list[tuple[bytes, int]]) -> int:
    """How many directories lead to the volume's root, itself included; 0 if there is none."""
    names = [fold(name) for name, _ in above[:2]]
    if names[:1] == [b"FILES"]:
        return 1
    return 2 if names == [b"UTILITYVM", b"FILES"] else 0


def _normalize(start: list[bytes], leaves: list[bytes]) -> list[bytes] | None:
    """`leaves` seen from `start`, without `..`; None where they climb above the root."""
    path = list(start)
    for leaf in leaves:
        if leaf != b"..":
            path.append(leaf)
        elif path:
            path.pop()
        else:
            return None
    return path
