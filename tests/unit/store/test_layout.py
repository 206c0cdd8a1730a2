from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.open_store import OpenStore
from windowsfilter.digests import Digest
from windowsfilter.errors import HostError, StoreDamaged, UsageError
from windowsfilter.store import layout as module
from windowsfilter.store.layout import Layout, open_layout


def test_a_new_store_has_the_documented_folders(root: Path) -> None:
    layout, _ = open_layout(root / "deep")
    assert layout.root.stat().st_mode & 0o777 == 0o700
    description = json.loads((layout.root / "store.json").read_bytes())
    assert description.keys() == {"created", "format", "uuid"}
    assert description["format"] == 1
    assert description["uuid"] == layout.uuid
    names = {path.name for path in layout.root.iterdir()}
    assert names == {"blobs", "layers", "images", "chains", "holds", "tmp", "lock", "store.json"}
    assert layout.blobs.is_dir()
    assert layout.images.is_dir()
    assert not list(layout.tmp.iterdir())


def test_opening_again_finds_the_same_store(root: Path) -> None:
    assert open_layout(root)[0] == open_layout(root, create=False)[0]


def test_paths_are_made_of_checked_names_only(root: Path) -> None:
    layout = Layout(root, "")
    digest = Digest.of(b"")
    assert layout.blob(digest) == root / "blobs" / "sha256" / digest.hex
    assert layout.image(digest) == root / "images" / "sha256" / digest.hex
    assert layout.layer("x") == root / "layers" / "x"
    assert layout.chain("k") == root / "chains" / "k"
    for name in ("..", "a/b", ""):
        with pytest.raises(UsageError):
            layout.layer(name)
        with pytest.raises(UsageError):
            layout.chain(name)


def test_a_store_is_only_made_where_wanted(root: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        open_layout(root, create=False)
    root.mkdir()
    with pytest.raises(UsageError, match="there is no store"):
        open_layout(root, create=False)
    assert not list(root.iterdir())


def test_a_folder_with_other_things_never_becomes_a_store(root: Path) -> None:
    root.mkdir()
    (root / "thesis.doc").touch()
    (root / "layers").mkdir()
    with pytest.raises(UsageError, match=r"thesis\.doc"):
        open_layout(root)
    assert {path.name for path in root.iterdir()} == {"thesis.doc", "layers"}


def test_a_file_is_no_store(root: Path) -> None:
    root.touch()
    with pytest.raises(UsageError):
        open_layout(root)


def test_a_half_made_store_is_finished(root: Path) -> None:
    root.mkdir()
    for name in ("blobs", "tmp", "lost+found"):
        (root / name).mkdir()
    (root / "lock").touch()
    assert open_layout(root)[0].layers.is_dir()


def test_a_store_of_a_newer_format_is_refused_untouched(root: Path) -> None:
    open_layout(root)
    (root / "store.json").write_text('{"format": 2, "something": "else"}')
    before = sorted(path.name for path in root.rglob("*"))
    with pytest.raises(UsageError, match="format 2 was made by a newer windowsfilter"):
        OpenStore(root)
    assert sorted(path.name for path in root.rglob("*")) == before


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"format": 1}', '{"format": 0, "uuid": ""}', '{"format": 1, "uuid": "x"}'],
)
def test_a_damaged_description_is_an_error_of_the_store(root: Path, text: str) -> None:
    open_layout(root)
    (root / "store.json").write_text(text)
    with pytest.raises(StoreDamaged, match=r"store\.json|badly formed"):
        open_layout(root)


def test_an_older_store_is_migrated_step_by_step(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout, _ = open_layout(root)
    steps = []
    monkeypatch.setattr(module, "FORMAT", 3)
    migrations = {1: lambda _: steps.append("1 to 2"), 2: lambda _: steps.append("2 to 3")}
    monkeypatch.setattr(module, "_MIGRATIONS", migrations)
    again, _ = open_layout(root)
    assert steps == ["1 to 2", "2 to 3"]
    assert again.uuid == layout.uuid
    assert json.loads((root / "store.json").read_bytes())["format"] == 3
    open_layout(root)
    assert len(steps) == 2


def test_a_store_that_others_could_enter_is_closed(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    open_layout(root)
    root.chmod(0o755)
    open_layout(root)
    assert root.stat().st_mode & 0o777 == 0o700
    assert "open to others" in caplog.text


@pytest.mark.root
def test_a_store_of_somebody_else_is_refused(root: Path) -> None:
    open_layout(root)
    os.chown(root, 65534, -1)
    with pytest.raises(HostError, match="belongs to uid 65534"):
        open_layout(root)


def test_processes_that_start_together_make_one_store(root: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from windowsfilter.store.layout import open_layout;"
        "sys.stdin.readline(); print(open_layout(Path(sys.argv[1]))[0].uuid)"
    )
    children = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    answers = {child.communicate()[0].strip() for child in children}
    assert answers == {open_layout(root)[0].uuid}
