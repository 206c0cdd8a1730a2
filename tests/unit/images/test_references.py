"""Image references: Docker's rules, familiar and canonical forms."""

from __future__ import annotations

import pytest

from windowsfilter.errors import UsageError
from windowsfilter.images.references import MAX_NAME, Reference, normalise

DIGEST = "sha256:" + "ab" * 32

# What is typed: familiar form, canonical form. From distribution/reference's own tests and docs.
GOOD = {
    "nanoserver": ("nanoserver:latest", "docker.io/library/nanoserver:latest"),
    "nanoserver:ltsc2022": ("nanoserver:ltsc2022", "docker.io/library/nanoserver:ltsc2022"),
    "docker.io/library/nanoserver:1": ("nanoserver:1", "docker.io/library/nanoserver:1"),
    "index.docker.io/me/app": ("me/app:latest", "docker.io/me/app:latest"),
    "library/x": ("x:latest", "docker.io/library/x:latest"),
    "library/a/b": ("library/a/b:latest", "docker.io/library/a/b:latest"),
    "mcr.microsoft.com/windows/nanoserver:ltsc2022": (
        "mcr.microsoft.com/windows/nanoserver:ltsc2022",
        "mcr.microsoft.com/windows/nanoserver:ltsc2022",
    ),
    "localhost/x": ("localhost/x:latest", "localhost/x:latest"),
    "localhost:5000/x:y": ("localhost:5000/x:y", "localhost:5000/x:y"),
    "docker.io/localhost/x:1": ("docker.io/localhost/x:1", "docker.io/localhost/x:1"),
    "docker.io/a.b/x:1": ("docker.io/a.b/x:1", "docker.io/a.b/x:1"),
    "Host/x": ("Host/x:latest", "Host/x:latest"),
    "[::1]:5000/x": ("[::1]:5000/x:latest", "[::1]:5000/x:latest"),
    "a__b-c.d---e": ("a__b-c.d---e:latest", "docker.io/library/a__b-c.d---e:latest"),
    "x:_tag.With-All": ("x:_tag.With-All", "docker.io/library/x:_tag.With-All"),
    f"x@{DIGEST}": (f"x@{DIGEST}", f"docker.io/library/x@{DIGEST}"),
    f"x:1@{DIGEST}": (f"x:1@{DIGEST}", f"docker.io/library/x:1@{DIGEST}"),
}

BAD = {
    "nothing": "",
    "an id": "0" * 64,
    "upper case": "Nanoserver",
    "upper case path": "mcr.microsoft.com/Windows",
    "empty tag": "x:",
    "space": "x y",
    "trailing slash": "x/",
    "leading slash": "/x",
    "double slash": "a//b",
    "dot dot": "../x",
    "three underscores": "a___b",
    "leading dash": "-x",
    "newline at the end": "x\n",
    "newline after the tag": "x:1\n",
    "long tag": "x:" + "t" * 129,
    "long name": "x/" * (MAX_NAME // 2) + "long",
    "very long": "x" * 100_000,
    "scheme": "https://x/y",
    "bad port": "host:port/x",
    "digest too short": "x@sha256:abcd",
    "digest in upper case": "x@sha256:" + "AB" * 32,
    "another algorithm": "x@sha512:" + "ab" * 64,
    "two digests": f"x@{DIGEST}@{DIGEST}",
    "backslash": "a\\b",
    "NUL": "x\0",
    "not ASCII": "n\N{LATIN SMALL LETTER A WITH DIAERESIS}no",
    "other digits": "x:\N{ARABIC-INDIC DIGIT ONE}",
}


@pytest.mark.parametrize(("text", "forms"), GOOD.items(), ids=GOOD)
def test_familiar_and_canonical_forms(text: str, forms: tuple[str, str]) -> None:
    reference = Reference.parse(text)
    assert (str(reference), reference.canonical) == forms
    assert normalise(text) == forms[0]
    assert all(Reference.parse(form) == reference for form in forms)


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_what_is_no_reference_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="reference") as caught:
        Reference.parse(text)
    assert len(str(caught.value)) < 2000


def test_the_longest_name_is_accepted() -> None:
    longest = "a" * (MAX_NAME - len("docker.io/library/"))
    assert Reference.parse(longest).path == f"library/{longest}"
    with pytest.raises(UsageError, match="longer than 255"):
        Reference.parse(longest + "a")
