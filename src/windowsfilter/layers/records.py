"""Records: the small JSON files that say what a layer, an image or a hold is.

A record is one JSON object in UTF-8 with sorted keys and a version. Reading is strict (types,
ranges, duplicate keys), except that unknown keys are handed over, so that an older program does not
lose what a newer one of the same version added. Rules: docs/formats/store.md section 1.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NoReturn, Self

from windowsfilter.digests import Digest
from windowsfilter.errors import FormatError

# An image of 500 layers needs about 200 KB; SQLite and JSON are happy far beyond.
MAX_RECORD_BYTES = 16 << 20
MAX_INTEGER = (1 << 63) - 1  # what SQLite holds


def build(version: int, fields: Mapping[str, object], extra: Mapping[str, object]) -> bytes:
    """The record's bytes. Known fields win over `extra`."""
    return dump({**extra, **fields, "version": version})


def dump(members: Mapping[str, object]) -> bytes:
    """A JSON object as records spell it."""
    return (json.dumps(members, sort_keys=True, ensure_ascii=False, indent=1) + "\n").encode()


class Fields:
    """A record being read: every getter takes its key out; what is left at the end is unknown.

    `what` names the record in errors. All getters raise FormatError.
    """

    def __init__(self, members: object, what: str) -> None:
        self.what = what
        if not isinstance(members, dict):
            self.fail("not a JSON object")
        self._members: dict[str, object] = dict(members)

    @classmethod
    def parse(cls, data: bytes, what: str, *, version: int) -> Self:
        """Read the bytes of a record whose version may be at most `version`."""
        fields = cls.parse_unversioned(data, what)
        found = fields.integer("version", minimum=1)
        if found > version:
            fields.fail(f"version {found} was written by a newer windowsfilter, we know {version}")
        return fields

    @classmethod
    def parse_unversioned(cls, data: bytes, what: str) -> Self:
        """Read any JSON object under the rules for records."""
        if len(data) > MAX_RECORD_BYTES:
            raise FormatError(f"{what}: {len(data)} bytes are too many for a record")
        try:
            members = json.loads(
                data.decode(), object_pairs_hook=_unique, parse_constant=_refuse_constant
            )
            # Lone surrogates can be spelled in JSON but neither written back nor stored.
            json.dumps(members, ensure_ascii=False).encode()
        except (ValueError, RecursionError) as error:
            raise FormatError(f"{what}: {error}") from error
        return cls(members, what)

    def fail(self, why: str) -> NoReturn:
        """Refuse the record."""
        raise FormatError(f"{self.what}: {why}")

    def take(self, key: str) -> object:
        """The raw value, None when absent."""
        return self._members.pop(key, None)

    def rest(self) -> dict[str, object]:
        """Every key that nobody took."""
        return dict(self._members)

    def text(self, key: str) -> str:
        value = self.take(key)
        if not isinstance(value, str):
            self.fail(f"{key!r} is not a string")
        return value

    def optional_text(self, key: str) -> str | None:
        return None if self.absent(key) else self.text(key)

    def digest(self, key: str) -> Digest:
        """A checked digest; make a DiffID or ChainID of it as needed."""
        try:
            return Digest(self.text(key))
        except FormatError as error:
            raise FormatError(f"{self.what}: {key!r}: {error}") from error

    def optional_digest(self, key: str) -> Digest | None:
        return None if self.absent(key) else self.digest(key)

    def absent(self, key: str) -> bool:
        """Take a missing or null key out."""
        if self._members.get(key) is None:
            self._members.pop(key, None)
            return True
        return False

    def integer(self, key: str, *, minimum: int = 0) -> int:
        value = self.take(key)
        # bool is an int in Python, not in JSON.
        if not isinstance(value, int) or isinstance(value, bool):
            self.fail(f"{key!r} is not an integer")
        if not minimum <= value <= MAX_INTEGER:
            self.fail(f"{key!r} is {value}, out of range")
        return value

    def optional_integer(self, key: str) -> int | None:
        return None if self.absent(key) else self.integer(key)

    def items(self, key: str) -> list[object]:
        """A list, empty when absent."""
        if self.absent(key):
            return []
        value = self.take(key)
        if not isinstance(value, list):
            self.fail(f"{key!r} is not a list")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of strings, empty when absent."""
        found: list[str] = []
        for value in self.items(key):
            if not isinstance(value, str):
                self.fail(f"{key!r} is not a list of strings")
            found.append(value)
        return tuple(found)

    def mapping(self, key: str) -> dict[str, object]:
        """An object, empty when absent."""
        if self.absent(key):
            return {}
        value = self.take(key)
        if not isinstance(value, dict):
            self.fail(f"{key!r} is not an object")
        return value

    def text_mapping(self, key: str) -> dict[str, str]:
        """An object of strings, empty when absent."""
        found: dict[str, str] = {}
        for name, value in self.mapping(key).items():
            if not isinstance(value, str):
                self.fail(f"{key!r} is not an object of strings")
            found[name] = value
        return found

    def integer_mapping(self, key: str) -> dict[str, int]:
        """An object of integers >= 0, empty when absent."""
        inner = Fields(self.mapping(key), f"{self.what}: {key!r}")
        return {name: inner.integer(name) for name in list(inner.rest())}


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a key is there twice")
    return members


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")
