from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from windowsfilter.errors import HostError
from windowsfilter.layers import durable


def test_replace_puts_all_bytes_in_place_and_leaves_nothing_beside(tmp_path: Path) -> None:
    staging = tmp_path / "tmp"
    staging.mkdir()
    target = tmp_path / "record"
    for data in (b"one", b"two" * 100_000):
        durable.replace(target, data, staging=staging)
        assert target.read_bytes() == data
    assert target.stat().st_mode & 0o777 == 0o600
    assert not list(staging.iterdir())


def test_a_replacement_that_fails_leaves_the_old_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    staging = tmp_path / "tmp"
    staging.mkdir()
    target = tmp_path / "record"
    durable.replace(target, b"old", staging=staging)

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        durable.replace(target, b"new", staging=staging)
    assert target.read_bytes() == b"old"
    assert not list(staging.iterdir())


def test_publish_never_replaces(tmp_path: Path) -> None:
    for name in ("new", "place"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    with pytest.raises(FileExistsError):
        durable.publish(tmp_path / "new", tmp_path / "place")
    durable.publish(tmp_path / "new", tmp_path / "other")
    assert (tmp_path / "other" / "file").read_text() == "new"
    assert (tmp_path / "place" / "file").read_text() == "place"


def test_files_are_synced_before_the_folders_that_name_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    fsync, rename = os.fsync, os.rename

    def traced_fsync(descriptor: int) -> None:
        calls.append(f"fsync {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name}")
        fsync(descriptor)

    def traced_rename(source: Path, target: Path) -> None:
        calls.append(f"rename {source.name} {target.name}")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", traced_fsync)
    monkeypatch.setattr(os, "rename", traced_rename)
    (tmp_path / "folder").mkdir()
    (tmp_path / "layers").mkdir()
    durable.write_new(tmp_path / "folder" / "manifest.json", b"{}")
    durable.publish(tmp_path / "folder", tmp_path / "layers" / "x")
    assert calls == ["fsync manifest.json", "fsync folder", "rename folder x", "fsync layers"]


def test_take_away_tells_what_was_not_there(tmp_path: Path) -> None:
    trash = tmp_path / "tmp"
    trash.mkdir()
    (tmp_path / "layer").mkdir()
    moved = durable.take_away(tmp_path / "layer", trash)
    assert moved is not None
    assert moved.is_dir()
    assert moved.parent == trash
    assert durable.take_away(tmp_path / "layer", trash) is None
    with pytest.raises(FileNotFoundError):
        durable.take_away(moved, tmp_path / "nowhere")


def _tree(top: Path) -> None:
    (top / "a" / "b" / "c").mkdir(parents=True)
    (top / "a" / "empty").mkdir()
    (top / "a" / "b" / "file").write_bytes(b"x" * 10_000)
    (top / "a" / "link").symlink_to("b")
    (top / "dangling").symlink_to("/nowhere")
    (top / "a" / "b" / "c" / "other").hardlink_to(top / "a" / "b" / "file")
    os.mkfifo(top / "a" / "pipe")


def test_delete_tree_follows_no_link(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    top = tmp_path / "top"
    _tree(top)
    (top / "trap").symlink_to(outside)
    durable.delete_tree(top)
    assert not top.exists()
    assert (outside / "precious").exists()
    durable.delete_tree(top)


def test_trees_are_also_deleted_without_calls_relative_to_a_folder(tmp_path: Path) -> None:
    _tree(tmp_path / "top")
    durable._delete_by_path(tmp_path / "top")
    assert list(tmp_path.iterdir()) == []


def test_content_that_was_written_before_is_flushed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[str] = []
    monkeypatch.setattr(
        os, "fsync", lambda number: flushed.append(os.readlink(f"/proc/self/fd/{number}"))
    )
    (tmp_path / "file").touch()
    durable.sync_file(tmp_path / "file")
    assert flushed == [str(tmp_path / "file")]


def test_delete_tree_takes_a_file_or_a_link_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    durable.delete_tree(tmp_path / "link")
    assert (tmp_path / "file").exists()
    durable.delete_tree(tmp_path / "file")
    assert not (tmp_path / "file").exists()


def test_delete_tree_of_any_depth_needs_no_stack(tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    descriptor = os.open(top, os.O_RDONLY)
    for _ in range(3000):  # a path of more than PATH_MAX bytes
        os.mkdir("dd", dir_fd=descriptor)
        deeper = os.open("dd", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = deeper
    os.close(descriptor)
    durable.delete_tree(top)
    assert not top.exists()


def test_delete_tree_opens_closed_folders_as_an_ordinary_user() -> None:
    program = """
import os, sys
from pathlib import Path
from windowsfilter.layers import durable
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
top = Path(sys.argv[1], "top")
(top / "a" / "b" / "c").mkdir(parents=True)
(top / "a" / "b" / "file").write_text("x")
for folder in (top / "a" / "b" / "c", top / "a" / "b", top / "a"):
    folder.chmod(0)
durable.delete_tree(top)
assert not top.exists()
"""
    # Not below pytest's own folder, which nobody else may enter.
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        subprocess.run([sys.executable, "-c", program, folder], check=True)


def test_tree_bytes_counts_what_a_tree_occupies(tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "file").write_bytes(b"x" * 100_000)
    assert durable.tree_bytes(tmp_path) >= 100_000
    assert durable.tree_bytes(tmp_path / "dir" / "file") >= 100_000
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(1 << 30)
    assert durable.tree_bytes(tmp_path / "sparse") < 1 << 20
    assert durable.tree_bytes(tmp_path / "absent") == 0


def test_host_errors_say_what_was_done(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="add layer x: No such file") as caught:
        with durable.host_errors("add layer x"):
            (tmp_path / "absent").read_bytes()
    assert caught.value.errno == errno.ENOENT
    assert caught.value.filename == str(tmp_path / "absent")
