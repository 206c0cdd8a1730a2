"""crane accepts what we write. Few systems package it; CI unpacks it from a later suite."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.images import Layout, export_of
from windowsfilter.images.sources import open_source
from windowsfilter.images.writing import write_docker_archive
from windowsfilter.wire.compression import Compression


# Not zstd: crane 0.20 takes every packed layer of a tarball for gzip.
@pytest.mark.parametrize("packing", [None, Compression.NONE, Compression.GZIP])
def test_crane_validates_our_docker_archives(tmp_path: Path, packing: Compression | None) -> None:
    crane = shutil.which("crane")
    if crane is None:
        pytest.skip("this machine cannot run crane: its packages do not include it")
    layout = Layout()
    layout.add(layout.image(), ref="win:1")
    with open_source(layout.write(tmp_path / "made")) as source:
        image = export_of(source.images[0])
    write_docker_archive(tmp_path / "ours.tar", [image], compression=packing)
    done = subprocess.run(
        [crane, "validate", "--tarball", str(tmp_path / "ours.tar")],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert "PASS" in done.stdout + done.stderr
