"""Python code run by a user without privileges, who may open /dev/fuse as on a desktop.

Where the tests run as root, in a mount namespace of its own: there /dev/fuse is a device that
everybody may open, and what the code needs can be reached even if it lies in root's home.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

from windowsfilter.engines.portable import kernel
from windowsfilter.engines.portable.kernel import FilesystemContext, MountAttribute

REPOSITORY = Path(__file__).resolve().parents[2]
UID = GID = 65534  # nobody: fusermount3 wants a user that has a name
_FUSE_DEVICE = (10, 229)
_CLONE_NEWNS = 0x20000
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000


def ids() -> tuple[int, int]:
    """uid and gid of the code."""
    return (UID, GID) if os.geteuid() == 0 else (os.geteuid(), os.getegid())


def run(
    code: str, folder: Path, *arguments: str | Path, device: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run `code` with `arguments` (from sys.argv[1]), in and as the owner of `folder`.

    Without `device` only root may open /dev/fuse. The code's failure is an AssertionError.
    """
    words = [sys.executable, "-c", code, *map(str, arguments)]
    if os.geteuid() == 0:
        task = json.dumps([str(folder), device, words])
        words = [sys.executable, "-m", "tests.support.unprivileged", task]
    result = subprocess.run(
        words,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result


def main() -> None:
    folder, device, words = json.loads(sys.argv[1])
    for above, names, files in os.walk(folder):
        for name in [".", *names, *files]:
            shutil.chown(os.path.join(above, name), UID, GID)
    _private_namespace()
    _make_device(0o666 if device else 0o600)
    _expose([Path(path) for path in (sys.prefix, sys.base_prefix, REPOSITORY, folder)])
    os.environ["HOME"] = folder
    os.environ["TMPDIR"] = folder
    os.chdir(folder)
    os.setgroups([])
    os.setresgid(GID, GID, GID)
    os.setresuid(UID, UID, UID)
    os.execv(words[0], words)


def _private_namespace() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS) or libc.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None):
        raise OSError(ctypes.get_errno(), "cannot make a mount namespace")


def _tmpfs() -> int:
    with FilesystemContext("tmpfs") as context:
        context.string("mode", "0755")
        return context.mount(MountAttribute(0))


def _make_device(mode: int) -> None:
    """Put a device of our own over /dev/fuse: modes of the real one concern everybody."""
    mount = _tmpfs()
    place = Path("/dev/shm")  # any directory will do, nobody else sees this
    kernel.attach(mount, place)
    os.mknod(place / "fuse", stat.S_IFCHR | mode, os.makedev(*_FUSE_DEVICE))
    os.chmod(place / "fuse", mode)
    above = os.open(place, os.O_PATH)
    kernel.attach(kernel.clone_tree(above, b"fuse"), "/dev/fuse")


def _expose(paths: list[Path]) -> None:
    """Let everybody reach `paths`: directories above that let nobody in are replaced."""
    closed: dict[Path, list[tuple[Path, int]]] = {}
    root = os.open("/", os.O_PATH)
    for path in dict.fromkeys(path.resolve() for path in paths):
        for above in reversed(path.parents):
            if not above.stat().st_mode & stat.S_IXOTH:
                mount = kernel.clone_tree(root, os.fsencode(path)[1:])
                closed.setdefault(above, []).append((path, mount))
                break
    for above, inside in closed.items():
        kernel.attach(_tmpfs(), above)
        for path, mount in inside:
            path.mkdir(parents=True, exist_ok=True)
            kernel.attach(mount, path)


if __name__ == "__main__":
    main()
