"""FUSE mounts without root: by fusermount3, and in a user namespace of one's own."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import chains, fuse_chains, unprivileged
from windowsfilter.engines.portable.fuse import device as fuse_device
from windowsfilter.engines.portable.fuse.device import Way

HEAD = """
import os, subprocess, sys
from contextlib import ExitStack
from pathlib import Path
from tests.support import fuse_chains
from windowsfilter.engines.portable.fuse import mount as fuse_mount
from windowsfilter.engines.portable.fuse.task import _open_layer
from windowsfilter.engines.portable.tree import Tree
from windowsfilter.errors import HostError

me = (os.geteuid(), os.getegid())
assert me[0]
place, *folders = map(Path, sys.argv[1:])

def same(root):
    with ExitStack() as stack:
        tree = Tree([stack.enter_context(_open_layer(folder)) for folder in folders])
        found = fuse_chains.expected(tree, tree.lookup(b"Files"), owner=me)
        assert fuse_chains.seen(root) == found
        assert len(found) > 10
    names = {f"user.windows.{key}" for key in ("attr", "crtime", "entry")}
    assert names <= set(os.listxattr(Path(root, "plain").with_name("mode")))
    assert os.getxattr(Path(root, "b.txt"), "user.windows.attr") == bytes([0x21, 0, 0, 0])

def refused(call):
    try:
        call()
    except HostError as error:
        return error.strerror or str(error)
    raise AssertionError("not refused")
"""

Run = Callable[..., str]


@pytest.fixture
def run(tmp_path) -> Run:
    """Run code that gets a mount point and the blobs of a chain; its output."""
    place = tmp_path / "mnt"
    place.mkdir()
    with chains.Blobs(tmp_path / "store").chain(fuse_chains.BASE, fuse_chains.CHILD) as chain:
        folders = [layer.directory for layer in chain]

    def start(code: str, **options: bool) -> str:
        return unprivileged.run(HEAD + code, tmp_path, place, *folders, **options).stdout

    return start


def needs(way: Way, *, device: bool = True) -> None:
    """Skip what a user without privileges cannot do here, whatever root may do."""
    if os.geteuid() and device and fuse_device.reason(way):
        pytest.skip(f"this machine cannot mount without root: {fuse_device.reason(way)}")
    if os.geteuid() == 0 and fuse_device.reason(Way.DIRECT):
        pytest.skip(f"this machine cannot mount by FUSE: {fuse_device.reason(Way.DIRECT)}")
    if way is Way.FUSERMOUNT and fuse_device.find_fusermount() is None:
        pytest.skip("fusermount3 is not installed")
    limit = Path("/proc/sys/user/max_user_namespaces")
    if way is Way.NAMESPACE and limit.exists() and limit.read_text().strip() == "0":
        pytest.skip("this machine cannot make user namespaces")


def test_fusermount_mounts_for_the_user_alone(run):
    needs(Way.FUSERMOUNT)
    run("""
assert fuse_mount.probe() is None
mount = fuse_mount.mount(folders, place)
same(place)
assert Path(place, "WINDOWS/A.TXT").read_bytes() == b"changed"
line = next(line for line in open("/proc/self/mounts") if f" {place} " in line)
assert line.startswith("windowsfilter ")
assert {"ro", "nosuid", "nodev", f"user_id={me[0]}"} <= set(line.split()[3].split(","))
with open(place / "b.txt"):
    assert "busy" in refused(lambda: fuse_mount.unmount(place, server=mount.server))
fuse_mount.unmount(place, server=mount.server)
assert os.listdir(place) == []
line = Path(f"/proc/{mount.server}/cmdline")
assert not line.exists() or not line.read_bytes(), "the server still runs"
assert "unmount" in refused(lambda: fuse_mount.unmount(place))
""")


def test_a_terminated_server_unmounts_by_fusermount(run):
    needs(Way.FUSERMOUNT)
    run("""
import select, signal
mount = fuse_mount.mount(folders, place)
waiting = os.pidfd_open(mount.server)
os.kill(mount.server, signal.SIGTERM)
assert select.select([waiting], [], [], 30)[0]
assert os.listdir(place) == []
""")


def test_fusermounts_own_refusals_are_passed_on(run):
    needs(Way.FUSERMOUNT)
    said = run("""
os.chmod(place, 0o500)
print(refused(lambda: fuse_mount.mount(folders, place)))
os.chmod(place, 0o700)
print(refused(lambda: fuse_mount.mount(folders, Path("/usr"))))
""")
    for line in said.splitlines():
        assert line.startswith("mount at /")
        assert "fusermount" in line


def test_a_private_mount_is_read_through_proc(run):
    needs(Way.NAMESPACE)
    run("""
assert fuse_mount.probe_private() is None
with fuse_mount.private_mount(folders) as root:
    same(root)
    assert str(root).startswith("/proc/")
    shown = subprocess.run(["cat", root / "WINDOWS/A.TXT"], capture_output=True, check=True)
    assert shown.stdout == b"changed"
    server = int(root.parts[2])
    assert root.name not in open("/proc/self/mounts").read()
assert not root.exists()
assert not os.path.exists(f"/proc/{server}")
assert not os.path.exists(os.path.join("/", *root.parts[4:]))
with fuse_mount.private_mount(folders, view="layer", streams=True) as root:
    assert sorted(os.listdir(root)) == ["Files", "Hives", "UtilityVM"]
    assert Path(root, "Files/Windows/a.txt:Zone.Identifier").exists() is False
""")


def test_a_private_mount_ends_with_its_owner(run):
    needs(Way.NAMESPACE)
    run("""
import select
code = '''
import os, sys
from pathlib import Path
from windowsfilter.engines.portable.fuse import mount as fuse_mount
with fuse_mount.private_mount([Path(sys.argv[1])]) as root:
    print(root.parts[2], flush=True)
    sys.stdin.read()
'''
words = [sys.executable, "-c", code, str(folders[0])]
with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
    waiting = os.pidfd_open(int(owner.stdout.readline()))
    owner.kill()
    owner.wait()
    assert select.select([waiting], [], [], 30)[0]
""")


def test_a_command_runs_where_the_chain_is_mounted(run):
    needs(Way.NAMESPACE)
    said = run("""
place = Path(os.path.relpath(place))
command = ["sh", "-c", "id -u; cat WINDOWS/A.TXT; stat -c %u mode; exit 7"]
os.chdir(place.parent)
assert fuse_mount.run(folders, place, ["sh", "-c", f"cd {place}; " + command[2]]) == 7
assert os.listdir(place) == []
assert fuse_mount.run(folders, place, ["sh", "-c", "kill -TERM $$"]) == 128 + 15
print(refused(lambda: fuse_mount.run(folders, place, ["no such command"])))
print(refused(lambda: fuse_mount.run([Path("nothing")], place, ["true"])))
""")
    uid = unprivileged.ids()[0]
    lines = said.splitlines()
    assert lines[0] == str(uid)
    assert lines[1] == f"changed{uid}"
    assert lines[2] == "run no such command: No such file or directory"
    assert lines[3].endswith("nothing/manifest.json is missing")


def test_reasons_are_given_where_the_device_is_roots_alone(run):
    needs(Way.NAMESPACE, device=False)
    if os.geteuid():
        pytest.skip("needs root")  # to take the device away
    said = run(
        """
print(fuse_mount.probe())
print(fuse_mount.probe_private())
print(refused(lambda: fuse_mount.mount(folders, place)))
print(refused(lambda: fuse_mount.run(folders, place, ["true"])))
print(refused(lambda: fuse_mount.private_mount(folders).__enter__()))
""",
        device=False,
    )
    assert len(said.splitlines()) == 5
    assert all("/dev/fuse: Permission denied" in line for line in said.splitlines())
