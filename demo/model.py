"""What a container sees after layers are laid on each other: a plain model to compare with.

Deliberately simple and apart from the package's own merging: a dictionary by folded path.
Two rules of Windows: names are equal when they fold equally, and the first spelling stays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from itertools import count

from demo.layertree import Kind, Written
from windowsfilter.ntfs.names import fold


@dataclass(frozen=True, slots=True)
class Seen:
    """One file, directory, symbolic link or stream as a container sees it."""

    kind: Kind
    path: str
    """Spelled as a mount shows it."""
    inode: int
    """The same for all names of one file."""
    size: int
    sha256: str
    target: str


class Model:
    """Everything in a chain of layers, by folded path."""

    def __init__(self) -> None:
        self._entries: dict[str, Seen] = {}
        self._inodes = count()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, path: str) -> bool:
        return _key(path) in self._entries

    def __getitem__(self, path: str) -> Seen:
        return self._entries[_key(path)]

    def of_kind(self, *kinds: Kind) -> list[Seen]:
        """All entries of these kinds, by folded path."""
        return [seen for _, seen in sorted(self._entries.items()) if seen.kind in kinds]

    def links(self) -> dict[int, int]:
        """How many names each inode has."""
        return Counter(s.inode for s in self._entries.values() if s.kind is not Kind.STREAM)

    def below(self, path: str) -> list[Seen]:
        """What is in the directory `path`, at any depth."""
        prefix = f"{_key(path)}/"
        return [seen for key, seen in sorted(self._entries.items()) if key.startswith(prefix)]

    def apply(self, layer: Iterable[Written]) -> None:
        """Lay one layer on top."""
        entries = list(layer)
        spelled = {key: seen.path for key, seen in self._entries.items()}
        deleted = {_key(entry.path) for entry in entries if entry.kind is Kind.WHITEOUT}
        emptied = {_key(entry.path) for entry in entries if entry.kind is Kind.OPAQUE}
        self._remove(deleted, emptied)
        for key in [key for key in spelled if key not in self._entries]:
            del spelled[key]  # what was deleted comes back in its new spelling
        added = [e for e in entries if e.kind not in (Kind.WHITEOUT, Kind.OPAQUE)]
        self._remove({_key(entry.path) for entry in added if self._replaces(entry)})
        for entry in added:
            self._put(entry, spelled)

    def remove(self, path: str) -> None:
        """Remove what is at `path`, with all below it and its streams."""
        self._remove({_key(path)})

    def put(self, entry: Written) -> None:
        """Add or replace one file, directory or link."""
        key = _key(entry.path)
        spelled = {key: self._entries[key].path} if key in self._entries else {}
        if self._replaces(entry):
            self._remove({key})
        self._put(entry, spelled)

    def _replaces(self, entry: Written) -> bool:
        """Whether `entry` ends what is there; a directory over a directory does not."""
        old = self._entries.get(_key(entry.path))
        return old is not None and not old.kind is entry.kind is Kind.DIRECTORY

    def _remove(self, keys: set[str], emptied: Collection[str] = ()) -> None:
        gone = []
        for key in self._entries:
            # Files may have streams, and only directories have something below them.
            owner, colon, _ = key.rpartition(":")
            above = [key[:at] for at, char in enumerate(key) if char == "/"]
            if (
                key in keys
                or (colon and owner in keys)
                or any(folder in keys or folder in emptied for folder in above)
            ):
                gone.append(key)
        for key in gone:
            del self._entries[key]

    def _put(self, entry: Written, spelled: dict[str, str]) -> None:
        key = _key(entry.path)
        if entry.kind is Kind.HARD_LINK:
            path = self._spelling(entry, key, spelled)
            self._entries[key] = replace(self[entry.target], path=path)
            return
        if entry.kind is Kind.DIRECTORY and key in self._entries:
            return
        self._entries[key] = Seen(
            entry.kind,
            self._spelling(entry, key, spelled),
            next(self._inodes),
            entry.size,
            entry.sha256,
            entry.target,
        )

    def _spelling(self, entry: Written, key: str, spelled: dict[str, str]) -> str:
        """The first spelling of a name stays as long as the name does."""
        if key in spelled:
            return spelled[key]
        if entry.kind is Kind.STREAM:
            owner, _, name = entry.path.rpartition(":")
            return f"{self[owner].path}:{name}"
        parent, slash, leaf = entry.path.rpartition("/")
        return f"{self[parent].path}/{leaf}" if slash else leaf


def _key(path: str) -> str:
    return fold(path.encode()).decode("utf-8", "surrogatepass")
