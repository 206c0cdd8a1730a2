"""What a server process is told and what it says back, one line of JSON each way.

`serve_task` is the whole life of a mount, for whichever process it was started in.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import json
import os
import resource
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from windowsfilter.engines.portable import kernel
from windowsfilter.engines.portable.blobs import BlobManifest, LayerBlob
from windowsfilter.engines.portable.fuse import device as fuse_device
from windowsfilter.engines.portable.fuse.device import Way
from windowsfilter.engines.portable.fuse.nodes import Nodes, Presentation
from windowsfilter.engines.portable.fuse.server import serve
from windowsfilter.engines.portable.tree import Tree
from windowsfilter.engines.portable.view import View
from windowsfilter.errors import FormatError, HostError, StoreDamaged, UsageError

_KINDS = (UsageError, FormatError, StoreDamaged)
"""Errors that stay what they are between the processes; all others become HostError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A chain to be served at a directory."""

    layers: tuple[Path, ...]
    """Folders of the chain's blobs, the base first."""
    target: Path
    way: Way
    how: Presentation
    allow_other: bool = False
    command: tuple[str, ...] = ()
    """To be run inside the namespace, for the way NAMESPACE only."""

    def build(self) -> bytes:
        fields = {
            "layers": [os.fspath(layer) for layer in self.layers],
            "target": os.fspath(self.target),
            "way": self.way,
            "view": self.how.view,
            "overlay_lower": self.how.overlay_lower,
            "private": self.how.private,
            "streams": self.how.streams,
            "xattr_prefix": self.how.xattr_prefix.decode(),
            "owner": self.how.owner,
            "allow_other": self.allow_other,
            "command": self.command,
        }
        return json.dumps(fields).encode() + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> Self:
        """Only for what `build` of the same version made."""
        fields = json.loads(line)
        owner = fields["owner"]
        return cls(
            layers=tuple(map(Path, fields["layers"])),
            target=Path(fields["target"]),
            way=Way(fields["way"]),
            how=Presentation(
                view=View(fields["view"]),
                overlay_lower=fields["overlay_lower"],
                private=fields["private"],
                streams=fields["streams"],
                xattr_prefix=fields["xattr_prefix"].encode(),
                owner=owner and (owner[0], owner[1]),
            ),
            allow_other=fields["allow_other"],
            command=tuple(fields["command"]),
        )


@dataclass(frozen=True, slots=True)
class Report:
    """The mount works and `server` serves it, or `error` says why not."""

    server: int = 0
    error: str = ""
    kind: str = "HostError"
    errno: int = 0

    @classmethod
    def failure(cls, error: Exception) -> Self:
        kind = next((kind for kind in _KINDS if isinstance(error, kind)), HostError)
        text, number = str(error) or repr(error), 0
        if isinstance(error, OSError):
            number = error.errno or 0
            if isinstance(error, HostError):
                text = error.strerror or text  # without the number in front
        return cls(error=text, kind=kind.__name__, errno=number)

    def build(self) -> bytes:
        fields = [self.server, self.error, self.kind, self.errno]
        return json.dumps(fields).encode() + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> Self:
        """Only for what `build` of the same version made."""
        return cls(*json.loads(line))

    def check(self) -> int:
        """The server's process id; raises the error that it reported."""
        if not self.error:
            return self.server
        for kind in _KINDS:
            if kind.__name__ == self.kind:
                raise kind(self.error)
        raise HostError(self.errno or errno.EIO, self.error)


def serve_task(task: Task, ready: Callable[[], None]) -> None:
    """Mount, call `ready` once the mount works, return when it is unmounted.

    Whatever ends it earlier takes the mount out of sight first. Nothing is mounted if the chain
    cannot be read.
    """
    _raise_file_limit()
    with contextlib.ExitStack() as stack:
        layers = [stack.enter_context(_open_layer(folder)) for folder in task.layers]
        nodes = stack.enter_context(Nodes(Tree(layers), layers, task.how))
        gc.collect()
        # The tree has millions of objects and no cycles: looking through them costs seconds.
        gc.freeze()
        gc.disable()

        def begin() -> None:
            fuse_device.raise_read_ahead(task.target)
            ready()

        with _mounted(task) as device:
            serve(device, nodes, ready=begin)


@contextlib.contextmanager
def _mounted(task: Task) -> Iterator[int]:
    # An unprivileged mount is its owner's alone, and the bits of foreign tars mean nothing then.
    checked = task.allow_other or (task.way is Way.DIRECT and task.how.owner is None)
    by_program = task.way is Way.FUSERMOUNT
    mount = fuse_device.mount_fusermount if by_program else fuse_device.mount_direct
    device = mount(task.target, allow_other=task.allow_other, default_permissions=checked)
    try:
        yield device
    except BaseException:
        with contextlib.suppress(HostError):
            if by_program:
                fuse_device.unmount_fusermount(task.target, lazy=True)
            else:
                kernel.unmount(task.target, lazy=True)
        raise
    finally:
        os.close(device)


def _open_layer(folder: Path) -> LayerBlob:
    path = folder / "manifest.json"
    try:
        return LayerBlob(folder, BlobManifest.parse(path.read_bytes()))
    except FileNotFoundError as error:
        raise StoreDamaged(f"mount: {path} is missing") from error
    except FormatError as error:
        raise StoreDamaged(f"mount: {path}: {error}") from error


def _raise_file_limit() -> None:
    """A chain of 500 layers needs up to 1,500 open files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
