"""What the global options and the environment say, and the store that follows from them."""

from __future__ import annotations

import os
import sys
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from windowsfilter.errors import UsageError
from windowsfilter.ui.output import Output

if TYPE_CHECKING:
    from windowsfilter.store.store import Store

ROOT_VARIABLE = "WINDOWSFILTER_ROOT"
_SYSTEM_ROOT = Path("/var/lib/windowsfilter")
_NAME = "windowsfilter"


@dataclass(slots=True)
class Settings:
    """The global options of one run, wherever on the command line they stood."""

    root: Path | None = None
    mount_engine: str | None = None
    out: Output = field(default_factory=Output)
    closing: ExitStack = field(default_factory=ExitStack)
    """What ends with the run."""

    def store(self, *, create: bool = False) -> Store:
        """Open the store. Close it: a context manager.

        `create` for commands that make sense without one, which then is made.
        """
        from windowsfilter.store.store import Store

        self.closing.enter_context(_logged(self.out.verbosity))
        root = self.root or default_root()
        return Store(root, create=create, mount_engine=self.mount_engine)


def _logged(verbosity: int) -> AbstractContextManager[None]:
    from windowsfilter.ui import log

    return log.shown(_NAME, verbosity)


def default_root() -> Path:
    """WINDOWSFILTER_ROOT, else /var/lib/windowsfilter for root and the user's data folder."""
    chosen = os.environ.get(ROOT_VARIABLE)
    if chosen:
        return Path(chosen)
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return _SYSTEM_ROOT
    return _user_data() / _NAME


def _user_data() -> Path:
    """Where this system keeps what programs store for a user."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or _home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return _home() / "Library" / "Application Support"
    # The XDG base directory specification: a relative path is invalid and ignored.
    chosen = Path(os.environ.get("XDG_DATA_HOME", ""))
    return chosen if chosen.is_absolute() else _home() / ".local" / "share"


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:
        raise UsageError(
            f"this user has no home directory to keep a store in: use --root or ${ROOT_VARIABLE}"
        ) from None
