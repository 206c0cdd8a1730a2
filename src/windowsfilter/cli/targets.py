r"""What IMAGE and PATH on a command line mean.

IMAGE is an image or a layer, in this order. PATH starts at `C:\`, or, if there is no such thing on
the volume, at the root of the layers where `Files`, `Hives` and `UtilityVM` are.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from windowsfilter.errors import ImageNotFound, LayerNotFound, ScratchNotFound, UsageError

if TYPE_CHECKING:
    from windowsfilter.store.image import Image
    from windowsfilter.store.layer import Layer
    from windowsfilter.store.paths import LayerPath
    from windowsfilter.store.store import Store

_LAYER_ROOTS = frozenset({"files", "hives", "utilityvm"})


def find(store: Store, name: str) -> Image | Layer:
    """The image or layer of that name. Raises ImageNotFound, saying so, for a scratch too."""
    try:
        return store.image(name)
    except UsageError as error:
        refused = error
    try:
        return store.layer(name)
    except LayerNotFound:
        pass
    try:
        store.scratch(name)
    except ScratchNotFound:
        raise refused from None
    raise ImageNotFound(
        f"{name!r} is a scratch, no image: mount it, or use `scratch dir` and `scratch read`"
    )


def find_path(store: Store, name: str, path: str, view: str | None = None) -> LayerPath:
    """A path in an image or layer, in the view that it asks for."""
    from windowsfilter import View

    target = find(store, name)
    if view is not None:
        return target.path(path, view=View(view))
    found = target.path(path, view=View.VOLUME)
    # A volume may have a folder `Files` of its own: what is there comes first.
    if not starts_at_layer_root(path) or found.exists(follow_symlinks=False):
        return found
    return target.path(path, view=View.LAYER)


def starts_at_layer_root(path: str) -> bool:
    """Whether a relative path begins with one of the folders that layers have at their root."""
    first = re.split(r"[\\/]", path, maxsplit=1)[0]
    return first.casefold() in _LAYER_ROOTS
