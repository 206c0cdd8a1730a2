from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support import windows_entries
from tests.support.chains import tar
from tests.support.command import CMD, Command, write_layout

ENGINES = ["erofs-file", "erofs-loop", "fuse"]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    folder = tmp_path / "mounted"
    folder.mkdir()
    return folder


def test_info_tells_what_this_machine_can_and_why_not(command: Command) -> None:
    mount = command.json("info")["mount"]
    assert set(mount) >= {"chosen", "available", "unavailable"}
    assert mount["chosen"] in mount["available"]
    assert "api" in mount["available"]
    assert set(mount["available"]) | set(mount["unavailable"]) == {*ENGINES, "api"}
    assert all(isinstance(reason, str) for reason in mount["unavailable"].values())
    page = dict(line.split(":", 1) for line in command.ok("info").lines)
    assert page["Mounts with"].strip() == mount["chosen"]
    for name, reason in mount["unavailable"].items():
        assert page[f"Not {name}"].strip() == reason
    assert command.json("info")["root"] == str(command.root)


def test_an_engine_can_be_chosen_and_must_exist(command: Command) -> None:
    assert command.json("info", "--mount-engine", "api")["mount"]["chosen"] == "api"
    done = command("info", "--mount-engine", "horse")
    assert done.code == 2
    assert "horse" in done.err


def test_without_a_way_to_mount_the_reason_is_told(demo: Command, place: Path) -> None:
    done = demo("mount", "demo:1", place, "--mount-engine", "api")
    assert done.code == 4
    assert "info" in done.err
    assert demo.json("mount") == []


@pytest.mark.root
@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_shows_the_volume(demo: Command, place: Path, engine: str) -> None:
    mount = demo.json("info")["mount"]
    if engine not in mount["available"]:
        pytest.skip(f"this machine cannot mount by {engine}: {mount['unavailable'][engine]}")
    done = demo.json("--mount-engine", engine, "mount", "demo:1", place)
    assert (done["path"], done["writable"]) == (str(place), False)
    assert (place / "Windows" / "System32" / "cmd.exe").read_bytes() == CMD
    assert (place / "readme").read_bytes() == b"[new]\r\n"
    assert [each["path"] for each in demo.json("mount")] == [str(place)]
    assert demo.ok("mount").lines[1].split()[0] == str(place)
    assert demo("rmi", "demo:1").code == 2
    demo.ok("umount", place)
    assert not list(place.iterdir())
    assert demo("umount", place).code == 2
    demo.ok("rmi", "demo:1")


@pytest.mark.root
@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_shows_windows_metadata(
    command: Command, tmp_path: Path, place: Path, engine: str
) -> None:
    mount = command.json("info")["mount"]
    if engine not in mount["available"]:
        pytest.skip(f"this machine cannot mount by {engine}: {mount['unavailable'][engine]}")
    command.ok("load", write_layout(tmp_path / "oci", tar(windows_entries.entries())))
    command.ok("--mount-engine", engine, "mount", "demo:1", place)
    try:
        names = {
            "sd": windows_entries.DESCRIPTOR,
            "attr": b"\x20\0\0\0",
            "eas": b"\3\0\0\0",
            "ea.4c582e54455854": b"text",
        }
        for name, value in names.items():
            assert os.getxattr(place / "eas", f"trusted.windows.{name}") == value
        ea = "trusted.windows.ea.244b45524e454c2e50555247452e58"
        assert os.getxattr(place / "link", ea, follow_symlinks=False) == bytes(range(8))
        placeholder = os.getxattr(place / "app.exe", "trusted.windows.reparse")
        assert placeholder == windows_entries.PLACEHOLDER.build()
        assert os.getxattr(place / "old", "trusted.windows.sd") == windows_entries.DESCRIPTOR
    finally:
        command.ok("umount", place)


@pytest.mark.root
def test_the_layer_view_has_all_top_folders(demo: Command, place: Path) -> None:
    if demo.json("info")["mount"]["chosen"] == "api":
        pytest.skip("this machine cannot mount")
    demo.ok("mount", "demo:1", place, "--view", "layer")
    assert sorted(entry.name for entry in place.iterdir()) == ["Files", "Hives"]
    assert (place / "Hives" / "System_Delta").read_bytes() == b"regf"


@pytest.mark.parametrize(
    "target", ["nothing", "file"], ids=["a folder that is not there", "a file"]
)
def test_mounts_need_a_folder(demo: Command, tmp_path: Path, target: str) -> None:
    (tmp_path / "file").touch()
    assert demo("mount", "demo:1", tmp_path / target).code == 2


def test_a_command_sees_the_image_and_gives_its_exit_code(demo: Command, place: Path) -> None:
    script = f"cat {place}/Windows/win.ini; exit 7"
    process = demo.process("mount", "demo:1", place, "--", "sh", "-c", script)
    out, err = process.communicate()
    if process.returncode == 4:
        pytest.skip(f"this machine cannot: {err.decode()}")
    assert (process.returncode, out) == (7, b"[new]\r\n")
    assert not list(place.iterdir())
    assert demo.json("mount") == []
