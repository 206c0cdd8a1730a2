"""Paths into a chain: Windows separators, any case, links, streams, globs, reading."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.chains import (
    OWNER_SYSTEM,
    Blobs,
    Entry,
    file,
    folder,
    hard_link,
    junction,
    symlink,
    whiteout,
)
from windowsfilter.engines.portable.view import View
from windowsfilter.errors import EntryNotFound, UsageError
from windowsfilter.store.chain import Chain
from windowsfilter.store.paths import LayerPath
from windowsfilter.store.stats import EntryType

Open = Callable[..., LayerPath]

BASE = [
    folder("Files"),
    folder("Files/Windows", sd=OWNER_SYSTEM),
    folder("Files/Windows/System32"),
    file("Files/Windows/System32/cmd.exe", b"MZ" + bytes(range(256)) * 40, attributes=0x27),
    file("Files/Windows/System32/cmd.exe:Zone.Identifier", b"[Zone]", attributes=None),
    file("Files/Windows/win.ini", b"; for 16-bit app support\r\n"),
    hard_link("Files/Windows/hard.ini", "Files/Windows/win.ini"),
    junction("Files/Documents and Settings", r"C:\Users"),
    folder("Files/Users"),
    folder("Files/Users/Public"),
    file("Files/Users/Public/日本語.txt", "こんにちは".encode()),
    symlink("Files/Users/up", r"..\Windows\win.ini"),
    symlink("Files/Users/loop", "loop"),
    symlink("Files/Users/share", r"\\server\share"),
    symlink("Files/Users/outside", r"..\..\..\Hives\System_Delta"),
    hard_link("Files/Users/lost", "Files/Users/nowhere"),
    file("Hives/System_Delta", b"regf"),
]
UPPER = [file("Files/WINDOWS/WIN.INI", b"changed"), whiteout("Files/users/PUBLIC/日本語.TXT")]


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Open]:
    opened: list[Chain] = []
    blobs = Blobs(tmp_path)

    def make(*layers: list[Entry], view: View = View.VOLUME) -> LayerPath:
        diff_ids = []
        for layer in layers or (BASE,):
            with blobs.add(layer) as blob:
                diff_ids.append(blob.diff_id)
        chain = Chain(blobs.store, diff_ids, [f"layer{n}" for n in range(len(diff_ids))])
        opened.append(chain)
        return LayerPath(chain, view)

    yield make
    for chain in opened:
        chain.close()


@pytest.mark.parametrize(
    "spelling",
    [
        r"Windows\System32\cmd.exe",
        "windows/SYSTEM32/CMD.EXE",
        r"C:\Windows\System32\cmd.exe",
        "c:/windows/system32/cmd.exe",
        r"\WINDOWS\.\system32\..\System32\\cmd.exe",
    ],
)
def test_a_file_is_found_however_its_path_is_spelled(root: Open, spelling: str) -> None:
    path = root() / spelling
    assert path.exists() and path.is_file() and not path.is_dir()
    assert path.read_bytes()[:2] == b"MZ"
    assert str(path.resolve()) == r"C:\Windows\System32\cmd.exe"


def test_parts_and_names_are_those_of_pathlib(root: Open) -> None:
    path = root() / r"Windows\archive.tar.gz"
    assert (path.name, path.stem, path.suffix) == ("archive.tar.gz", "archive.tar", ".gz")
    assert path.parent == root().__class__(path._chain, View.VOLUME) / "WINDOWS"
    assert path.parts == ("Windows", "archive.tar.gz")
    assert str(path.with_name("x")) == r"C:\Windows\x"
    assert str(root()) == "C:\\"
    assert str(root(view=View.LAYER) / "Hives/x") == r"Hives\x"
    assert str(root() / "a" / r"C:\b") == r"C:\b"


def test_other_drives_and_device_paths_are_refused(root: Open) -> None:
    for text in (r"D:\x", r"\\.\PhysicalDrive0", r"\\?\C:\x", r"\??\C:\x"):
        with pytest.raises(UsageError):
            root() / text


def test_a_path_cannot_climb_out_of_its_view(root: Open) -> None:
    assert not (root() / r"..\Hives").exists()
    assert not (root() / "../../Hives/System_Delta").exists()
    assert (root(view=View.LAYER) / "Hives/system_delta").read_bytes() == b"regf"
    with pytest.raises(EntryNotFound):
        (root() / r"Users\outside").read_bytes()


def test_links_are_followed_like_windows_does(root: Open) -> None:
    assert (root() / r"Users\up").read_text().startswith("; for 16-bit")
    assert (root() / r"Documents and Settings\Public").is_dir()
    assert (root() / "Documents and Settings").is_junction()
    assert (root() / r"Users\up").is_symlink()
    assert (root() / r"Users\up").readlink() == r"..\Windows\win.ini"
    for dead in ("loop", "share", "outside"):
        assert not (root() / "Users" / dead).exists()
        assert (root() / "Users" / dead).exists(follow_symlinks=False)


def test_streams_are_files_of_their_own(root: Open) -> None:
    owner = root() / r"windows\system32\CMD.exe"
    assert [(stream.name, stream.size) for stream in owner.streams()] == [("Zone.Identifier", 6)]
    for name in ("Zone.Identifier", "zone.IDENTIFIER", "Zone.Identifier:$DATA"):
        assert owner.with_name(f"cmd.exe:{name}").read_bytes() == b"[Zone]"
    assert not owner.with_name("cmd.exe:other").exists()


def test_stat_tells_everything_a_layer_says(root: Open) -> None:
    stat = (root() / "windows").stat()
    assert stat.type is EntryType.DIRECTORY
    assert stat.security_descriptor == OWNER_SYSTEM
    found = (root() / r"Windows\System32\cmd.exe").stat().to_json()
    assert found["type"] == "file" and found["size"] == 10_242
    assert found["attributes"] == 0x27
    assert found["last_write_time"] == 131_204_736_001_234_567
    assert found["creation_time"] == 130_444_736_007_654_321
    assert found["layer"] == "layer0"
    assert found["streams"] == [{"name": "Zone.Identifier", "size": 6}]
    assert found["hard_links"] == 1
    assert found["pax"]["MSWINDOWS.fileattr"] == "39"
    assert found["security_descriptor"] is None
    assert (root() / r"Windows\win.ini").stat().hard_links == 2
    assert (root() / "Documents and Settings").lstat().link_target == r"C:\Users"


def test_stat_says_which_layer_an_entry_comes_from(root: Open) -> None:
    top = root(BASE, UPPER)
    assert (top / r"Windows\win.ini").stat().layer == "layer1"
    assert (top / r"Windows\System32\cmd.exe").stat().layer == "layer0"
    assert (top / r"Windows\win.ini").read_bytes() == b"changed"
    assert (top / r"Windows\hard.ini").read_bytes().startswith(b"; for")
    assert not (top / r"Users\Public\日本語.txt").exists()


def test_a_dangling_hard_link_is_listed_but_cannot_be_read(root: Open) -> None:
    users = root() / "Users"
    assert "lost" in [path.name for path in users.iterdir()]
    assert (users / "lost").stat().dangling
    with pytest.raises(UsageError):
        (users / "lost").open()


def test_missing_entries_and_wrong_kinds_raise(root: Open) -> None:
    with pytest.raises(EntryNotFound):
        (root() / "nope").stat()
    with pytest.raises(UsageError):
        (root() / "Windows").open()
    with pytest.raises(UsageError):
        list((root() / r"Windows\win.ini").iterdir())
    with pytest.raises(UsageError):
        (root() / r"Windows\win.ini").open("wb")  # type: ignore[arg-type]


def test_files_are_seekable(root: Open) -> None:
    with (root() / r"Windows\System32\cmd.exe").open() as exe:
        whole = exe.read()
        exe.seek(-10, io.SEEK_END)
        assert exe.read() == whole[-10:]
        exe.seek(100)
        assert exe.read(5) == whole[100:105]
        assert exe.seek(10**9) == 10**9
        assert exe.read() == b""


def test_glob_and_walk_ignore_case(root: Open) -> None:
    assert [str(path) for path in root().glob("win*/SYSTEM32/*.EXE")] == [
        r"C:\Windows\System32\cmd.exe"
    ]
    assert {path.name for path in root().rglob("*.ini")} == {"win.ini", "hard.ini"}
    assert [str(path) for path in root().glob("**/[c]md.ex?")] == [r"C:\Windows\System32\cmd.exe"]
    assert {str(path) for path in root().glob("Users/**")} == {r"C:\Users", r"C:\Users\Public"}
    walked = {str(path): (dirs, files) for path, dirs, files in root().walk()}
    assert walked[r"C:\Windows"] == (["System32"], ["win.ini", "hard.ini"])
    assert len(walked) == 5


def test_a_layer_without_files_has_an_empty_volume(root: Open) -> None:
    assert not root([file("Hives/x")]).exists()
    assert list(root([file("Hives/x")]).glob("*")) == []


def test_names_of_lone_surrogates_can_be_used(root: Open) -> None:
    path = root([file(b"Files/\xed\xa0\x80")])
    (found,) = path.iterdir()
    assert found.name == "\ud800"
    assert (path / found.name).exists()
