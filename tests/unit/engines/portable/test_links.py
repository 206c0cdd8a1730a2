from dataclasses import dataclass, field

import pytest

from windowsfilter.engines.portable.links import Translator, parse_target, windows_text
from windowsfilter.ntfs.names import fold


@dataclass
class Folders:
    """A view made of paths; a value is a link's target, None for everything else."""

    paths: dict[str, str | None]
    nodes: list[str] = field(default_factory=list)

    def __post_init__(self):
        for path in self.paths:
            parts = path.split("/")
            for depth in range(1, len(parts) + 1):
                self.nodes.append("/".join(parts[:depth]))
        self.nodes = ["", *dict.fromkeys(self.nodes)]

    def node(self, path):
        return self.nodes.index(path)

    def ancestors(self, node):
        parts = self.nodes[node].split("/")[:-1]
        return [
            (part.encode(), self.node("/".join(parts[: depth + 1])))
            for depth, part in enumerate(parts)
        ]

    def child(self, node, leaf):
        above = self.nodes[node]
        for place, path in enumerate(self.nodes[1:], 1):
            parent, _, name = path.rpartition("/")
            if parent == above and fold(name.encode()) == fold(leaf):
                return name.encode(), place
        return None

    def target(self, node):
        found = self.paths.get(self.nodes[node])
        return None if found is None else found.encode()


TREE: dict[str, str | None] = {
    "Files/Windows/System32/cmd.exe": None,
    "Files/Users/All/x": None,
    "Files/Users/Me/AppData": None,
    "Files/Docs": r"C:\users",
    "Files/Loop": r"C:\Loop\a",
    "Files/One": r"Two\x",
    "Files/Two": r"One\x",
    "UtilityVM/Files/EFI/boot": None,
    "Hives/Sam_Delta": None,
}


def translate(link: str, target: str) -> str:
    view = Folders({**TREE, link: target})
    return Translator(view).translate(view.node(link), target.encode()).decode()


@pytest.mark.parametrize(
    ("link", "target", "shown"),
    [
        ("Files/l", r"C:\Windows\System32", "Windows/System32"),
        ("Files/l", r"c:/windows/SYSTEM32/CMD.EXE", "Windows/System32/cmd.exe"),
        ("Files/l", r"\??\C:\Users\all", "Users/All"),
        ("Files/l", r"\\?\C:\Users", "Users"),
        ("Files/l", r"\Users", "Users"),
        ("Files/l", "C:\\", "."),
        ("Files/Users/Me/l", r"C:\Windows", "../../Windows"),
        ("Files/Users/Me/l", r"C:\Users\All", "../All"),
        ("Files/Users/Me/l", r"..\all\.\x", "../All/x"),
        ("Files/Users/Me/l", r"C:\users\me\appdata", "AppData"),
        ("Files/Users/Me/l", r"C:\users\me", "."),
        ("Files/Users/Me/l", r"..\..\Windows\..\Users", ".."),
        ("Files/Users/Me/l", "C:\\", "../.."),
        ("UtilityVM/Files/EFI/l", r"C:\efi\BOOT", "boot"),
        ("UtilityVM/Files/l", r"\EFI", "EFI"),
        ("Files/Users/Me/l", r"C:\docs\All\X", "../../Docs/All/x"),
    ],
)
def test_targets_in_the_view_become_relative(link, target, shown):
    assert translate(link, target) == shown


@pytest.mark.parametrize(
    ("link", "target", "shown"),
    [
        ("Files/l", r"C:\nothing", r"C:\nothing"),
        ("Files/l", r"D:\Windows", r"D:\Windows"),
        ("Files/l", r"\\server\share", r"\\server\share"),
        ("Files/l", r"\??\Volume{12345678-0000-0000-0000-000000000000}\Windows",
         r"\??\Volume{12345678-0000-0000-0000-000000000000}\Windows"),
        ("Files/l", "C:Windows", r".\C:Windows"),
        ("Files/l", "..", r".\.."),
        ("Files/l", "../../etc/passwd", r"..\..\etc\passwd"),
        ("Files/Users/Me/l", r"..\..\..\Hives\Sam_Delta", r"..\..\..\Hives\Sam_Delta"),
        ("Files/l", "", ".\\"),
        ("Files/l", "etc", r".\etc"),
        ("Files/l", "/etc/passwd", r"\etc\passwd"),
        ("Hives/l", r"C:\Windows", r"C:\Windows"),
        ("UtilityVM/l", r"C:\EFI", r"C:\EFI"),
        ("UtilityVM/Files/l", r"C:\Windows", r"C:\Windows"),
        ("l", r"C:\Windows", r"C:\Windows"),
        ("Files/l", r"C:\Loop\b", r"C:\Loop\b"),
        ("Files/l", r"C:\One\b", r"C:\One\b"),
        ("Files/l", r"C:\l\b", r"C:\l\b"),
        ("Files/l", r"C:\Windows\System32\cmd.exe\x", r"C:\Windows\System32\cmd.exe\x"),
    ],
)  # fmt: skip
def test_all_others_show_as_windows_text(link, target, shown):
    assert translate(link, target) == shown


def test_long_text_is_cut_between_characters():
    assert windows_text(b"\\" + "\u4e2d".encode() * 2000) == b"\\" + "\u4e2d".encode() * 1364
    assert windows_text(b"\\" * 5000) == b"\\" * 4095


def test_a_link_to_itself_is_itself():
    assert translate("Files/l", r"C:\l") == "l"


@pytest.mark.parametrize(
    ("target", "parsed"),
    [
        (b"C:\\a\\b", (True, [b"a", b"b"])),
        (b"C:", (True, [])),
        (b"a/./b//c", (False, [b"a", b"b", b"c"])),
        (b"..\\a", (False, [b"..", b"a"])),
        (b"\\\\?\\UNC\\server\\share", None),
        (b"a:b", None),
        (b"", None),
    ],
)
def test_targets_are_taken_apart(target, parsed):
    assert parse_target(target) == parsed


def test_very_many_links_in_a_row_lead_nowhere_but_do_not_hurt():
    paths: dict[str, str | None] = {f"Files/l{n}": f"C:\\l{n + 1}\\x" for n in range(3000)}
    view = Folders(paths)
    found = Translator(view).translate(view.node("Files/l0"), rb"C:\l1\x")
    assert found == rb"C:\l1\x"
