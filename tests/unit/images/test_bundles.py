"""Files inside a directory or tar: nothing leads out of it, and links inside it work."""

from __future__ import annotations

import io
import os
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.images import archive, link
from windowsfilter.errors import FormatError, HostError, LimitExceeded
from windowsfilter.images import bundles
from windowsfilter.images.bundles import Bundle, DirectoryBundle, TarBundle, clean, read_whole

Make = Callable[[dict[str, bytes | tarfile.TarInfo]], Bundle]

FILES: dict[str, bytes | tarfile.TarInfo] = {
    "one": b"1",
    "folder/two": b"22" * 5000,
    "folder/inner/three": b"",
}


@pytest.fixture(params=["directory", "directory without openat", "tar file", "tar in memory"])
def make(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Make]:
    """Builds a bundle of each kind from the same members."""
    held = ExitStack()

    def directory(members: dict[str, bytes | tarfile.TarInfo]) -> Bundle:
        if not members:
            (tmp_path / "bundle").mkdir()
        for name, content in members.items():
            path = tmp_path / "bundle" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                path.write_bytes(content)
            elif content.issym():
                path.symlink_to(content.linkname)
            else:
                os.link(tmp_path / "bundle" / content.linkname, path)
        return DirectoryBundle(tmp_path / "bundle")

    def tar(members: dict[str, bytes | tarfile.TarInfo]) -> Bundle:
        data = archive(members)
        if request.param == "tar in memory":
            return TarBundle(io.BytesIO(data))
        path = tmp_path / "bundle.tar"
        path.write_bytes(data)
        return TarBundle(held.enter_context(path.open("rb")))

    if request.param == "directory without openat":
        monkeypatch.setattr(os, "supports_dir_fd", set())
    build = directory if request.param.startswith("directory") else tar

    def made(members: dict[str, bytes | tarfile.TarInfo]) -> Bundle:
        bundle = build(members)
        held.callback(bundle.close)
        return bundle

    with held:
        yield made


def test_files_are_found_by_name(make: Make) -> None:
    bundle = make(FILES)
    for name, content in FILES.items():
        assert isinstance(content, bytes)
        assert bundle.size(name) == len(content)
        assert bundle.size(f"./folder/../{name}") == len(content)
        with bundle.open(name) as stream:
            assert stream.read() == content


def test_what_is_not_there_has_no_size_and_does_not_open(make: Make) -> None:
    bundle = make(FILES)
    for name in ("two", "folder/one", "one/more", "folder/inner/three/four"):
        assert bundle.size(name) is None
        with pytest.raises(FormatError, match="missing"):
            bundle.open(name)


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../one", "folder/../../one", "..", ".", "", "a\0b", "C:\\x", "\\x"]
)
def test_names_that_leave_the_bundle_are_refused(make: Make, name: str) -> None:
    bundle = make(FILES)
    with pytest.raises(FormatError, match="not the name of a file inside"):
        bundle.size(name)
    with pytest.raises(FormatError, match="not the name of a file inside"):
        bundle.open(name)


def test_backslashes_of_docker_on_windows_are_slashes(make: Make) -> None:
    assert make(FILES).size("folder\\two") == 10_000
    assert clean("a\\b/./c") == "a/b/c"


def test_links_inside_are_followed(make: Make) -> None:
    bundle = make(
        {
            **FILES,
            "a/link": link("a/link", "../folder/two"),
            "b": link("b", "a/link"),
            "c/hard": link("c/hard", "folder/two", hard=True),
        }
    )
    for name in ("a/link", "b", "c/hard"):
        assert bundle.size(name) == 10_000
        with bundle.open(name) as stream:
            assert stream.read(3) == b"222"


@pytest.mark.parametrize("target", ["/etc/passwd", "../../outside", "../outside"])
def test_links_that_lead_out_are_refused(make: Make, target: str, tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(b"secret")
    bundle = make({**FILES, "bad": link("bad", target), "good": b"x"})
    assert bundle.size("good") == 1
    with pytest.raises(FormatError, match="bad is a link"):
        bundle.open("bad")


def test_links_in_a_circle_are_refused(make: Make) -> None:
    bundle = make({"a": link("a", "b"), "b": link("b", "a")})
    with pytest.raises((FormatError, HostError), match="links|open a"):
        bundle.size("a")


def test_a_dangling_link_is_a_missing_file(make: Make) -> None:
    assert make({**FILES, "a": link("a", "nowhere")}).size("a") is None


def test_streams_of_one_bundle_are_independent(make: Make) -> None:
    bundle = make({"x": bytes(range(256)) * 4096, "y": b"y" * 300_000})
    wrong: list[str] = []

    def read(name: str, expected: bytes) -> None:
        for _ in range(5):
            with bundle.open(name) as stream:
                if b"".join(iter(lambda: stream.read(7001), b"")) != expected:
                    wrong.append(name)

    threads = [
        threading.Thread(target=read, args=arguments)
        for arguments in (("x", bytes(range(256)) * 4096), ("y", b"y" * 300_000)) * 2
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_streams_seek_within_the_file(make: Make) -> None:
    with make({"x": b"0123456789", "z": b"zz"}).open("x") as stream:
        assert stream.seek(-3, os.SEEK_END) == 7
        assert stream.read() == b"789"
        assert stream.seek(2) == 2
        assert stream.read(3) == b"234"
        stream.seek(100)
        assert stream.read() == b""
        with pytest.raises((ValueError, OSError)):
            stream.seek(-1)


def test_reading_whole_is_bounded(make: Make) -> None:
    bundle = make(FILES)
    assert read_whole(bundle, "one", limit=1, what="one") == b"1"
    with pytest.raises(LimitExceeded, match="two is longer than 9999 bytes"):
        read_whole(bundle, "folder/two", limit=9_999, what="two")


def test_a_folder_in_the_place_of_a_file_is_refused_or_absent(tmp_path: Path) -> None:
    (tmp_path / "index.json").mkdir()
    bundle = DirectoryBundle(tmp_path)
    with pytest.raises(FormatError, match="not a regular file"):
        bundle.size("index.json")
    bundle.close()
    assert TarBundle(io.BytesIO(archive({"d/x": b""}))).size("d") is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this machine cannot make FIFOs")
def test_a_fifo_in_the_place_of_a_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "index.json")
    bundle = DirectoryBundle(tmp_path)
    with pytest.raises(FormatError, match="not a regular file"):
        bundle.open("index.json")
    bundle.close()


def test_no_descriptor_stays_open(tmp_path: Path) -> None:
    folders = Path("/proc/self/fd")
    if not folders.is_dir():
        pytest.skip("this machine cannot list descriptors")
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "x").write_bytes(b"")
    (tmp_path / "a" / "l").symlink_to("b/x")
    (tmp_path / "a" / "out").symlink_to("/etc/passwd")
    before = len(list(folders.iterdir()))
    bundle = DirectoryBundle(tmp_path)
    for name in ("a/b/x", "a/l", "a/b", "a/none", "a/out"):
        try:
            bundle.size(name)
            bundle.open(name).close()
        except FormatError:
            pass
    bundle.close()
    bundle.close()
    assert len(list(folders.iterdir())) == before


def test_of_members_of_one_name_the_last_counts() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for content in (b"first", b"second!"):
            info = tarfile.TarInfo("x")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    assert TarBundle(io.BytesIO(buffer.getvalue())).size("x") == 7


@pytest.mark.parametrize("cut", [1, 511, 513, 1000])
def test_a_truncated_tar_is_refused(cut: int) -> None:
    data = archive({"x": b"x" * 2000})[:2560]  # header, body, padding
    TarBundle(io.BytesIO(data))
    with pytest.raises(FormatError, match="truncated|ends") as caught:
        TarBundle(io.BytesIO(data[: 512 + 2000 - cut]))
    assert caught.value.offset is not None


def test_bodies_are_not_read_while_indexing() -> None:
    class Counting(io.BytesIO):
        taken = 0

        def read(self, size: int | None = -1, /) -> bytes:
            data = super().read(size)
            self.taken += len(data)
            return data

    stream = Counting(archive({"big": bytes(5 << 20), "small": b"x"}))
    assert TarBundle(stream).size("small") == 1
    assert stream.taken < 10_000


def test_a_tar_need_not_start_at_the_start_of_the_stream() -> None:
    stream = io.BytesIO(b"junk" + archive({"x": b"hello"}))
    stream.seek(4)
    bundle = TarBundle(stream)
    with bundle.open("x") as content:
        assert content.read() == b"hello"


def test_an_archive_with_too_many_members_is_no_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "MAX_MEMBERS", 10)
    TarBundle(io.BytesIO(archive({f"f{n}": b"" for n in range(10)})))
    with pytest.raises(LimitExceeded, match="a layer or a root file system"):
        TarBundle(io.BytesIO(archive({f"f{n}": b"" for n in range(11)})))


def test_an_archive_whose_names_would_fill_the_memory_is_refused() -> None:
    names = [f"{n}/" + "x" * 120_000 for n in range(600)]
    with pytest.raises(LimitExceeded, match=r"names of more than 67108864 bytes .*at byte"):
        TarBundle(io.BytesIO(archive(dict.fromkeys(names, b""))))


def test_a_sparse_member_is_refused_when_it_is_opened() -> None:
    info = tarfile.TarInfo("GNUSparseFile.0/x")
    body = b"1\n0\n3\n".ljust(512, b"\0") + b"abc"
    info.pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": "x",
        "GNU.sparse.realsize": "3",
    }
    info.size = len(body)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(info, io.BytesIO(body))
    bundle = TarBundle(io.BytesIO(buffer.getvalue()))
    with pytest.raises(FormatError, match="sparse"):
        bundle.open("x")
