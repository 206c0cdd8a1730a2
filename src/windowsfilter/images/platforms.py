"""Platforms: what an image says it runs on, what a caller asks for, and which one is taken.

Accepted spellings: `windows/amd64`, `windows/arm64/v8`, `windows/amd64,osver=10.0.20348` and
containerd's `windows(10.0.20348)/amd64`. An asked-for version covers all below it, number by
number: `10.0.20348` covers `10.0.20348.2700`, not `10.0.203480`.
Source: OCI image-spec, image-index.md; github.com/containerd/platforms.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self, TypeVar

from windowsfilter.errors import UsageError

_T = TypeVar("_T")

_WORD = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_VERSION = re.compile(r"[0-9]{1,10}(?:\.[0-9]{1,10}){0,7}")
_CONTAINERD = re.compile(r"(?P<os>[^()/]+)\((?P<version>[^()]*)\)")
_ARCHITECTURES = {
    "x86_64": "amd64",
    "x86-64": "amd64",
    "aarch64": "arm64",
    "i386": "386",
    "i686": "386",
    "armhf": "arm",
}
# Between images of one Windows version; others come behind in the order found.
_PREFERRED = ("amd64", "arm64")


@dataclass(frozen=True, slots=True)
class Platform:
    """What an image runs on. Empty text: not said."""

    os: str
    architecture: str = ""
    variant: str = ""
    os_version: str = ""
    os_features: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what a user asks for; UsageError with the expected form if it cannot be read."""
        words, *options = text.strip().split(",")
        parts = words.split("/")
        system, version = _split_containerd(parts[0])
        features: list[str] = []
        for option in options:
            key, _, value = option.partition("=")
            if key.strip().lower() not in {"osver", "osversion", "osfeature"}:
                raise _invalid(text, f"unknown option {option!r}")
            if not value.strip():
                raise _invalid(text, f"{option!r} has no value")
            if key.strip().lower() == "osfeature":
                features.append(value.strip())
            elif version:
                raise _invalid(text, "two versions")
            else:
                version = value.strip()
        if len(parts) > 3 or not all(_WORD.fullmatch(word) for word in (system, *parts[1:])):
            raise _invalid(text, "not of this form")
        if version and not _VERSION.fullmatch(version):
            raise _invalid(text, f"{version!r} is no version")
        architecture = parts[1].lower() if len(parts) > 1 else ""
        return cls(
            os=system.lower(),
            architecture=_ARCHITECTURES.get(architecture, architecture),
            variant=parts[2].lower() if len(parts) > 2 else "",
            os_version=version,
            os_features=tuple(features),
        )

    def __str__(self) -> str:
        parts = [self.os or "unknown", self.architecture or "unknown"]
        if self.variant:
            parts.append(self.variant)
        version = f",osver={self.os_version}" if self.os_version else ""
        return "/".join(parts) + version

    @property
    def version_key(self) -> tuple[int, ...]:
        """The version as numbers, for comparing; what is not a number counts as 0."""
        if not self.os_version:
            return ()
        pieces = self.os_version.split(".")
        return tuple(int(p) if p.isascii() and p.isdigit() and len(p) < 11 else 0 for p in pieces)

    @property
    def is_known(self) -> bool:
        """False for attestations, which call themselves unknown/unknown."""
        return self.os not in {"", "unknown"}

    def covers(self, offered: Platform) -> bool:
        """Does `offered` satisfy this request? What the request leaves out, anything satisfies."""
        if self.os.lower() != offered.os.lower():
            return False
        if self.architecture:
            theirs = offered.architecture.lower()
            if self.architecture != _ARCHITECTURES.get(theirs, theirs):
                return False
        if self.variant and self.variant != offered.variant.lower():
            return False
        mine = self.version_key
        if mine and mine != offered.version_key[: len(mine)]:
            return False
        return set(self.os_features) <= set(offered.os_features)


def choose(
    candidates: Sequence[_T],
    platform_of: Callable[[_T], Platform],
    wanted: Platform | None,
    *,
    what: str,
) -> _T:
    """The one of `candidates` that is taken: the newest that `wanted` covers.

    Without `wanted` it is the newest Windows, or the only candidate if none is Windows (layers of
    Windows do travel in images labelled linux). Raises UsageError that names `what` and lists
    what there is.
    """
    if wanted is None:
        eligible = [c for c in candidates if platform_of(c).os.lower() == "windows"]
        if not eligible and len(candidates) == 1:
            eligible = list(candidates)
    else:
        eligible = [c for c in candidates if wanted.covers(platform_of(c))]
    if not eligible:
        asked = "Windows platform" if wanted is None else f"platform {wanted}"
        there = ", ".join(str(platform_of(c)) for c in candidates[:50]) or "none"
        raise UsageError(f"{what} has no {asked}; it has: {there}")
    return max(eligible, key=lambda candidate: _rank(platform_of(candidate)))


def _rank(platform: Platform) -> tuple[tuple[int, ...], int]:
    architecture = platform.architecture.lower()
    preference = (
        len(_PREFERRED) - _PREFERRED.index(architecture) if architecture in _PREFERRED else 0
    )
    return platform.version_key, preference


def _split_containerd(word: str) -> tuple[str, str]:
    found = _CONTAINERD.fullmatch(word)
    return (word, "") if found is None else (found["os"], found["version"])


def _invalid(text: str, why: str) -> UsageError:
    return UsageError(
        f"invalid platform {text!r}: {why}; write for example windows/amd64,osver=10.0.20348"
    )
