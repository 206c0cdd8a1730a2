"""The command and the library for a user without privileges: the same results as for root.

The user's side runs in a process of its own (tests/support/unprivileged.py). Where the tests run as
root it is another user, so that what root did and what the user did can be compared.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import unprivileged
from tests.support.chains import A_TIME_NS
from tests.support.command import Command, write_layout
from tests.support.scratches import scratch
from tests.support.stories import BASE_ENTRIES, read_everything, write_everything
from windowsfilter.engines.portable.fuse import device as fuse_device
from windowsfilter.engines.portable.fuse.device import Way
from windowsfilter.ntfs import filetime

LATEST = filetime.from_unix_ns(A_TIME_NS)
HEAD = """
import json, os
from pathlib import Path
from tests.support.command import Command
from tests.support.stories import edit, read_everything, write_everything

assert os.geteuid()
here = Path.cwd()
command = Command(here / "store")
"""

Run = Callable[..., str]


@pytest.fixture
def user(tmp_path: Path) -> Run:
    """Run code as the user, who owns `tmp_path`; what it prints."""

    def run(code: str, **options: bool) -> str:
        return unprivileged.run(HEAD + code, tmp_path, **options).stdout

    return run


@pytest.fixture
def loaded(user: Run, tmp_path: Path) -> Run:
    """The same with `demo:1` in the store and an empty folder `mnt`."""
    write_layout(tmp_path / "oci")
    (tmp_path / "mnt").mkdir()
    user("command.ok('load', here / 'oci')")
    return user


def needs(way: Way) -> None:
    """Skip what cannot be done here by a user, or by the stand-in that root makes of itself."""
    reason = fuse_device.reason(Way.DIRECT if os.geteuid() == 0 else way)
    if reason is not None:
        pytest.skip(f"this machine cannot mount by FUSE: {reason}")
    if way is Way.FUSERMOUNT and fuse_device.find_fusermount() is None:
        pytest.skip("fusermount3 is not installed")
    limit = Path("/proc/sys/user/max_user_namespaces")
    if way is Way.NAMESPACE and limit.exists() and limit.read_text().strip() == "0":
        pytest.skip("this machine cannot make user namespaces")


def test_reading_gives_what_it_gives_root(loaded: Run, tmp_path: Path) -> None:
    seen = json.loads(loaded("print(json.dumps(read_everything(command)))"))
    mine = Command(tmp_path / "mine")
    mine.ok("load", write_layout(tmp_path / "again"))
    assert seen == read_everything(mine)
    assert len(seen) > 8


def test_a_whole_life_of_an_image_needs_no_root(loaded: Run, tmp_path: Path) -> None:
    told = json.loads(
        loaded("""
told = write_everything(command, here)
command.ok("rmi", "demo:1")
told["left"] = [command.json("images"), command.json("layer", "ls"), command.json("prune")["items"]]
told["again"] = command.json("load", here / "saved.tar")["images"][0]["references"]
print(json.dumps(told))
""")
    )
    assert told["left"] == [[], [], []]
    assert told["again"] == ["demo:2"]
    mine = Command(tmp_path / "mine")
    mine.ok("load", tmp_path / "oci")
    (tmp_path / "elsewhere").mkdir()
    same = write_everything(mine, tmp_path / "elsewhere")
    assert told["diff"] == same["diff"]
    assert told["entries"] == same["entries"]
    for store in (tmp_path / "store", mine.root):
        closed = {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in store.iterdir()}
        assert closed == {0}
    assert not [path for path in (tmp_path / "store").rglob("*") if path.stat().st_uid == 0]


@pytest.mark.root
def test_edits_of_a_user_give_the_bytes_of_roots_mount(user: Run, tmp_path: Path) -> None:
    (tmp_path / "user").mkdir()
    user(f"""
from tests.support.scratches import scratch
from tests.support.stories import BASE_ENTRIES
with scratch(here / "user" / "work", BASE_ENTRIES) as work:
    with work.edited() as editor:
        edit(editor)
    (here / "user.tar").write_bytes(work.tar({LATEST}))
""")
    with scratch(tmp_path / "root", BASE_ENTRIES) as work:
        with work.mounted() as mount:
            files = mount / "Files"
            (files / "new.txt").write_bytes(b"new")
            (files / "made").mkdir()
            (files / "made/inner").write_bytes(b"inner" * 5000)
            (files / "Windows/notes").write_bytes(b"changed")
            (files / "Windows/System/dll").rename(files / "made/dll")
            (files / "Windows/System").rename(files / "System")
            os.link(files / "Windows/notes", files / "second name")
            (files / "link").unlink()
            os.symlink("Windows/notes", files / "other link")
            shutil.rmtree(files / "Empty")
        assert work.tar(LATEST) == (tmp_path / "user.tar").read_bytes()
        assert len(work.names()) > 10


def test_a_user_mounts_by_fusermount(loaded: Run) -> None:
    needs(Way.FUSERMOUNT)
    loaded("""
place = here / "mnt"
assert command.json("info")["mount"]["chosen"] == "fuse"
command.ok("mount", "demo:1", place)
assert (place / "WINDOWS/win.ini").read_bytes() == b"[new]\\r\\n"
assert [each["path"] for each in command.json("mount")] == [str(place)]
done = command("rmi", "demo:1")
assert done.code == 2 and done.err.count(str(place)) == 1, done.err
command.ok("umount", place)
assert not os.listdir(place)
done = command("mount", "demo:1", place, "--mount-engine", "erofs-file")
assert done.code == 4 and "needs root" in done.err, done.err
""")


def test_a_command_runs_on_the_image_in_a_namespace(loaded: Run) -> None:
    needs(Way.NAMESPACE)
    loaded("""
script = "cat mnt/Windows/win.ini; id -u; exit 7"
process = command.process("mount", "demo:1", "mnt", "--", "sh", "-c", script)
out, err = process.communicate()
assert process.returncode == 7, err
assert out == b"[new]\\r\\n%d\\n" % os.geteuid()
assert not os.listdir("mnt")
""")


BLOCK = """
from windowsfilter import Store
from windowsfilter.errors import HostError, LayerInUse
with Store(here / "store") as store:
    image = store.image("demo:1")
    with image.mounted() as root:
        print(root)
        assert (root / "Windows/win.ini").read_bytes() == b"[new]\\r\\n"
        assert "System_Delta" not in os.listdir(root)
        try:
            store.remove_image("demo:1")
        except LayerInUse as error:
            assert str(os.getpid()) in str(error)
        else:
            raise AssertionError("removed while it was mounted")
    assert not root.exists()
    assert store.mounts() == []
    assert not list(here.glob("windowsfilter-*"))
"""


def test_an_image_is_mounted_for_a_block(loaded: Run) -> None:
    needs(Way.FUSERMOUNT)
    assert "/proc/" not in loaded(BLOCK)


def test_an_image_is_mounted_for_a_block_where_fusermount_is_not(loaded: Run) -> None:
    needs(Way.NAMESPACE)
    nowhere = "from windowsfilter.engines.portable.fuse import device as fuse_device\n"
    nowhere += "fuse_device._PROGRAM_PATH = '/nowhere'\n"
    assert loaded(nowhere + BLOCK).startswith("/proc/")
    loaded(
        nowhere
        + """
done = command("mount", "demo:1", "mnt")
assert done.code == 4 and "-- COMMAND" in done.err, done.err
assert "fusermount3 is not installed" in command.json("info")["mount"]["unavailable"]["fuse"]
"""
    )


@pytest.mark.root
def test_without_the_device_the_way_out_is_told(loaded: Run) -> None:
    loaded(
        """
assert command.json("info")["mount"]["chosen"] == "api"
assert command.json("info")["mount"]["unavailable"]["fuse"] == "/dev/fuse: Permission denied"
done = command("mount", "demo:1", "mnt")
assert done.code == 4 and "ls, cat, find" in done.err and "COMMAND" not in done.err, done.err
done = command("mount", "demo:1", "mnt", "--", "true")
assert done.code == 4 and "/dev/fuse: Permission denied" in done.err, done.err
assert command.ok("cat", "demo:1", r"c:\\WINDOWS\\win.ini").out == b"[new]\\r\\n"
""",
        device=False,
    )


@pytest.mark.parametrize("device", [True, False])
def test_a_scratch_is_not_mounted_but_changed(loaded: Run, device: bool) -> None:
    loaded(
        """
command.ok("scratch", "create", "work", "demo:1")
done = command("scratch", "mount", "work", "mnt")
assert done.code == 4 and "scratch write" in done.err, done.err
assert command.json("mount") == []
command.ok("scratch", "mkdir", "work", "made")
assert command.json("scratch", "diff", "work") == [{"kind": "add", "path": "Files/made"}]
""",
        device=device,
    )


@pytest.mark.root
def test_a_store_belongs_to_one_user(loaded: Run, tmp_path: Path) -> None:
    def refused(done: Any) -> None:
        assert done.code == 4
        assert "belongs to uid" in done.err

    for arguments in (["images"], ["load", tmp_path / "oci"], ["prune"]):
        refused(Command(tmp_path / "store")(*arguments))
    assert not [path for path in (tmp_path / "store").rglob("*") if path.stat().st_uid == 0]
    # The user's process owns all that lies in its folder: so here a folder elsewhere.
    loaded("""
done = Command(Path("/"))("images")
assert done.code == 4 and "belongs to uid 0, and we are uid" in done.err, done.err
""")
