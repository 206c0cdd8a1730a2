"""How many files this process may have open: as many as the system lets it.

A chain of hundreds of layers needs a few descriptors for each, and the usual soft limit of 1,024 is
only there for programs that use select(2).
"""

from __future__ import annotations

import contextlib


def raise_limit() -> None:
    """Raise the soft limit to the hard one; nothing happens where that is not possible."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
