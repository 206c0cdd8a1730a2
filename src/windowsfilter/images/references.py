"""Image references as Docker spells them: `[domain/]path[:tag][@digest]`.

Images are stored and shown under the familiar form, which leaves out what Docker fills in:
`docker.io/library/nanoserver:ltsc2022` is `nanoserver:ltsc2022`. The canonical form goes into
files that other programs read. Out of scope: ids, which are not references (a name of 64 hex
digits is refused here, so the two cannot be confused).
Source: github.com/distribution/reference, reference.go, regexp.go and normalize.go.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from windowsfilter.digests import Digest
from windowsfilter.errors import FormatError, UsageError

DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"
MAX_NAME = 255  # characters of domain and path together

_LEGACY_DOMAIN = "index.docker.io"
_OFFICIAL = "library/"
_MAX_TEXT = 1024  # far beyond name, tag and digest: keeps hostile text away from the expressions
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?")
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_HEX64 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Reference:
    """A parsed reference; `str()` gives the familiar form."""

    domain: str
    path: str
    tag: str | None
    digest: Digest | None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a reference as a user types it; `latest` is filled in when no tag and no digest is.

        Raises UsageError, naming what is wrong with it.
        """
        if not text:
            raise UsageError("image reference is empty")
        if len(text) > _MAX_TEXT:
            raise _invalid(text[:60] + "...", f"longer than {_MAX_TEXT} characters")
        if _HEX64.fullmatch(text):
            raise _invalid(text, "64 hex digits are an id, not a name")
        rest, digest = _split_digest(text)
        name, tag = _split_tag(rest, text)
        domain, path = _split_domain(name)
        if not _DOMAIN.fullmatch(domain):
            raise _invalid(text, f"{domain!r} is no registry")
        if path != path.lower():
            raise _invalid(text, "the name must be in lower case")
        if not _PATH.fullmatch(path):
            raise _invalid(text, f"{path!r} is no name")
        if len(domain) + 1 + len(path) > MAX_NAME:
            raise _invalid(text, f"the name is longer than {MAX_NAME} characters")
        if tag is None and digest is None:
            tag = DEFAULT_TAG
        return cls(domain, path, tag, digest)

    @property
    def familiar_name(self) -> str:
        """Domain and path without what Docker fills in."""
        if self.domain != DEFAULT_DOMAIN:
            return f"{self.domain}/{self.path}"
        short = self.path.removeprefix(_OFFICIAL)
        if "/" not in short:
            return short
        # `docker.io/localhost/x` cut short would be read as another registry's `x`.
        return (
            self.path if _split_domain(self.path)[1] == self.path else f"{self.domain}/{self.path}"
        )

    @property
    def canonical(self) -> str:
        """Everything written out, as registries and containerd know it."""
        return f"{self.domain}/{self.path}{self._suffix()}"

    def __str__(self) -> str:
        return self.familiar_name + self._suffix()

    def _suffix(self) -> str:
        tag = "" if self.tag is None else f":{self.tag}"
        return tag if self.digest is None else f"{tag}@{self.digest}"


def normalise(text: str) -> str:
    """The familiar form under which an image is stored; UsageError if `text` is no reference."""
    return str(Reference.parse(text))


def _invalid(text: str, why: str) -> UsageError:
    return UsageError(f"invalid image reference {text!r}: {why}")


def _split_digest(text: str) -> tuple[str, Digest | None]:
    rest, at, digest = text.partition("@")
    if not at:
        return rest, None
    try:
        return rest, Digest(digest)
    except FormatError as error:
        raise _invalid(text, str(error)) from error


def _split_tag(rest: str, text: str) -> tuple[str, str | None]:
    """A colon before the last slash belongs to the registry's port."""
    name, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:
        return rest, None
    if not _TAG.fullmatch(tag):
        raise _invalid(text, f"{tag!r} is no tag")
    return name, tag


def _split_domain(name: str) -> tuple[str, str]:
    """What comes before the first slash is a registry if it cannot be part of a path."""
    first, slash, rest = name.partition("/")
    is_domain = slash and (
        "." in first or ":" in first or first == "localhost" or first.lower() != first
    )
    if not is_domain:
        domain, path = DEFAULT_DOMAIN, name
    else:
        domain, path = first, rest
    if domain == _LEGACY_DOMAIN:
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in path:
        path = _OFFICIAL + path
    return domain, path
