"""What the library logs, as messages on stderr."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from windowsfilter.ui.output import complain

_LEVELS = {-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO}


class _Messages(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        try:
            complain(f"{record.levelname.lower()}: {self.format(record)}")
        except (OSError, ValueError):
            self.handleError(record)


@contextmanager
def shown(name: str, verbosity: int) -> Iterator[None]:
    """Show what the logger `name` gets: warnings, with 1 what is done, with 2 every step.

    -1 shows errors only. The logger is afterwards what it was.
    """
    logger, handler = logging.getLogger(name), _Messages()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(_LEVELS.get(verbosity, logging.DEBUG))
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
