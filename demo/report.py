"""What the demonstration prints: one numbered step after another, what it proved, how long it took."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from windowsfilter.errors import WindowsFilterError

_WIDTH = 78


class CheckFailed(WindowsFilterError):
    """The program did something else than it promises."""


def check(condition: object, what: str) -> None:
    """Raise CheckFailed with `what` is wrong unless `condition` holds."""
    if not condition:
        raise CheckFailed(what)


class Reporter:
    """Prints steps as they end. `facts` are lines under the current step."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._began = time.monotonic()
        self._number = 0
        self._facts: list[str] = []

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """One step; when it ends, its time is printed beside its title, or that it failed."""
        self._number += 1
        self._facts = []
        began = time.monotonic()
        label = f"{self._number:2}. {title} "
        if self._out.isatty():
            print(label, end="\r", file=self._out, flush=True)
        try:
            yield
        except BaseException:
            self.line(f"{label:.<{_WIDTH - 8}}  FAILED")
            raise
        self.line(f"{label:.<{_WIDTH - 8}} {time.monotonic() - began:5.1f} s")
        for fact in self._facts:
            self.line(f"      {fact}")

    def fact(self, text: str) -> None:
        """Something the current step has shown."""
        self._facts.append(text)

    def line(self, text: str = "") -> None:
        """Print one line at once."""
        print(text, file=self._out, flush=True)

    def finish(self) -> None:
        """Print how long everything took."""
        self.line(f"\nEvery check held. {time.monotonic() - self._began:.0f} s in all.")
