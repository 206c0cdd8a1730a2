"""What the demonstration's two layers hold.

The base: a compiler, a build tool and a numerical library for Windows with their tens of
thousands of files, and the furniture of a Windows volume around them (junctions, WinSxS hard
links, streams). The update: two more libraries, and changes to the base spelled in another
case, deletions, an opaque directory, a file where a directory was and the reverse, registry deltas.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from demo import descriptors, wheels
from demo.layertree import LayerTree, Node
from windowsfilter.ntfs.attributes import FileAttribute

PROGRAMS: Final = "Files/Program Files"
PYTHON: Final = f"{PROGRAMS}/Python311"
ZIG: Final = f"{PROGRAMS}/Zig"
CMAKE: Final = f"{PROGRAMS}/CMake"
SYSTEM32: Final = "Files/Windows/System32"
WINSXS: Final = "Files/Windows/WinSxS"

# Where a wheel's folders go: the longest prefix counts. `*` is the wheel's own data folder.
_PLACES: Final = {
    "ziglang/": f"{ZIG}/",
    "cmake/data/": f"{CMAKE}/",
    "*/scripts/": f"{PYTHON}/Scripts/",
    "*/data/": f"{PYTHON}/",
    "*/platlib/": f"{PYTHON}/Lib/site-packages/",
    "*/purelib/": f"{PYTHON}/Lib/site-packages/",
    "": f"{PYTHON}/Lib/site-packages/",
}
_BINARIES: Final = (".dll", ".exe", ".pyd")
_ZONE: Final = b"[ZoneTransfer]\r\nZoneId=3\r\nHostUrl=https://example.org/\r\n"
# 255 bytes hold this name on no Linux file system, 255 UTF-16 units on NTFS do.
LONG_NAME: Final = "日本語の長い名前" * 12 + ".txt"

_EVERY_LINK = 12
_EVERY_STREAM = 40
_EVERY_CHANGE = 60
_EVERY_WHITEOUT = 90
_HIVES: Final = ("DefaultUser", "Sam", "Security", "Software", "System")


@dataclass(slots=True)
class Facts:
    """What a layer was given, for checks and for the reader."""

    files: list[str] = field(default_factory=list)
    """Files that came from wheels."""
    changed: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)


def base_layer(packages: wheels.Wheels) -> tuple[LayerTree, Facts]:
    """The base: programs in their folders, and a Windows volume around them."""
    tree, facts = LayerTree(), Facts()
    tree.directory("Files", descriptors.SYSTEM_FOLDER)
    for folder in (SYSTEM32, f"{SYSTEM32}/config", f"{SYSTEM32}/drivers/etc", WINSXS):
        tree.directory(folder, descriptors.SYSTEM_FOLDER)
    for pin in (wheels.ZIG, wheels.CMAKE, wheels.NUMPY):
        for path, node in _install(tree, facts, packages, pin):
            if path.lower().endswith(_BINARIES) or len(facts.files) % _EVERY_LINK == 0:
                _side_by_side(tree, path, node)
            if len(facts.files) % _EVERY_STREAM == 0:
                node.streams["Zone.Identifier"] = _ZONE
    _furniture(tree)
    return tree, facts


def update_layer(packages: wheels.Wheels, base: Facts) -> tuple[LayerTree, Facts]:
    """The update on top of `base`; it spells all it shares with the base in swapped case."""
    tree, facts = LayerTree(), Facts()
    tree.directory("Files")  # an exported update has no descriptor here
    tests = f"{PYTHON}/Lib/site-packages/numpy/tests"
    documents = f"{CMAKE}/doc"
    for number, path in enumerate(base.files):
        if path.startswith((f"{tests}/", f"{documents}/")):
            continue
        if number % _EVERY_CHANGE == 0:
            data = b"changed by the update: %d\r\n" % number * (number % 50 + 1)
            _program(tree, swapped(path), data)
            facts.changed.append(path)
        elif number % _EVERY_WHITEOUT == 1:
            _folder_of(tree, swapped(path))
            tree.whiteout(swapped(path))
            facts.deleted.append(path)
    _program(tree, swapped(f"{tests}/only_this.py"), b"# all the tests before were hidden\r\n")
    tree.opaque(swapped(tests))
    # A file where the base has a directory, and a directory where it has a file.
    _program(tree, swapped(documents), b"The documentation moved to the web.\r\n")
    _program(tree, f"{swapped(f'{SYSTEM32}/drivers/etc/services')}/http.txt", b"80/tcp\r\n")
    for pin in (wheels.PANDAS, wheels.PYWIN32):
        for _ in _install(tree, facts, packages, pin):
            pass
    hosts = tree.file(
        f"{SYSTEM32}/drivers/etc/HOSTS", b"127.0.0.1 localhost\r\n", descriptors.SYSTEM_FILE
    )
    hosts.streams["History"] = b"changed once\r\n"
    for hive in _HIVES:
        tree.file(f"Hives/{hive}_Delta", _hive(hive))
    return tree, facts


def swapped(path: str) -> str:
    """`path` in swapped case below its first component, which tars spell exactly."""
    root, _, rest = path.partition("/")
    return f"{root}/{rest.swapcase()}"


def _install(
    tree: LayerTree, facts: Facts, packages: wheels.Wheels, pin: wheels.Pin
) -> Iterator[tuple[str, Node]]:
    """Put a wheel's files where an installer would."""
    for member in packages.members(pin):
        path = _place(member.name)
        node = _program(tree, path, member)
        facts.files.append(path)
        yield path, node


def _place(name: str) -> str:
    top, _, rest = name.partition("/")
    known = f"*/{rest}" if top.endswith(".data") else name
    prefix = max((prefix for prefix in _PLACES if known.startswith(prefix)), key=len)
    return _PLACES[prefix] + known[len(prefix) :]


def _program(tree: LayerTree, path: str, content: bytes | wheels.Member) -> Node:
    _folder_of(tree, path)
    return tree.file(path, content, descriptors.PROGRAM_FILE)


def _folder_of(tree: LayerTree, path: str) -> None:
    tree.directory(path.rpartition("/")[0], descriptors.PROGRAM_FOLDER)


def _side_by_side(tree: LayerTree, path: str, node: Node) -> None:
    """A program file as Windows' component store has it: protected, linked, with its EA."""
    name = path.rpartition("/")[2]
    node.descriptor = descriptors.SYSTEM_FILE
    # The kernel caches its verdict about a signature in this attribute.
    node.extended["$KERNEL.PURGE.ESBCACHE"] = hashlib.sha256(path.encode()).digest()
    key = hashlib.sha256(path.encode()).hexdigest()[:16]
    folder = f"{WINSXS}/amd64_{name.partition('.')[0].lower()}_31bf3856ad364e35_{key}"
    tree.directory(folder, descriptors.SYSTEM_FOLDER)
    tree.link(f"{folder}/{name.upper()}", node)


def _furniture(tree: LayerTree) -> None:
    """What makes a folder of programs a Windows volume."""
    for path, text in {
        f"{SYSTEM32}/drivers/etc/hosts": b"# 127.0.0.1 localhost\r\n",
        f"{SYSTEM32}/drivers/etc/services": b"http 80/tcp\r\n",
        f"{SYSTEM32}/license.rtf": b"{\\rtf1 demonstration}",
    }.items():
        tree.file(path, text, descriptors.SYSTEM_FILE)
    tree.directory("Files/ProgramData", descriptors.PROGRAM_FOLDER)
    for user in ("Default", "Public", "ContainerUser"):
        tree.directory(f"Files/Users/{user}", descriptors.USER_FOLDER)
    hidden = FileAttribute.HIDDEN | FileAttribute.SYSTEM | FileAttribute.ARCHIVE
    tree.file(
        "Files/Users/Public/desktop.ini", b"[.ShellClassInfo]\r\n", descriptors.USER_FILE, hidden
    )
    tree.file(f"Files/Users/Public/{LONG_NAME}", "長い".encode(), descriptors.USER_FILE)
    tree.file("Files/Users/Public/empty", b"", descriptors.USER_FILE, FileAttribute.READONLY)
    for path, target in {
        "Files/Documents and Settings": "C:\\Users",
        "Files/ProgramData/Application Data": "C:\\ProgramData",
        "Files/Users/Default User": "C:\\Users\\Default",
    }.items():
        tree.symlink(path, target, descriptors.SYSTEM_FOLDER, directory=True, junction=True)
    tree.symlink(
        "Files/Users/All Users", "C:\\ProgramData", descriptors.SYSTEM_FOLDER, directory=True
    )
    tree.symlink(f"{CMAKE}/bin/make.exe", "cmake.exe", descriptors.PROGRAM_FILE, directory=False)
    tree.symlink("Files/Outside", "D:\\elsewhere", descriptors.SYSTEM_FILE, directory=False)
    tree.directory(ZIG).streams["origin"] = b"https://ziglang.org/\r\n"
    _, cmake = tree.directory(f"{CMAKE}/bin").children[b"CMAKE.EXE"]
    tree.directory("UtilityVM/Files/Windows", descriptors.SYSTEM_FOLDER)
    tree.link("UtilityVM/Files/Windows/cmake.exe", cmake)


def _hive(name: str) -> bytes:
    """The look of a registry hive: a base block and an empty bin."""
    return b"regf" + name.encode("utf-16-le").ljust(4092, b"\0") + b"hbin".ljust(4096, b"\0")
