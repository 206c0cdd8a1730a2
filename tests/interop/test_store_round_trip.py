"""A store's images go through skopeo and umoci and come back with every byte of metadata."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import images
from tests.support.chains import OWNER_SYSTEM, file, folder, junction, tar, whiteout
from windowsfilter import Image, Store

BASE = tar(
    [
        folder("Files", sd=OWNER_SYSTEM),
        folder("Files/Windows"),
        file("Files/Windows/a.exe", b"MZ" * 700, sd=OWNER_SYSTEM, attributes=0x26),
        file("Files/Windows/a.exe:zone", b"[Zone]", attributes=None),
        file("Files/old", records={b"MSWINDOWS.xattr.EA": b"dmFsdWU=", b"OUR.own": b"kept"}),
        junction("Files/Link", r"C:\Windows"),
    ]
)
CHILD = tar([folder("Files"), whiteout("Files/OLD"), file("Files/new", b"new")])


def described(image: Image) -> dict[str, object]:
    return {
        str(path / name): (path / name).lstat().to_json()
        for path, folders, files in image.layer_path().walk()
        for name in (*folders, *files)
    }


@pytest.mark.parametrize("through", ["docker-archive:back.tar", "oci:back", "oci-archive:back.tar"])
def test_skopeo_passes_our_layers_on(
    program: Callable[[str], str], tmp_path: Path, through: str
) -> None:
    made = images.Layout()
    made.add(made.image([BASE, CHILD]), name="win:1")
    with Store(tmp_path / "one") as store, Store(tmp_path / "two") as other:
        image = store.load(made.write(tmp_path / "layout"))
        store.save(["win:1"], tmp_path / "ours.tar")
        kind, _, place = through.partition(":")
        name = ":win:1" if kind == "docker-archive" else ":1"
        subprocess.run(
            [
                program("skopeo"),
                *("--insecure-policy", "--override-os", "windows", "copy"),
                f"oci-archive:{tmp_path / 'ours.tar'}:1",
                f"{kind}:{tmp_path / place}{name}",
            ],
            check=True,
            capture_output=True,
            timeout=120,
            env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "TMPDIR": str(tmp_path)},
        )
        back = other.load(tmp_path / place)
        assert [layer.diff_id for layer in back.layers] == [layer.diff_id for layer in image.layers]
        assert described(back) == described(image)


def test_umoci_sees_our_files(program: Callable[[str], str], tmp_path: Path) -> None:
    made = images.Layout()
    made.add(made.image([BASE, CHILD]), name="win:1")
    with Store(tmp_path / "one") as store:
        store.load(made.write(tmp_path / "layout"))
        store.save(["win:1"], f"{tmp_path / 'ours'}{os.sep}")
    subprocess.run(
        [
            program("umoci"),
            "raw",
            "unpack",
            "--rootless",
            "--image",
            f"{tmp_path / 'ours'}:1",
            str(tmp_path / "root"),
        ],
        check=True,
        capture_output=True,
        timeout=120,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
    )
    assert (tmp_path / "root/Files/Windows/a.exe").read_bytes() == b"MZ" * 700
    assert (tmp_path / "root/Files/new").read_bytes() == b"new"
