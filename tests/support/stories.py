"""Things done with an image by every means that needs no root, for comparing who did them."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

from tests.support import chains
from tests.support.command import Command
from windowsfilter.engines.portable.scratch.edit import ScratchEditor

BASE_ENTRIES = [
    chains.folder("Files", sd=chains.OWNER_SYSTEM),
    chains.folder("Files/Windows"),
    chains.file("Files/Windows/notes", b"notes", attributes=0x21),
    chains.folder("Files/Windows/System"),
    chains.file("Files/Windows/System/dll", b"dll"),
    chains.folder("Files/Empty"),
    chains.symlink("Files/link", r"C:\Windows\notes"),
]


def edit(editor: ScratchEditor) -> None:
    """Change a scratch over BASE_ENTRIES."""
    editor.write(b"Files/new.txt", b"new")
    editor.mkdir(b"Files/made")
    editor.write(b"Files/made/inner", b"inner" * 5000)
    editor.write(b"files/windows/NOTES", b"changed")
    editor.rename(b"Files/windows/system/dll", b"Files/made/dll")
    editor.rename(b"Files/Windows/System", b"Files/System")
    editor.link(b"Files/second name", b"Files/Windows/notes")
    editor.remove(b"Files/link")
    editor.symlink(b"Files/other link", b"Windows/notes")
    editor.remove(b"Files/EMPTY", recursive=True)


def read_everything(command: Command) -> dict[str, Any]:
    """What the commands that read tell of `demo:1`, without what differs from load to load."""
    [image] = command.json("images")
    own = ("created",)
    return {
        "image": {key: value for key, value in image.items() if key not in (*own, "layers")},
        "layers": [
            {key: value for key, value in layer.items() if key not in own}
            for layer in image["layers"]
        ],
        "ls": command.ok("ls", "-l", "demo:1", r"C:\WINDOWS").text,
        "hives": command.ok("ls", "demo:1", "Hives").text,
        "tree": command.ok("tree", "demo:1").text,
        "find": command.ok("find", "demo:1", "--name", "*.INI").text,
        "stat": command.json("stat", "demo:1", "windows/system32/CMD.EXE"),
        "cat": command.ok("cat", "demo:1", r"windows\system32\cmd.exe").out.hex(),
        "stream": command.ok("cat", "demo:1", "windows/system32/cmd.exe:zone.identifier").text,
        "changes": command.json("layer", "changes", image["layers"][-1]["id"]),
        "sizes": [command.json("layer", "size", layer["id"]) for layer in image["layers"]],
    }


def write_everything(command: Command, folder: Path) -> dict[str, Any]:
    """Change `demo:1` to `demo:2`, save that to `saved.tar` in `folder`, and remove it again."""
    content = folder / "content"
    content.write_bytes(b"hello\r\n")
    command.ok("scratch", "create", "work", "demo:1")
    command.ok("scratch", "write", "work", r"Windows\new.txt", content)
    command.ok("scratch", "write", "work", r"Windows\new.txt:stream", content)
    command.ok("scratch", "mkdir", "work", "-p", "Windows/made/inside")
    command.ok("scratch", "rename", "work", "windows/WIN.ini", "windows/made/win2.ini")
    command.ok("scratch", "remove", "work", "windows/system32/CMD.EXE")
    told: dict[str, Any] = {"diff": command.json("scratch", "diff", "work")}
    command.ok("scratch", "commit", "work", "demo:2")
    command.ok("save", "demo:2", "-o", folder / "saved.tar", "--format", "docker")
    command.ok(
        "layer", "diff", command.json("inspect", "demo:2")["layers"][-1]["id"], "-o", content
    )
    with tarfile.open(content) as tar:
        told["entries"] = [
            (one.name, one.type.decode(), one.mode, one.uid, one.gid, one.size, one.linkname)
            for one in tar
        ]
    command.ok("rmi", "demo:2")
    command.ok("scratch", "rm", "work")
    assert command.json("du")["scratches"] == []
    told["entries"] = [list(one) for one in told["entries"]]
    return told
