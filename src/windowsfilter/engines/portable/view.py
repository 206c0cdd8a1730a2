"""Which part of the layers a path or a mount starts at."""

from __future__ import annotations

from enum import StrEnum
from typing import Never

from windowsfilter.errors import UsageError


class View(StrEnum):
    """What is shown as the root."""

    VOLUME = "volume"
    """What a container sees as `C:\\`: the tar's `Files`."""
    LAYER = "layer"
    """Everything in the tar: `Files`, `Hives`, `UtilityVM`."""

    @classmethod
    def _missing_(cls, value: object) -> Never:
        raise UsageError(f"no view {value!r}; there are volume and layer")
