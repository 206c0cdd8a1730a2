"""Changing a scratch without a mount: the same upper directory, the same marks, the same diff.

For machines without root or without overlayfs, and for programs that change a few files. Names are
those of Windows: any case, and what Windows would refuse is refused. An upper that is mounted at the
same time must not be edited: the kernel does not look for changes behind its back.
Representation: docs/formats/scratch.md.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from windowsfilter.engines.portable.scratch.below import Below
from windowsfilter.engines.portable.scratch.content import Contents
from windowsfilter.engines.portable.scratch.copyup import UpperWriter
from windowsfilter.engines.portable.scratch.merge import (
    TOP_LEVEL,
    Merged,
    StreamMark,
    check_stream,
    may_delete,
)
from windowsfilter.engines.portable.scratch.set_metadata import MetadataEditor
from windowsfilter.engines.portable.scratch.upper import (
    ScratchRefused,
    UpperDirectory,
    UpperEntry,
    UpperKind,
    open_upper,
    shown,
)
from windowsfilter.engines.portable.scratch.view import ScratchView
from windowsfilter.engines.portable.scratch.walk import identity, upper_files
from windowsfilter.engines.portable.tree import ROOT, Tree
from windowsfilter.errors import AlreadyExists, EntryNotFound, HostError, UsageError
from windowsfilter.layers.durable import delete_tree
from windowsfilter.ntfs.names import check_component, fold, plain_stream
from windowsfilter.wire import whiteouts

STAGING = "staging"
"""Folder beside an upper directory, there while it is edited."""


class ScratchEditor:
    """Edits one scratch; use `editing`. Paths are bytes as in the tar, in any case.

    Every method raises UsageError for what is not there, is there already or is of the wrong kind,
    ScratchRefused for what no layer can hold, HostError for what the machine refuses.
    """

    def __init__(self, tree: Tree, root: UpperDirectory, staging: Path) -> None:
        self._below = Below(tree)
        self._root = root
        self._view = ScratchView(self._below, root)
        self._writer = UpperWriter(self._below, root, staging)
        self._contents = Contents(self._below, root)
        self.metadata = MetadataEditor(self._below, root, self._view, self._writer, self._contents)
        """Security descriptors, attributes and times."""

    # -- asking -------------------------------------------------------------------------------

    def exists(self, path: bytes) -> bool:
        """Whether there is a file, directory or link at the path."""
        return self._view.find(path) is not None

    def listdir(self, path: bytes) -> list[bytes]:
        """The names in a directory, by bytes."""
        names = self._view.names(path)
        if names is None:
            raise _missing("list", path)
        return [name.leaf for name in names]

    def read(self, path: bytes) -> Iterator[bytes]:
        """The data of a file, or of a stream `file:stream`, in pieces."""
        owner, stream = _split_stream(path)
        found = self._find("read", owner)
        if stream:
            found.streams = self._all_marks(found)
            for one in self._contents.streams(found)[0]:
                if fold(one.name) == fold(stream):
                    return self._contents.read_stream(one)
            raise _missing("read", path)
        if self._kind(found) is not UpperKind.FILE:
            raise UsageError(f"read {shown(path)!r}: it is a {self._kind(found).value}")
        return self._read(found)

    # -- changing -----------------------------------------------------------------------------

    def write(self, path: bytes, data: bytes | Iterable[bytes]) -> None:
        """Give a file this data. It keeps its metadata if it is there, else it is made.

        `file:stream` writes a stream, and makes the file if need be, as Windows does.
        """
        pieces: Iterable[bytes] = (data,) if isinstance(data, bytes) else data
        owner, stream = _split_stream(path)
        if stream:
            self._write_stream(owner, stream, pieces)
            return
        found = self._view.find(path)
        if found is None:
            leaf = self._new_leaf(path)
            with self._parent("write", path) as above:
                self._writer.make_file(above, leaf, pieces)
        elif self._kind(found) is not UpperKind.FILE:
            raise UsageError(f"write {shown(path)!r}: it is a {self._kind(found).value}")
        elif found.upper is not None:
            with self._place(found) as place:
                self._writer.overwrite(place, found.upper, pieces)
        else:
            with self._parent("write", path) as above:
                name = self._shown_leaf(path)
                self._writer.make_file(above, name, pieces, origin=found.origin)

    def mkdir(self, path: bytes, *, parents: bool = False, exist_ok: bool = False) -> None:
        """Make a directory, with `parents` also those above it."""
        found = self._view.find(path)
        if found is not None:
            if exist_ok and self._kind(found) is UpperKind.DIRECTORY:
                return
            raise _exists("make directory", path)
        above = path.strip(b"/").rpartition(b"/")[0]
        if parents and above and self._view.find(above) is None:
            self.mkdir(above, parents=True)
        leaf = self._new_leaf(path)
        with self._parent("make directory", path) as directory:
            self._writer.make_directory(directory, leaf)

    def symlink(self, path: bytes, target: bytes) -> None:
        r"""Make a symbolic link to a Windows target: `..\x`, `C:\x`."""
        if self._view.find(path) is not None:
            raise _exists("make link", path)
        leaf = self._new_leaf(path)
        with self._parent("make link", path) as above:
            self._writer.make_symlink(above, leaf, target)

    def link(self, path: bytes, existing: bytes) -> None:
        """Give a file one more name."""
        found = self._find("link", existing)
        if self._kind(found) is not UpperKind.FILE:
            raise UsageError(f"link {shown(existing)!r}: it is a {self._kind(found).value}")
        if self._view.find(path) is not None:
            raise _exists("link", path)
        leaf = self._new_leaf(path)
        with self._parent("link", path) as above:
            place, entry = self._copied_up(existing, found)
            with place:
                self._writer.link(place, entry, above, leaf)

    def remove(self, path: bytes, *, recursive: bool = False) -> None:
        """Delete a file, a link, a stream, or a directory (empty, or all of it)."""
        owner, stream = _split_stream(path)
        if stream:
            self._remove_stream(owner, stream)
            return
        found = self._find("delete", path)
        if not recursive and (found.lower is not None or found.descend) and self.listdir(path):
            raise UsageError(f"delete {shown(path)!r}: the directory is not empty")
        hidden = self._hidden(path)
        if hidden is not None and not may_delete(path.strip(b"/").rpartition(b"/")[0]):
            raise ScratchRefused(path, "was deleted, which a layer cannot say")
        self._save_streams(found)
        if hidden is None:
            self._take_away(found)
            return
        with self._parent("delete", path) as above:
            name = self._below.shown.name(hidden)
            self._take_away(found, but=above.child(name))
            self._writer.whiteout(above, name)  # takes the place of what has this name

    def rename(self, path: bytes, to: bytes, *, replace: bool = False) -> None:
        """Give a file, link or directory another path, metadata and streams with it.

        `replace`: a file in its place goes. A new spelling of the same path is possible.
        """
        found = self._find("rename", path)
        key, goal = fold(path.strip(b"/")), fold(to.strip(b"/"))
        if goal.startswith(key + b"/"):
            raise UsageError(f"rename {shown(path)!r}: {shown(to)!r} is inside of it")
        taken = self._view.find(to) if goal != key else None
        leaf = self._new_leaf(to)
        with self._parent("rename", to):
            pass  # it must be there before anything is touched
        if taken is not None:
            if not replace or self._kind(taken) is UpperKind.DIRECTORY:
                raise _exists("rename", to)
            self.remove(to)
        hidden = self._hidden(path)
        if hidden is not None and not may_delete(path.strip(b"/").rpartition(b"/")[0]):
            raise ScratchRefused(path, "was renamed, which a layer cannot say")
        if self._kind(found) is UpperKind.DIRECTORY:
            self._redirect(path, found)
        place, entry = self._copied_up(path, found)
        with place, self._parent("rename", to) as above:
            if entry.name == leaf and place.path == above.path:
                return
            self._writer.move(place, entry, above, leaf)
            self._move_streams(found, above, leaf)
            if hidden is None:
                return
            with self._parent("rename", path) as old:
                name = self._below.shown.name(hidden)
                if (old.path, name) != (above.path, leaf):
                    self._writer.whiteout(old, name)

    # -- streams ------------------------------------------------------------------------------

    def _write_stream(self, owner: bytes, stream: bytes, pieces: Iterable[bytes]) -> None:
        reason = check_stream(stream)
        if reason is not None:
            raise ScratchRefused(owner + b":" + stream, f"is no stream's name: it {reason}")
        if self._view.find(owner) is None:
            self.write(owner, b"")
        found = self._find("write", owner)
        for mark in self._all_marks(found):
            if fold(mark.name) == fold(stream) and mark.entry is not None:
                with self._root.reopen(mark.directory) as place:
                    self._writer.overwrite(place, mark.entry, pieces)
                return
        with self._beside(owner, found) as (place, leaf):
            self._writer.make_file(place, leaf + b":" + self._stream_name(found, stream), pieces)

    def _remove_stream(self, owner: bytes, stream: bytes) -> None:
        found = self._find("delete", owner)
        found.streams = self._all_marks(found)
        have = {fold(one.name): one for one in self._contents.streams(found)[0]}
        if fold(stream) not in have:
            raise _missing("delete", owner + b":" + stream)
        of_origin = set()
        if found.origin is not None:
            of_origin = {fold(name) for name in self._below.tree.streams(found.origin)}
        if fold(stream) in of_origin and self._kind(found) is UpperKind.DIRECTORY:
            raise ScratchRefused(
                owner, "lost a stream that it has in the chain, which a layer cannot say"
            )
        for mark in found.streams:
            if fold(mark.name) == fold(stream) and mark.entry is not None:
                with self._root.reopen(mark.directory) as place:
                    self._writer.drop(place, mark.entry)
        if fold(stream) in of_origin:
            with self._beside(owner, found) as (place, leaf):
                self._writer.whiteout(place, leaf + b":" + self._stream_name(found, stream))

    def _all_marks(self, found: Merged) -> list[StreamMark]:
        """What the upper says of a file's streams, beside whichever of its names."""
        marks = list(found.streams)
        for name in self._other_names(found):
            marks += name.streams
        return marks

    def _other_names(self, found: Merged) -> Iterator[Merged]:
        """The other names that a file of the upper has there."""
        entry = found.upper
        if entry is None or entry.kind is not UpperKind.FILE or entry.stat.st_nlink == 1:
            return
        assert found.place is not None
        own = (found.place.path, entry.name)
        for name in upper_files(self._below, self._root):
            assert name.upper is not None and name.place is not None
            if (
                identity(name.upper) == identity(entry)
                and (name.place.path, name.upper.name) != own
            ):
                yield name

    def _save_streams(self, found: Merged) -> None:
        """What is about to go may hold streams of files that stay under other names."""
        if found.upper is not None and found.upper.kind is UpperKind.FILE:
            other = next(self._other_names(found), None)
            if other is not None:
                self._give_streams(found, other)
                found.streams = []
            return
        below = tuple(place.child(entry.name) + b"/" for place, entry, _ in found.descend)
        inside: list[Merged] = []
        heirs: dict[tuple[int, int], Merged] = {}
        for name in upper_files(self._below, self._root) if below else ():
            assert name.upper is not None and name.place is not None
            if name.upper.stat.st_nlink > 1:
                if name.place.child(name.upper.name).startswith(below):
                    inside.append(name)
                else:
                    heirs[identity(name.upper)] = name
        for name in inside:
            heir = None if name.upper is None else heirs.get(identity(name.upper))
            if heir is not None:
                self._give_streams(name, heir)

    def _give_streams(self, found: Merged, heir: Merged) -> None:
        assert heir.place is not None and heir.upper is not None
        with self._root.reopen(heir.place.path) as place:
            self._move_streams(found, place, heir.upper.name)

    def _stream_name(self, found: Merged, stream: bytes) -> bytes:
        """The stream's name in the spelling it has, so that no second one comes beside it."""
        for mark in found.streams:
            if fold(mark.name) == fold(stream):
                return mark.name
        return stream

    def _move_streams(self, found: Merged, above: UpperDirectory, leaf: bytes) -> None:
        """What the upper says of a file's streams goes where the file goes."""
        for place, entry, mark in self._mark_entries(found):
            self._writer.move(place, entry, above, leaf + b":" + mark.name)

    def _mark_entries(
        self, found: Merged
    ) -> Iterator[tuple[UpperDirectory, UpperEntry, StreamMark]]:
        """The upper's entries for the streams beside a name; they may be moved or dropped."""
        for mark in found.streams:
            with self._root.reopen(mark.directory) as place:
                for entry in place.entries():
                    owner, _, name = entry.name.partition(b":")
                    if fold(plain_stream(name)) == fold(mark.name) and fold(owner) == found.key:
                        yield place, entry, mark

    @contextmanager
    def _beside(self, path: bytes, found: Merged) -> Iterator[tuple[UpperDirectory, bytes]]:
        """Where streams of a file are written: the directory, and the file's name in it."""
        if found.upper is not None:
            with self._place(found) as place:
                yield place, found.upper.name
        else:
            with self._parent("write", path) as above:
                yield above, self._shown_leaf(path)

    # -- steps --------------------------------------------------------------------------------

    def _find(self, operation: str, path: bytes) -> Merged:
        found = self._view.find(path)
        if found is None:
            raise _missing(operation, path)
        return found

    def _kind(self, found: Merged) -> UpperKind:
        if found.upper is not None:
            return found.upper.kind
        if found.origin is None or found.lower is not None:
            return UpperKind.DIRECTORY
        return self._below.kind(found.origin)

    def _new_leaf(self, path: bytes) -> bytes:
        """The last name of a path that is to be made, if Windows can hold it."""
        above, _, leaf = path.strip(b"/").rpartition(b"/")
        reason = check_component(leaf)
        if reason is not None:
            raise ScratchRefused(path, f"is no name to Windows: it {reason}")
        if leaf.startswith(whiteouts.PREFIX):
            raise ScratchRefused(path, "would be a whiteout in a layer")
        if not above and fold(leaf) not in TOP_LEVEL:
            raise ScratchRefused(path, "is outside of Files, Hives and UtilityVM")
        return leaf

    @contextmanager
    def _parent(self, operation: str, path: bytes) -> Iterator[UpperDirectory]:
        """The upper's directory above a path, copied up if need be."""
        above = path.strip(b"/").rpartition(b"/")[0]
        trail = self._view.trail(above)
        if trail is None or (trail and self._kind(trail[-1]) is not UpperKind.DIRECTORY):
            raise EntryNotFound(f"{operation} {shown(path)!r}: there is no such directory")
        with self._writer.directory(trail) as directory:
            yield directory

    @contextmanager
    def _place(self, found: Merged) -> Iterator[UpperDirectory]:
        assert found.place is not None
        with self._root.reopen(found.place.path) as place:
            yield place

    def _lower_of_parent(self, path: bytes) -> int | None:
        trail = self._view.trail(path.strip(b"/").rpartition(b"/")[0])
        if trail is None:
            return None
        return trail[-1].lower if trail else ROOT

    def _hidden(self, path: bytes) -> int | None:
        """The chain's entry that would show at a path if the upper had nothing there."""
        lower = self._lower_of_parent(path)
        slot = self._below.kid(lower, fold(path.strip(b"/").rpartition(b"/")[2]))
        if slot is None:
            return None
        above = path.strip(b"/").rpartition(b"/")[0]
        trail = self._view.trail(above) or []
        if trail and trail[-1].upper is None and not trail[-1].descend:
            return slot  # nothing of it is in the upper
        with self._writer.directory(trail) as directory:
            entry = directory.entry(self._below.shown.name(slot))
        return None if entry is not None and entry.kind is UpperKind.WHITEOUT else slot

    def _shown_leaf(self, path: bytes) -> bytes:
        """How a mount shows the chain's entry that is at a path."""
        slot = self._below.kid(
            self._lower_of_parent(path), fold(path.strip(b"/").rpartition(b"/")[2])
        )
        assert slot is not None
        return self._below.shown.name(slot)

    def _read(self, found: Merged) -> Iterator[bytes]:
        if found.upper is None:
            assert found.origin is not None
            ref = self._below.tree.ref(found.origin)
            assert ref is not None
            yield from self._contents.read_base(ref)
        else:
            with self._place(found) as place:
                yield from self._contents.read_upper(place, found.upper)

    def _copied_up(self, path: bytes, found: Merged) -> tuple[UpperDirectory, UpperEntry]:
        """The upper's own entry of what is at a path, made if it is not there. Close the first."""
        if found.upper is not None:
            assert found.place is not None
            return self._root.reopen(found.place.path), found.upper
        name = self._shown_leaf(path)
        kind = self._kind(found)
        if kind is UpperKind.DIRECTORY:
            with self._writer.directory(self._view.trail(path) or []):
                pass
        with self._parent("copy up", path) as above:
            if kind is UpperKind.FILE:
                self._writer.make_file(
                    above, name, self._read(found), origin=found.origin, same=True
                )
            elif kind is UpperKind.SYMLINK:
                assert found.origin is not None
                target = self._below.shown.readlink(found.origin)
                self._writer.make_symlink(above, name, target, origin=found.origin)
            entry = above.entry(name)
            if entry is None:
                raise HostError(errno.ESTALE, f"scratch: {shown(path)!r} changed meanwhile")
            return self._root.reopen(above.path), entry

    def _redirect(self, path: bytes, found: Merged) -> None:
        """Mark a directory before it moves, so that what shows through it goes with it."""
        if any(not exact for _, _, exact in found.descend):
            raise UsageError(
                f"rename {shown(path)!r}: the scratch has it in two spellings, "
                f"as {shown(found.leaf)!r} and "
                f"{shown(next(entry.name for _, entry, exact in found.descend if not exact))!r}"
            )
        place, entry = self._copied_up(path, found)
        with place:
            if found.lower is None:
                self._writer.make_opaque(place, entry)
            else:
                self._writer.redirect(place, entry, self._shown_path(found.lower))

    def _shown_path(self, slot: int) -> bytes:
        shown_tree = self._below.shown
        leaves = [name for name, _ in shown_tree.ancestors(slot)]
        return b"/".join([*leaves, shown_tree.name(slot)])

    def _take_away(self, found: Merged, *, but: bytes | None = None) -> None:
        """Drop all that the upper has of a name, its streams too; `but` one path of the upper."""
        entries = [(place.path, entry) for place, entry, _ in found.descend]
        if found.upper is not None and found.upper.kind is not UpperKind.DIRECTORY:
            assert found.place is not None
            entries.append((found.place.path, found.upper))
        for path, entry in entries:
            with self._root.reopen(path) as place:
                if place.child(entry.name) != but:
                    self._writer.drop(place, entry)
        for place, entry, _ in self._mark_entries(found):
            self._writer.drop(place, entry)


@contextmanager
def editing(tree: Tree, upper: Path) -> Iterator[ScratchEditor]:
    """An editor of the scratch with this upper directory, over the chain of `tree`.

    The folder that `upper` is in must be on the same file system and writable: what is being
    written stands there first, in the folder STAGING. One editor at a time; to change anything,
    the scratch must not be mounted.
    """
    with open_upper(upper) as root:
        staging = upper.parent / STAGING
        delete_tree(staging)  # of an editor that was interrupted
        staging.mkdir(mode=0o700)
        try:
            yield ScratchEditor(tree, root, staging)
        finally:
            delete_tree(staging)


def _split_stream(path: bytes) -> tuple[bytes, bytes]:
    """Path of the file and name of the stream, empty for the file itself."""
    above, slash, leaf = path.rpartition(b"/")
    owner, colon, stream = leaf.partition(b":")
    if not colon:
        return path, b""
    stream = plain_stream(stream)
    return above + slash + owner, b"" if stream == b"$DATA" or not stream else stream


def _missing(operation: str, path: bytes) -> EntryNotFound:
    return EntryNotFound(f"{operation} {shown(path)!r}: the scratch has no such entry")


def _exists(operation: str, path: bytes) -> AlreadyExists:
    return AlreadyExists(f"{operation} {shown(path)!r}: the name is taken")
