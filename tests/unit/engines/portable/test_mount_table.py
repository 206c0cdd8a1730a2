"""Lines of the kernel's table, as it spells them."""

from pathlib import Path

import pytest

from windowsfilter.engines.portable import mount_table
from windowsfilter.engines.portable.mount_table import Mounted

CHAINS = Path("/var/lib/w f/chains")
LINES = {
    "an image": (
        rb"41 28 0:40 /Files /mnt/a\040b ro - erofs /var/lib/w\040f/chains/0a1b/image ro,user_xattr",
        Mounted(Path("/mnt/a b"), "erofs", "/var/lib/w f/chains/0a1b/image", "/Files"),
        "0a1b",
    ),
    "somebody's image": (
        b"41 28 0:40 / /mnt ro shared:1 - erofs /srv/image ro",
        Mounted(Path("/mnt"), "erofs", "/srv/image"),
        None,
    ),
    "a scratch": (
        b"42 28 0:41 / /mnt rw,nosuid master:3 - overlay windowsfilter:77aa rw,lowerdir=/x",
        Mounted(Path("/mnt"), "overlay", "windowsfilter:77aa"),
        "77aa",
    ),
    "somebody's overlay": (
        b"42 28 0:41 / /mnt rw - overlay overlay rw",
        Mounted(Path("/mnt"), "overlay", "overlay"),
        None,
    ),
    "our server": (
        b"43 28 0:42 / /mnt ro - fuse.windowsfilter windowsfilter ro",
        Mounted(Path("/mnt"), "fuse.windowsfilter", "windowsfilter"),
        "windowsfilter",
    ),
    "a disk": (
        b"28 1 8:1 / / rw - ext4 /dev/sda1 rw",
        Mounted(Path("/"), "ext4", "/dev/sda1"),
        None,
    ),
}


@pytest.mark.parametrize(("line", "mounted", "name"), LINES.values(), ids=LINES)
def test_lines_are_read_and_ours_are_known(line, mounted, name, tmp_path, monkeypatch):
    (tmp_path / "mountinfo").write_bytes(line + b"\nnonsense\n")
    monkeypatch.setattr(mount_table, "_TABLE", tmp_path / "mountinfo")
    assert mount_table.read() == [mounted]
    assert mount_table.at(mounted.place) == mounted
    assert mount_table.at(Path("/elsewhere")) is None
    assert mounted.name(CHAINS) == name
    assert mounted.is_fuse == (mounted.kind == "fuse.windowsfilter")


def test_the_topmost_mount_counts(tmp_path, monkeypatch):
    lines = [line for line, mounted, _ in LINES.values() if mounted.place == Path("/mnt")]
    (tmp_path / "mountinfo").write_bytes(b"\n".join(lines))
    monkeypatch.setattr(mount_table, "_TABLE", tmp_path / "mountinfo")
    top = mount_table.at(Path("/mnt"))
    assert top is not None and top.is_fuse


def test_without_a_table_nothing_is_mounted(tmp_path, monkeypatch):
    monkeypatch.setattr(mount_table, "_TABLE", tmp_path / "none")
    assert mount_table.read() == []
