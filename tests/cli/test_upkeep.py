from __future__ import annotations

from pathlib import Path

from tests.support.chains import file, folder, tar
from tests.support.command import BASE, Command, write_layout


def test_du_tells_shared_from_exclusive(demo: Command, tmp_path: Path) -> None:
    (before,) = demo.json("du")["images"]
    assert before["exclusive"] > 0
    assert before["shared"] == 0
    other = tar([folder("Files"), file("Files/other", b"x" * 9000)])
    demo.ok("load", write_layout(tmp_path / "other", BASE, other, tag="other:1"))
    demo.ok("scratch", "create", "work", "demo:1")
    usage = demo.json("du")
    assert all(image["shared"] > 0 for image in usage["images"])
    assert usage["total"] >= sum(layer["bytes"] for layer in usage["layers"])
    assert [scratch["name"] for scratch in usage["scratches"]] == ["work"]
    lines = demo.ok("du").lines
    assert [line.split()[0] for line in lines] == [
        *("KIND", "image", "image", "scratch", "derived", "reserve", "total", "reclaimable")
    ]
    assert len(demo.ok("du", "--layers").lines) == len(lines) + 3


def test_prune_says_first_and_does_then(demo: Command, tmp_path: Path) -> None:
    assert demo.json("prune")["items"] == []
    (image,) = demo.json("images")
    demo.ok("load", write_layout(tmp_path / "other", BASE, tag="demo:1"))
    planned = demo.json("prune", "--dry-run", "--untagged")
    assert planned["dry_run"] is True
    assert image["id"] in [item["id"] for item in planned["items"]]
    assert len(demo.json("images")) == 2
    assert "would be freed" in demo.ok("prune", "-n", "-a").text
    done = demo.json("prune", "-a")
    assert done["bytes"] > 0
    assert len(demo.json("images")) == 1
    assert demo.ok("prune").lines == ["0 B freed"]


def test_lists_of_a_store_that_is_not_there_are_empty(command: Command) -> None:
    for arguments in (["images"], ["layer", "ls"], ["scratch", "ls"], ["mount"]):
        assert command.json(*arguments) == []


def test_reading_does_not_make_a_store(command: Command) -> None:
    done = command("ls", "demo:1")
    assert done.code == 2
    assert str(command.root) in done.err
    assert not command.root.exists()


def test_a_folder_with_other_things_is_no_store(command: Command) -> None:
    command.root.mkdir()
    (command.root / "thesis.txt").touch()
    assert command("images").code == 2
    assert [entry.name for entry in command.root.iterdir()] == ["thesis.txt"]


def test_an_error_names_a_file_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = Command(tmp_path / "file" / "store")("images")
    assert done.code == 4
    assert done.err.count("store: ") == done.err.count(str(tmp_path)) == 1
