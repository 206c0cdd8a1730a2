"""What the rows share: the corpus, the command under test, peers, and folders that are cleaned up."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench import corpus, measure
from bench.corpus import Corpus, Shape
from bench.measure import BenchError, Run
from bench.report import Report


class NotHereError(Exception):
    """A row cannot run on this machine; the message says why."""


@dataclass(kw_only=True)
class Session:
    """One run of the benchmark. Everything it makes lies below `work`."""

    work: Path
    shape: Shape
    runs: int
    command: list[str]
    report: Report
    say: Callable[[str], None]
    _serial: int = field(default=0, init=False)

    @property
    def scale(self) -> float:
        """How much of the full corpus this run has; targets in seconds are for all of it."""
        return self.shape.entries / corpus.FULL.entries

    def corpus(self, shape: Shape | None = None) -> Corpus:
        """The corpus, made on first use."""
        return corpus.ensure(self.work / "corpus", shape or self.shape)

    @contextmanager
    def folder(self, what: str) -> Iterator[Path]:
        """A new folder that is gone afterwards, with the mounts the command left in it."""
        self._serial += 1
        place = self.work / "tmp" / f"{os.getpid()}-{self._serial}-{what}"
        place.mkdir(parents=True)
        try:
            yield place
        finally:
            remove(place)

    def ours(self, root: Path, *arguments: str | Path, **options: bool) -> Run:
        """Run the command under test on a store."""
        return measure.run([*self.command, "--root", root, *arguments], **options)  # type: ignore[arg-type]

    def child(self, what: str, *arguments: str | Path) -> Run:
        """Run one of the programs of `bench.children`."""
        return measure.run([sys.executable, "-m", "bench.children", what, *arguments])

    def load(self, root: Path, layout: Path, *options: str, watch: bool = False) -> tuple[Run, str]:
        """Load an image; what it took, and the image's id."""
        took = self.ours(root, "load", "--json", *options, layout, watch=watch)
        return took, str(took.json()["images"][0]["id"])

    @contextmanager
    def mounted(self, root: Path, image: str, place: Path) -> Iterator[Run]:
        """An image mounted at `place`, which is made; what mounting took."""
        self.needs_root("mounting")
        place.mkdir(exist_ok=True)
        took = self.ours(root, "mount", image, place)
        try:
            yield took
        finally:
            self.ours(root, "umount", place)

    def peer(self, name: str) -> str:
        """The path of another tool. Raises NotHereError if it is not installed."""
        path = shutil.which(name)
        if path is None:
            raise NotHereError(f"{name} is not installed")
        return path

    def needs_root(self, what: str) -> None:
        if os.geteuid() != 0:
            raise NotHereError(f"{what} needs root")


def remove(place: Path) -> None:
    """Take a folder away; refuses to reach into something that is still mounted."""
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    left = [mount for mount in mounts if mount.startswith(f"{place}/")]
    if left:
        raise BenchError(f"still mounted: {', '.join(left)}")
    shutil.rmtree(place)
