from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from tests.support.command import CMD, ZONE, Command


@pytest.fixture
def work(demo: Command) -> Command:
    """The command on a store that has a scratch `work` over `demo:1`."""
    demo.ok("scratch", "create", "work", "demo:1")
    return demo


def changed(command: Command) -> set[tuple[str, str]]:
    return {(each["kind"], each["path"]) for each in command.json("scratch", "diff", "work")}


def change(command: Command, source: Path) -> None:
    source.write_bytes(b"new text")
    command.ok("scratch", "write", "work", "C:\\app\\new.txt", source)
    command.ok("scratch", "write", "work", "app/new.txt:note", source)
    command.ok("scratch", "remove", "work", "WINDOWS/win.ini")
    command.ok("scratch", "rename", "work", "windows/system32/cmd.exe", "app/cmd2.exe")
    command.ok("scratch", "mkdir", "-p", "work", "deep/er")


CHANGES = {
    ("add", "Files/app/new.txt"),
    ("delete", "Files/Windows/win.ini"),
    ("delete", "Files/Windows/System32/cmd.exe"),
    ("add", "Files/app/cmd2.exe"),
    ("add", "Files/deep"),
    ("add", "Files/deep/er"),
}


def test_scratches_are_listed_with_what_they_stand_on(work: Command) -> None:
    (image,) = work.json("images")
    (scratch,) = work.json("scratch", "ls")
    assert (scratch["name"], scratch["image"]) == ("work", image["id"])
    assert scratch["mounts"] == []
    _, row = work.ok("scratch", "ls").lines
    assert row.split()[:2] == ["work", "demo:1"]
    assert work.ok("scratch", "ls", "-q").lines == ["work"]
    assert work.json("scratch", "create", "other", "demo:1")["name"] == "other"


def test_changes_need_no_mount(work: Command, tmp_path: Path) -> None:
    assert changed(work) == set()
    change(work, tmp_path / "source")
    assert changed(work) == CHANGES
    lines = work.ok("scratch", "diff", "work").lines
    assert "delete  Files/Windows/win.ini" in lines
    assert work.ok("scratch", "read", "work", "APP/new.txt:note").out == b"new text"
    assert work.ok("scratch", "dir", "work", "app").lines == ["cmd2.exe", "new.txt", "run.cmd"]
    assert work.json("scratch", "dir", "work", "deep") == ["er"]


def test_write_reads_standard_input(work: Command, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"piped")
    for form in ([], ["-"]):
        with (tmp_path / "source").open("rb") as file:
            process = work.process("scratch", "write", "work", "x", *form, stdin=file)
            _, err = process.communicate()
            assert process.returncode == 0, err
        assert work.ok("scratch", "read", "work", "x").out == b"piped"
        work.ok("scratch", "remove", "work", "x")


def test_a_commit_is_an_image_with_one_more_layer(work: Command, tmp_path: Path) -> None:
    change(work, tmp_path / "source")
    image = work.json("scratch", "commit", "work", "demo:2")
    assert image["references"] == ["demo:2"]
    assert len(image["layers"]) == 3
    assert work.ok("cat", "demo:2", "app\\new.txt").out == b"new text"
    assert work.ok("cat", "demo:2", "app\\cmd2.exe").out == CMD
    assert work.ok("cat", "demo:2", "app\\cmd2.exe:zone.identifier").out == ZONE
    assert work("cat", "demo:2", "windows\\win.ini").code == 2
    top = image["layers"][2]["id"]
    listed = {(each["kind"], each["path"]) for each in work.json("layer", "changes", top)}
    assert listed >= CHANGES
    assert work.json("scratch", "ls")[0]["name"] == "work"


def test_the_tar_of_a_scratch_is_the_layer_of_its_commit(work: Command, tmp_path: Path) -> None:
    change(work, tmp_path / "source")
    data = work.ok("scratch", "diff", "work", "-o", "-").out
    work.ok("scratch", "diff", "work", "-o", tmp_path / "layer.tar")
    assert (tmp_path / "layer.tar").read_bytes() == data
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert "Files/Windows/.wh.win.ini" in tar.getnames()
    top = work.json("scratch", "commit", "work", "demo:2")["layers"][2]["id"]
    assert work.ok("layer", "diff", top).out == data


def test_a_scratch_goes_with_what_was_written(work: Command) -> None:
    assert work("rmi", "demo:1").code == 2
    assert "Removed work" in work.ok("scratch", "rm", "work").err
    assert work.json("scratch", "ls") == []
    work.ok("rmi", "demo:1")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["create", "work", "demo:1"], "there is one"),
        (["create", "a/b", "demo:1"], "a/b"),
        (["create", "other", "demo:2"], "demo:2"),
        (["diff", "nobody"], "nobody"),
        (["rm", "nobody"], "nobody"),
        (["umount", "work"], "not mounted"),
        (["remove", "work", "nothing"], "nothing"),
        (["remove", "work", "windows"], "empty"),
        (["mkdir", "work", "windows"], "Windows"),
        (["write", "work", "x", "/no/such/file"], "/no/such/file"),
        (["rename", "work", "windows/win.ini", "app/run.cmd"], "run.cmd"),
        (["commit", "work", "UPPER:1"], "lower case"),
    ],
)
def test_what_cannot_be_done_is_the_callers_fault(
    work: Command, arguments: list[str], word: str
) -> None:
    done = work("scratch", *arguments)
    assert done.code == 2, done.err
    assert word.lower() in done.err.lower()


@pytest.mark.root
def test_a_mounted_scratch_is_changed_by_anything(work: Command, tmp_path: Path) -> None:
    if work.json("info")["mount"]["chosen"] == "api":
        pytest.skip("this machine cannot mount")
    place = tmp_path / "mounted"
    place.mkdir()
    assert work.json("scratch", "mount", "work", place)["writable"] is True
    (place / "app" / "new.txt").write_bytes(b"mounted")
    (place / "Users").rmdir()
    assert work.json("scratch", "ls")[0]["mounts"] == [str(place)]
    refused = work("scratch", "write", "work", "x", "/dev/null")
    assert refused.code == 2
    assert work("scratch", "rm", "work").code == 2
    work.ok("scratch", "umount", "work")
    assert not list(place.iterdir())
    assert changed(work) == {("add", "Files/app/new.txt"), ("delete", "Files/Users")}
