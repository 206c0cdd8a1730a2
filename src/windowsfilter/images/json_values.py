"""JSON from outside, read strictly: bounded size and depth, no key twice, Go's letter case.

Every producer of images uses Go's encoding/json, which accepts object keys in any letter case
(`rootfS`), so documents in the field have them. Go also lets a key appear twice, merging or
overwriting; two readers would then see two images, so that is refused here.
Source: encoding/json, decode.go and fold.go.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NoReturn, TypeVar

import msgspec

from windowsfilter.digests import Digest
from windowsfilter.errors import FormatError, LimitExceeded

MAX_DEPTH = 64  # real configs nest five deep
MAX_SIZE = (1 << 63) - 1  # Go's int64

_T = TypeVar("_T")

# The two letters outside ASCII that Go's folding counts as ASCII ones: long s and the Kelvin sign.
_GO_FOLDS = {0x17F: "s", 0x212A: "k"}


def decode(data: bytes, *, what: str, limit: int) -> Any:
    """The value of a JSON document of at most `limit` bytes; FormatError names `what`."""
    if len(data) > limit:
        raise LimitExceeded(f"{what} is {len(data)} bytes long, the limit is {limit}")
    try:
        value = json.loads(
            data.decode(), object_pairs_hook=_object, parse_constant=_refuse_constant
        )
    except UnicodeDecodeError as error:
        raise FormatError(f"{what} is not UTF-8", offset=error.start) from error
    except json.JSONDecodeError as error:
        # In bytes, as every other offset here.
        offset = len(error.doc[: error.pos].encode())
        raise FormatError(f"{what} is not JSON: {error.msg}", offset=offset) from error
    except RecursionError:
        # How deep the parser itself gets depends on the version of Python.
        raise FormatError(f"{what} is nested more than {MAX_DEPTH} deep") from None
    except ValueError as error:  # a key twice, NaN, a number of thousands of digits
        raise FormatError(f"{what}: {error}") from error
    _check_depth(value, what)
    return value


def fold(key: str) -> str:
    """`key` as Go compares it with the (ASCII) names of fields."""
    return key.translate(_GO_FOLDS).lower()


def fields(value: object, names: Mapping[str, str], what: str) -> dict[str, Any]:
    """The members of the object `value` that `names` (folded name → attribute) knows.

    Null counts as absent, as in Go. FormatError if `value` is no object, or if two keys differ
    only in case.
    """
    if not isinstance(value, dict):
        raise FormatError(f"{what} is not a JSON object")
    found: dict[str, Any] = {}
    spelled: dict[str, str] = {}
    for key, member in value.items():
        attribute = names.get(fold(key))
        if attribute is None:
            continue
        if attribute in spelled:
            raise FormatError(f"{what} has both {spelled[attribute]!r} and {key!r}")
        spelled[attribute] = key
        if member is not None:
            found[attribute] = member
    return found


def convert(value: object, kind: type[_T], what: str) -> _T:
    """`value` as `kind`, types checked strictly; FormatError says where it is not."""
    try:
        return msgspec.convert(value, kind, dec_hook=_custom)
    except msgspec.ValidationError as error:
        raise FormatError(f"{what}: {error}") from error


def encode(value: object) -> bytes:
    """Compact JSON, keys in the order given, as Go writes it."""
    return msgspec.json.encode(value, enc_hook=str)  # digests are a kind of str


def _custom(kind: type, value: object) -> object:
    if issubclass(kind, Digest):
        if not isinstance(value, str):
            raise FormatError(f"Expected a digest, got {type(value).__name__}")
        return kind(value)
    raise NotImplementedError(f"no JSON form of {kind}")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"key {key[:100]!r} appears twice in one object")
            seen.add(key)
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _check_depth(value: object, what: str) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        deeper: list[object] = []
        for member in level:
            if isinstance(member, dict):
                deeper.extend(m for m in member.values() if isinstance(m, (dict, list)))
            elif isinstance(member, list):
                deeper.extend(m for m in member if isinstance(m, (dict, list)))
        if not deeper:
            return
        level = deeper
    raise FormatError(f"{what} is nested more than {MAX_DEPTH} deep")
