"""The record of a chain's EROFS image, `chains/<key>/manifest.json`, as far as the store reads it.

Chain images are derived: the store only has to know which layers they stand for and which others they
are stacked on, to tell when nothing needs them any more. The engine that makes them adds its own
keys, which are carried in `extra`. Rules: docs/formats/store.md section 8.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from windowsfilter.digests import ChainID
from windowsfilter.errors import FormatError
from windowsfilter.layers import records
from windowsfilter.layers.ids import is_id

VERSION = 1
RECORD_FILE = "manifest.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainRecord:
    """What one folder of `chains/` stands for."""

    key: str
    chain_id: ChainID  # of the layers whose content it shows
    lowers: tuple[str, ...] = ()  # keys of the images it is stacked on, nearest first
    extra: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key in (self.key, *self.lowers):
            if not is_id(key):
                raise FormatError(f"chain image {self.key[:100]!r}: {key[:100]!r} is no key")

    @classmethod
    def parse(cls, data: bytes, what: str = "chain record") -> Self:
        """Read a record. `what` names it in errors: FormatError for anything out of order."""
        fields = records.Fields.parse(data, what, version=VERSION)
        return cls(
            key=fields.text("key"),
            chain_id=ChainID(fields.digest("chain_id")),
            lowers=fields.texts("lowers"),
            extra=fields.rest(),
        )

    def build(self) -> bytes:
        """The record's bytes; `parse` undoes it."""
        known: dict[str, object] = {
            "key": self.key,
            "chain_id": self.chain_id,
            "lowers": self.lowers,
        }
        return records.build(VERSION, known, self.extra)
