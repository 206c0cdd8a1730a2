from __future__ import annotations

import errno
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.open_store import OpenStore
from windowsfilter.layers import durable
from windowsfilter.store.layout import open_layout
from windowsfilter.store.staging import Staging

WRITER = """
import sys
from pathlib import Path
from windowsfilter.store.layout import open_layout
from windowsfilter.store.staging import Staging
layout, locks = open_layout(Path(sys.argv[1]))
made = Staging(layout.tmp, locks).new("import")
(made / "blob").write_bytes(b"x" * 1000)
print(made, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def staging(root: Path) -> Staging:
    layout, locks = open_layout(root)
    return Staging(layout.tmp, locks)


def test_reading_a_store_writes_nothing(root: Path) -> None:
    OpenStore(root).close()
    with OpenStore(root) as store:
        store.catalog.layers()
        assert not list(store.layout.tmp.iterdir())


def test_a_closed_store_leaves_nothing(root: Path, staging: Staging) -> None:
    made = staging.new("import")
    assert made.name.startswith("import.")
    (made / "file").touch()
    staging.close()
    assert not list((root / "tmp").iterdir())
    assert staging.new("again").is_dir()
    staging.close()


def test_what_is_temporary_goes_with_its_body(staging: Staging) -> None:
    with pytest.raises(ZeroDivisionError), staging.temporary("x") as folder:
        (folder / "file").touch()
        raise ZeroDivisionError
    assert not folder.exists()
    with staging.temporary("x") as folder:
        folder.rename(folder.with_name("published"))
    staging.close()


def test_a_sweep_takes_what_the_dead_left_and_spares_the_living(
    root: Path, staging: Staging
) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    theirs = Path(child.stdout.readline().strip())
    ours = staging.new("ours")
    (root / "tmp" / "stray file").touch()
    assert staging.sweep() == 1
    assert theirs.is_dir()
    assert ours.is_dir()
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert staging.sweep() == 1
    assert not theirs.parent.exists()
    assert ours.is_dir()
    staging.close()


def test_what_cannot_be_swept_is_logged_and_stays(
    root: Path,
    staging: Staging,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (root / "tmp" / "left").mkdir()

    def refuse(_place: Path) -> None:
        raise OSError(errno.EBUSY, "busy")

    monkeypatch.setattr(durable, "delete_tree", refuse)
    staging.sweep()
    assert "cannot delete" in caplog.text
    assert (root / "tmp" / "left").exists()


def test_room_is_made_for_what_has_no_row(root: Path, staging: Staging) -> None:
    place = root / "layers" / "x"
    place.mkdir()
    (place / "file").touch()
    staging.clear(place)
    assert not place.exists()
    staging.clear(place)
    staging.close()
