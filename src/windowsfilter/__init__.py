"""windowsfilter keeps Windows container layers: on any operating system, without unpacking them.

The names below are the library. They are imported when first used, so that a program which needs
little of it (`windowsfilter --help`) starts quickly.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from windowsfilter.engines.portable.import_terms import Limits
    from windowsfilter.engines.portable.view import View
    from windowsfilter.store.image import Image
    from windowsfilter.store.layer import Layer
    from windowsfilter.store.paths import LayerPath
    from windowsfilter.store.scratch import Scratch
    from windowsfilter.store.stats import Stat
    from windowsfilter.store.store import Store

__all__ = ["Image", "Layer", "LayerPath", "Limits", "Scratch", "Stat", "Store", "View"]

_HOMES = {
    "Image": "windowsfilter.store.image",
    "Layer": "windowsfilter.store.layer",
    "LayerPath": "windowsfilter.store.paths",
    "Limits": "windowsfilter.engines.portable.import_terms",
    "Scratch": "windowsfilter.store.scratch",
    "Stat": "windowsfilter.store.stats",
    "Store": "windowsfilter.store.store",
    "View": "windowsfilter.engines.portable.view",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(home), name)
