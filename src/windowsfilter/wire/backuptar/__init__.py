"""Layer tars <-> operations on files with their Win32 backup streams.

`read_layer` translates a tar, `LayerTarWriter` writes one. Bytes and modes:
`docs/formats/backuptar.md`.
"""

from windowsfilter.ntfs.basic_info import BasicInfo
from windowsfilter.wire.backuptar.operations import (
    Add,
    Link,
    Mode,
    Operation,
    Remove,
    TarFields,
    TarTimes,
)
from windowsfilter.wire.backuptar.reading import read_layer
from windowsfilter.wire.backuptar.writing import LayerTarWriter

__all__ = [
    "Add",
    "BasicInfo",
    "LayerTarWriter",
    "Link",
    "Mode",
    "Operation",
    "Remove",
    "TarFields",
    "TarTimes",
    "read_layer",
]
