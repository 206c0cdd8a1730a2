"""Names as mounts show them: what Linux cannot hold gets an alias.

NTFS takes 255 UTF-16 units, up to 765 bytes of UTF-8; Linux file systems take 255 bytes. A longer
name is shown as `PREFIX~<hash>`: its first characters, and 32 hex digits of SHA-256 over the folded
name, so that spellings of one name have one alias. The API, the index and tars keep the real name.
Within a directory aliases never collide: `shown_names` gives the later of two another hash.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping

from windowsfilter.ntfs.names import fold

VERSION = 1
"""Names these rules: part of the key of every image made with them."""

MAX_BYTES = 255
_PREFIX_CHARACTERS = 48  # at most 192 bytes; with `~` and the digits 225
_HASH_DIGITS = 32
_ALIAS = re.compile(rb".*~[0-9a-f]{%d}\Z" % _HASH_DIGITS, re.DOTALL | re.IGNORECASE)


def is_shown(name: bytes) -> bool:
    """Whether a Linux file system can hold `name` as it is."""
    if len(name) > MAX_BYTES or name in (b"", b".", b".."):
        return False
    return b"\0" not in name and b"/" not in name


def looks_like_alias(name: bytes) -> bool:
    """Whether `name` could be mistaken for an alias that `alias` makes."""
    return _ALIAS.match(name) is not None


def alias(name: bytes, attempt: int = 0) -> bytes:
    """`name` itself where Linux can hold it, else its alias; `attempt` gives others."""
    if is_shown(name) and not attempt:
        return name
    salt = b"\0%d" % attempt if attempt else b""
    digits = hashlib.sha256(fold(name) + salt).hexdigest()[:_HASH_DIGITS]
    return _prefix(name) + b"~" + digits.encode()


def shown_names(names: Iterable[bytes]) -> dict[bytes, bytes]:
    """Name -> how it is shown, for those names of one directory that need an alias.

    Depends on the set of names only, not on their order.
    """
    real = list(names)
    hidden = sorted(name for name in real if not is_shown(name))
    if not hidden:
        return {}
    taken = {fold(name) for name in real if is_shown(name)}
    shown = {}
    for name in hidden:
        attempt = 0
        while fold(candidate := alias(name, attempt)) in taken:
            attempt += 1
        taken.add(fold(candidate))
        shown[name] = candidate
    return shown


def real_name(names: Iterable[bytes], shown: bytes) -> bytes | None:
    """Which of a directory's names is shown as `shown`; None if none is."""
    real = list(names)
    aliases: Mapping[bytes, bytes] = shown_names(real)
    for name in real:
        if aliases.get(name, name) == shown:
            return name
    return None


def _prefix(name: bytes) -> bytes:
    """The first characters, whole; the same number in every spelling of the name."""
    clean = name.replace(b"\0", b"_").replace(b"/", b"_")
    try:
        text = clean.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return clean[:_PREFIX_CHARACTERS]
    return text[:_PREFIX_CHARACTERS].encode("utf-8", "surrogatepass")
