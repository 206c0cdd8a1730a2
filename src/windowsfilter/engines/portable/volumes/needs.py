"""How large a volume must be: an upper bound for one that is filled once.

Clusters of data, records of the MFT, directory indexes, descriptors. Sources of the figures: the
attribute and index layouts in ntfs-3g's layout.h; B-trees that grow in order leave their nodes half
full.
"""

from __future__ import annotations

from windowsfilter.ntfs.names import MAX_UNITS, utf16_units

CLUSTER = 4096

_RECORD_BYTES = 1024
_NAME_FIXED = 24 + 66 + 8  # attribute header, $FILE_NAME, alignment
_ATTRIBUTE_FIXED = 24 + 64  # attribute header, room for runs
_RESIDENT = 700  # data up to this may stand in the record
_RECORD_ROOM = 800  # what a record holds for certain before others are needed
_INDEX_ENTRY = 16 + 66 + 8
_INDEX_BLOCK = 4096
_DESCRIPTOR_ENTRY = 20 + 16  # header, alignment
_DESCRIPTOR_INDEX = 2 * 2 * (48 + 56)
_DESCRIPTOR_BLOCK = 256 << 10  # $Secure keeps each block of this size twice
_FIRST_RECORDS = 64  # the volume's own files, and room to grow in
_SLACK = 16 << 20
_GRAIN = 1 << 20
_LOG_PART = 8  # log file, bitmap, MFT that grows in steps: one eighth


class Needs:
    """Sums up what a volume needs."""

    def __init__(self) -> None:
        self._clusters = 0
        self._records = _FIRST_RECORDS
        self._attributes = 0
        self._index = 0
        self._descriptors = 0
        self._descriptor_bytes = 0

    def node(self) -> None:
        """A file or directory."""
        self._records += 1

    def directory(self) -> None:
        """The index of a directory, which takes whole blocks."""
        self._index += 2 * _INDEX_BLOCK

    def name(self, name: bytes) -> None:
        """One name of a file, and its place in a directory."""
        size = 2 * utf16_units(name)
        self._index += 2 * (_INDEX_ENTRY + size)
        # A long name leaves little room in the record for anything else.
        self._attribute(_NAME_FIXED + size if size > MAX_UNITS else 0)

    def data(self, size: int) -> None:
        """The data of a file."""
        if size > _RESIDENT // 2:
            self._clusters += -(-size // CLUSTER)
        if size <= _RESIDENT:
            self._attribute(size)

    def stream(self, size: int) -> None:
        """A named stream."""
        self.data(size)
        self._attribute(2 * MAX_UNITS)

    def metadata(self, size: int) -> None:
        """EAs and reparse data of at most that many bytes together."""
        self._clusters += 2 + -(-size // CLUSTER)
        self._attribute(_RECORD_ROOM)

    def descriptor(self, size: int) -> None:
        """One more distinct security descriptor."""
        self._descriptors += 1
        self._descriptor_bytes += size + _DESCRIPTOR_ENTRY

    @property
    def bytes(self) -> int:
        """Of the whole volume."""
        records = self._records + 2 * self._attributes // _RECORD_ROOM
        blocks = 1 + self._descriptor_bytes // (_DESCRIPTOR_BLOCK // 2)
        needed = (
            self._clusters * CLUSTER
            + records * _RECORD_BYTES
            + self._index
            + self._descriptors * _DESCRIPTOR_INDEX
            + blocks * 2 * _DESCRIPTOR_BLOCK
        )
        needed += needed // _LOG_PART + _SLACK
        return -(-needed // _GRAIN) * _GRAIN

    def _attribute(self, size: int) -> None:
        """Bytes that may need a record of their own."""
        self._attributes += size + _ATTRIBUTE_FIXED if size else 0
