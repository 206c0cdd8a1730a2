from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from windowsfilter.cli.settings import Settings, default_root
from windowsfilter.errors import UsageError


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WINDOWSFILTER_ROOT", "XDG_DATA_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", lambda: Path("/home/zoe"))


def test_root_has_the_system_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0, raising=False)
    assert default_root() == Path("/var/lib/windowsfilter")


@pytest.mark.parametrize(
    ("system", "variables", "root"),
    [
        ("linux", {}, "/home/zoe/.local/share/windowsfilter"),
        ("linux", {"XDG_DATA_HOME": "/data"}, "/data/windowsfilter"),
        ("linux", {"XDG_DATA_HOME": "not/absolute"}, "/home/zoe/.local/share/windowsfilter"),
        ("linux", {"XDG_DATA_HOME": ""}, "/home/zoe/.local/share/windowsfilter"),
        ("darwin", {}, "/home/zoe/Library/Application Support/windowsfilter"),
        ("win32", {"LOCALAPPDATA": "/c/local"}, "/c/local/windowsfilter"),
        ("win32", {}, "/home/zoe/AppData/Local/windowsfilter"),
    ],
)
def test_other_users_have_their_data_folder(
    monkeypatch: pytest.MonkeyPatch, system: str, variables: dict[str, str], root: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000, raising=False)
    monkeypatch.setattr(sys, "platform", system)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert default_root() == Path(root)


def test_a_user_without_a_home_must_say_where(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(os, "geteuid", lambda: 1234, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(Path, "home", nowhere)
    with pytest.raises(UsageError, match="--root"):
        default_root()
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert default_root() == Path("/data/windowsfilter")


def test_the_environment_chooses_for_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINDOWSFILTER_ROOT", "/srv/layers")
    assert default_root() == Path("/srv/layers")
    monkeypatch.setenv("WINDOWSFILTER_ROOT", "")
    monkeypatch.setattr(os, "geteuid", lambda: 0, raising=False)
    assert default_root() == Path("/var/lib/windowsfilter")


def test_an_option_beats_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WINDOWSFILTER_ROOT", str(tmp_path / "other"))
    with Settings(root=tmp_path / "chosen").store(create=True) as store:
        assert store.root == tmp_path / "chosen"
    assert not (tmp_path / "other").exists()


def test_only_commands_that_make_sense_without_a_store_make_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        Settings(root=tmp_path / "typo").store()
    assert not (tmp_path / "typo").exists()
