"""podman loads what we write and we read what it saves, with a storage of its own."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.images import LAYERS, Layout, contents, export_of
from windowsfilter.images.sources import open_source
from windowsfilter.images.writing import write_docker_archive, write_oci_layout
from windowsfilter.wire.compression import Compression

Podman = Callable[..., str]

pytestmark = pytest.mark.root  # without it podman needs subordinate ids, which are the machine's


@pytest.fixture
def podman(program: Callable[[str], str]) -> Iterator[Podman]:
    path = program("podman")
    # podman refuses a run root of more than 50 characters.
    with tempfile.TemporaryDirectory(prefix="wf") as storage:
        home = Path(storage, "home")
        home.mkdir()
        policy = home / "policy.json"
        policy.write_text('{"default":[{"type":"insecureAcceptAnything"}]}')
        # The default would stay behind in /dev/shm.
        settings = home / "containers.conf"
        settings.write_text('[engine]\nlock_type = "file"\n')

        def run(*arguments: str) -> str:
            if arguments[0] == "load":
                arguments = ("load", "--signature-policy", str(policy), *arguments[1:])
            done = subprocess.run(
                [
                    path,
                    *("--root", f"{storage}/root"),
                    *("--runroot", f"{storage}/run"),
                    *("--tmpdir", f"{storage}/tmp"),
                    *("--storage-driver", "vfs", "--events-backend", "none"),
                    *("--cgroup-manager", "cgroupfs"),
                    *arguments,
                ],
                check=False,
                capture_output=True,
                text=True,
                timeout=120,
                env={
                    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
                    "HOME": str(home),
                    "TMPDIR": storage,
                    "CONTAINERS_CONF": str(settings),
                },
            )
            assert done.returncode == 0, done.stderr
            return done.stdout

        yield run


def load(podman: Podman, path: Path) -> str:
    """Load an image; returns its id."""
    podman("load", "--input", str(path))
    return podman("images", "--no-trunc", "--quiet").strip()


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    made = Layout()
    made.add(made.image(), ref="example.com/win:1")
    return made.write(tmp_path / "made")


@pytest.mark.parametrize("packing", list(Compression))
@pytest.mark.parametrize("form", ["oci-archive", "oci-dir", "docker-archive"])
def test_podman_loads_what_we_write(
    podman: Podman, layout: Path, tmp_path: Path, form: str, packing: Compression
) -> None:
    target = tmp_path / "ours"
    with open_source(layout) as source:
        image = export_of(source.images[0])
        digest = source.images[0].config.digest
    if form == "docker-archive":
        write_docker_archive(target, [image], compression=packing)
    else:
        write_oci_layout(target, [image], directory=form == "oci-dir", compression=packing)
    assert load(podman, target) == digest
    if form != "oci-dir":
        assert "example.com/win:1" in podman("images", "--format", "{{.Repository}}:{{.Tag}}")


@pytest.mark.parametrize("form", ["oci-archive", "oci-dir", "docker-archive", "docker-dir"])
def test_we_read_what_podman_saves(podman: Podman, layout: Path, tmp_path: Path, form: str) -> None:
    with open_source(layout) as source:
        write_docker_archive(tmp_path / "ours.tar", [export_of(source.images[0])])
        config = source.images[0].config
    load(podman, tmp_path / "ours.tar")
    target = tmp_path / "theirs"
    podman("save", "--format", form, "--output", str(target), "example.com/win:1")
    with open_source(target) as source:
        (image,) = source.images
        assert contents(image) == list(LAYERS)
        assert image.config.raw == config.raw
        if form != "docker-dir":
            assert image.references == ("example.com/win:1",)
