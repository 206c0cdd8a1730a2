"""Platforms: reading what is asked for, matching, and the choice of the newest Windows."""

from __future__ import annotations

import pytest

from windowsfilter.errors import UsageError
from windowsfilter.images.platforms import Platform, choose

LTSC2022 = Platform("windows", "amd64", os_version="10.0.20348.2700")
LTSC2019 = Platform("windows", "amd64", os_version="10.0.17763.6414")
LATER = Platform("windows", "amd64", os_version="10.0.26100.1")
ARM = Platform("windows", "arm64", os_version="10.0.26100.1")
LINUX = Platform("linux", "amd64")

GOOD = {
    "windows": Platform("windows"),
    "windows/amd64": Platform("windows", "amd64"),
    "Windows/X86_64": Platform("windows", "amd64"),
    "windows/aarch64": Platform("windows", "arm64"),
    "linux/arm64/v8": Platform("linux", "arm64", "v8"),
    "windows/amd64,osver=10.0.20348": Platform("windows", "amd64", os_version="10.0.20348"),
    "windows/amd64,OSVersion=10.0": Platform("windows", "amd64", os_version="10.0"),
    "windows(10.0.17763)/amd64": Platform("windows", "amd64", os_version="10.0.17763"),
    "windows/amd64,osver=10.0,osfeature=win32k": Platform(
        "windows", "amd64", os_version="10.0", os_features=("win32k",)
    ),
}
BAD = [
    "",
    "/",
    "windows/",
    "windows//v8",
    "a/b/c/d",
    "windows/amd64,10.0.20348",
    "windows/amd64,color=red",
    "windows/amd64,osver=",
    "windows/amd64,osver=ten",
    "windows(10.0)/amd64,osver=10.0",
    "windows(10.0/amd64",
    "windows/amd64,osver=" + "1" * 5000,
    "win dows",
]


@pytest.mark.parametrize(("text", "platform"), GOOD.items(), ids=GOOD)
def test_platforms_are_read_in_all_spellings(text: str, platform: Platform) -> None:
    assert Platform.parse(text) == platform


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_platform_is_a_usage_error_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match="windows/amd64,osver=10.0.20348"):
        Platform.parse(text)


def test_a_platform_prints_as_it_is_typed() -> None:
    text = "windows/amd64,osver=10.0.20348.2700"
    assert str(Platform.parse(text)) == text
    assert str(Platform("linux", "arm64", "v8")) == "linux/arm64/v8"
    assert str(Platform("")) == "unknown/unknown"


@pytest.mark.parametrize(
    ("wanted", "offered", "covered"),
    [
        ("windows", LTSC2022, True),
        ("windows/amd64", LTSC2022, True),
        ("windows/arm64", LTSC2022, False),
        ("linux/amd64", LTSC2022, False),
        ("windows/amd64,osver=10.0.20348", LTSC2022, True),
        ("windows/amd64,osver=10.0.20348.2700", LTSC2022, True),
        ("windows/amd64,osver=10.0.20348.27", LTSC2022, False),
        ("windows/amd64,osver=10.0.203", LTSC2022, False),
        ("windows/amd64,osver=10.0.20348.2700.1", LTSC2022, False),
        ("windows/amd64,osver=10.0", Platform("windows", "amd64"), False),
        ("linux/arm/v7", Platform("linux", "arm", "v7"), True),
        ("linux/arm/v7", Platform("linux", "arm", "v6"), False),
        ("linux/arm", Platform("linux", "arm", "v6"), True),
        ("windows/amd64", Platform("Windows", "x86_64"), True),
        ("windows,osfeature=win32k", LTSC2022, False),
        ("windows,osfeature=win32k", Platform("windows", os_features=("win32k", "b")), True),
    ],
)
def test_a_request_covers_what_it_does_not_rule_out(
    wanted: str, offered: Platform, covered: bool
) -> None:
    assert Platform.parse(wanted).covers(offered) is covered


def pick(candidates: list[Platform], wanted: str | None = None) -> Platform:
    request = Platform.parse(wanted) if wanted else None
    return choose(candidates, lambda platform: platform, request, what="image x")


def test_the_newest_windows_is_the_default_compared_by_numbers() -> None:
    old = Platform("windows", "amd64", os_version="10.0.9999.1")
    assert pick([old, LTSC2022, LINUX, LTSC2019]) == LTSC2022
    assert pick([LTSC2019, LTSC2022, old][::-1]) == LTSC2022


def test_amd64_is_preferred_among_equally_new_ones() -> None:
    assert pick([ARM, LATER]) == LATER
    assert pick([LATER, ARM]) == LATER
    assert pick([ARM, LTSC2022]) == ARM


def test_a_version_that_is_no_number_is_older_than_any() -> None:
    odd = Platform("windows", "amd64", os_version="\u0661\u0662.newest")
    assert pick([odd, LTSC2019]) == LTSC2019


def test_a_lone_image_of_another_system_is_taken_by_default() -> None:
    assert pick([LINUX]) == LINUX
    with pytest.raises(UsageError, match="has no Windows platform; it has: linux/amd64, linux/arm"):
        pick([LINUX, Platform("linux", "arm")])


def test_what_there_is_stands_in_the_error() -> None:
    with pytest.raises(UsageError) as caught:
        pick([LTSC2022, LINUX], "windows/arm64")
    assert str(caught.value) == (
        "image x has no platform windows/arm64;"
        " it has: windows/amd64,osver=10.0.20348.2700, linux/amd64"
    )


def test_a_request_takes_the_newest_it_covers() -> None:
    older = Platform("windows", "amd64", os_version="10.0.20348.1")
    assert pick([older, LTSC2022, LATER], "windows/amd64,osver=10.0.20348") == LTSC2022
