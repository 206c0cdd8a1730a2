"""Random work in a scratch, done by the kernel and by us, against a model of NTFS.

Whatever was done: the changes are exactly the model's, the committed layer gives exactly the model's
tree, and the kernel's way and ours give the same bytes.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.property.ntfs_model import DIRECTORY, FILE, LINK, Inode, Model, Name, Refused
from tests.support import chains, mounts, windows_entries
from tests.support.scratches import TestScratch, data, scratch
from windowsfilter.engines.portable.index import Kind
from windowsfilter.engines.portable.scratch import choices
from windowsfilter.engines.portable.scratch.edit import ScratchEditor
from windowsfilter.engines.portable.tree import Tree
from windowsfilter.ntfs import filetime
from windowsfilter.ntfs.names import fold
from windowsfilter.ntfs.security import SecurityDescriptor
from windowsfilter.ntfs.security.inheritance import new_descriptor
from windowsfilter.ntfs.sids import ADMINISTRATORS, SYSTEM

SOAK = bool(os.environ.get("WINDOWSFILTER_SOAK"))
EXAMPLES = 500 if SOAK else 60
LATEST = filetime.from_unix_ns(chains.A_TIME_NS)
HIDDEN = 0x2
TOUCHED = 5  # a time before any file system's
OTHER_SD = bytes.fromhex("010004800000000000000000000000000000000000000000")[:20]

BASE = [
    chains.folder("Files", sd=windows_entries.DESCRIPTOR),
    chains.folder("Files/Dir", sd=OTHER_SD),
    chains.file("Files/Dir/One", b"one", sd=OTHER_SD, attributes=0x80),
    chains.file("Files/Dir/One:keep", b"stream of one"),
    chains.folder("Files/Dir/Sub"),
    chains.file("Files/Dir/Sub/Two", b"two"),
    chains.folder("Files/Dir/Sub/Deep"),
    chains.file("Files/Dir/Sub/Deep/Three", b"three", attributes=0x21),
    chains.hard_link("Files/Dir/Linked", "Files/Dir/Sub/Two"),
    chains.symlink("Files/Dir/away", r"D:\somewhere"),
    chains.junction("Files/joint", r"C:\Dir"),
    chains.file("Files/ä", b"umlaut"),
    chains.file("Files/gone", b"gone"),
]
CHILD = [
    chains.folder("Files", sd=windows_entries.DESCRIPTOR),
    chains.whiteout("Files/GONE"),
    chains.folder("Files/Other"),
    chains.file("Files/Other/four", b"four"),
    chains.file("Files/Other/four:Mark", b"of four"),
    chains.hard_link("Files/Other/Linked too", "Files/Dir/Sub/Two"),
    chains.folder("Files/dir"),
    chains.file("Files/dir/ONE", b"one again", sd=OTHER_SD),
    chains.file("Files/dir/ONE:keep", b"stream of one"),
]
LEAVES = [b"a", b"A", b"b", b"One", b"one", b"two", b"Sub", b"SUB", b"Dir", "Ä".encode(), b"n w"]
STREAMS = [b"keep", b"KEEP", b"new", b"mark"]
BODIES = [b"", b"x", b"one", b"two", b"some more data"]


class Operation(NamedTuple):
    """Something to do; numbers choose among what there is when its turn comes."""

    verb: str
    which: int
    where: int
    leaf: bytes
    stream: bytes
    body: bytes
    swap: bool


VERBS = ["write", "create", "mkdir", "remove", "rename", "respell", "link", "symlink", "stream"]
EDITOR_VERBS = [*VERBS, "acl", "attrib", "touch"]
MOUNT_VERBS = [*VERBS, "chmod", "open", "write beside", "mkdir beside"]


def operations(verbs: list[str]) -> st.SearchStrategy[list[Operation]]:
    number = st.integers(0, 40)
    one = st.builds(
        Operation,
        st.sampled_from(verbs),
        number,
        number,
        st.sampled_from(LEAVES),
        st.sampled_from(STREAMS),
        st.sampled_from(BODIES),
        st.booleans(),
    )
    return st.lists(one, min_size=1, max_size=12)


class Step(NamedTuple):
    """An operation with its paths, as the model took it."""

    verb: str
    path: bytes
    to: bytes = b""
    stream: bytes = b""
    body: bytes = b""
    swap: bool = False
    others: tuple[bytes, ...] = ()
    """Other names that the file has in the scratch."""


def model_of(tree: Tree) -> Model:
    """The chain as a model."""
    model = Model()
    inodes: dict[int, Inode] = {tree.ROOT: model.root}
    for slot in tree.walk():
        inode = tree.inode(slot)
        if inode not in inodes:
            inodes[inode] = _inode(tree, inode)
        if slot != tree.ROOT:
            parent = inodes[tree.parents[slot]]
            parent.kids[fold(tree.names[slot])] = Name(tree.names[slot], inodes[inode])
    return model


def _inode(tree: Tree, slot: int) -> Inode:
    record, ref = tree.record(slot), tree.ref(slot)
    kind = tree.kinds[slot]
    if kind == Kind.DIRECTORY:
        found = Inode(DIRECTORY)
    else:
        assert record is not None and ref is not None
        if kind in (Kind.SYMLINK, Kind.JUNCTION):
            found = Inode(LINK, target=tree.layers[ref[0]].index.link(ref[1]))
        else:
            found = Inode(FILE, data(tree, ref))
    for name, stream in tree.streams(slot).items():
        found.streams[fold(name)] = (name, data(tree, stream))
    if record is not None and ref is not None:
        found.descriptor = tree.layers[ref[0]].index.value(record.sd)
        found.attributes = record.attributes
        found.creation = record.creation
        found.own_write = record.write
    return found


def apply(model: Model, operation: Operation) -> Step | None:
    """Do an operation to the model; None if Windows would refuse it."""
    directories = [path for path in model.paths(DIRECTORY) if path.startswith(b"Files")]
    files = model.paths(FILE)
    things = [path for path in model.paths(FILE, LINK, DIRECTORY) if path.count(b"/")]
    verb, _, _, leaf, stream, body, swap = operation
    at = directories[operation.where % len(directories)] + b"/" + leaf

    def pick(paths: list[bytes]) -> bytes:
        if not paths:
            raise Refused(b"nothing there")
        return paths[operation.which % len(paths)]

    try:
        if verb in ("write", "write beside"):
            path = pick(files)
            name = model.find(path)
            if verb == "write beside" and (
                name is None or name.copied or name.inode.origin is None
            ):
                return None
            model.write(path, body)
            return Step(verb, path, body=body, swap=swap)
        if verb == "create":
            if model.find(at) is not None:
                return None
            model.write(at, body)
            return Step("write", at, body=body, swap=swap)
        if verb == "mkdir":
            model.mkdir(at)
            return Step(verb, at, swap=swap)
        if verb == "mkdir beside":
            path = pick([path for path in directories if path.count(b"/")])
            name = model.find(path)
            return Step(verb, path) if name and not name.copied else None
        if verb == "remove":
            path = pick(things)
            name = model.find(path)
            assert name is not None
            if shares_streams(model, path):
                return None
            model.remove(path)
            return Step(verb, path, swap=swap, others=other_names(model, name))
        if verb in ("rename", "respell"):
            path = pick(things)
            to = at
            if verb == "respell":
                to = path.rpartition(b"/")[0] + b"/" + path.rpartition(b"/")[2].swapcase()
            model.rename(path, to)
            return Step("rename", path, to, swap=swap)
        if verb == "link":
            path = pick(files)
            model.link(at, path)
            return Step(verb, path, at, swap=swap)
        if verb == "symlink":
            model.symlink(at, b"some\\where")
            return Step(verb, at, b"some/where", swap=swap)
        if verb == "stream":
            path = pick(files if swap else [*files, *things])
            model.write_stream(path, stream, body)
            name = model.find(path)
            assert name is not None
            others = other_names(model, name)
            return Step(verb, path, stream=stream, body=body, swap=swap, others=others)
        if verb in ("acl", "attrib", "touch"):
            # A directory's write time is its own again as soon as something is made in it.
            path = pick(model.paths(FILE, LINK) if verb == "touch" else things)
            return set_metadata(model, verb, path, swap=swap)
        path = pick(model.paths(FILE, DIRECTORY) if verb == "chmod" else files)
        if path.count(b"/") == 0:
            return None
        if verb == "chmod":
            model.chmod(path)
        else:
            model.open(path)
        return Step(verb, path, swap=swap)
    except Refused:
        return None


def set_metadata(model: Model, verb: str, path: bytes, *, swap: bool) -> Step:
    if verb == "acl":
        descriptor = OTHER_SD if swap else windows_entries.DESCRIPTOR
        model.acl(path, descriptor)
        return Step(verb, path, body=descriptor, swap=swap)
    if verb == "attrib":
        model.attrib(path, HIDDEN)
    else:
        model.touch(path, TOUCHED)
    return Step(verb, path, swap=swap)


def other_names(model: Model, name: Name) -> tuple[bytes, ...]:
    """Paths of the other names of a file that the scratch has as one file."""
    if not name.copied:
        return ()
    return tuple(
        path
        for path, one in model.walk()
        if one is not name and one.inode is name.inode and one.copied
    )


def shares_streams(model: Model, path: bytes) -> bool:
    """Whether a file below a directory has streams of the scratch and another name elsewhere.

    Through a mount such a stream goes with the directory it was written in (row 39).
    """
    name = model.find(path)
    if name is None or name.inode.kind != DIRECTORY:
        return False
    inside = {one.inode.serial for _, one in model.walk(name.inode) if one.inode.streams}
    prefix = fold(path) + b"/"
    return any(
        one.copied and one.inode.serial in inside
        for other, one in model.walk()
        if not fold(other).startswith(prefix)
    )


class Kernel:
    """Does steps through an overlay mount, as a careful program on Linux would."""

    def __init__(self, mount: Path) -> None:
        self._mount = os.fsencode(mount)
        self._beside: set[bytes] = set()

    def can(self, step: Step) -> bool:
        """Whether the step can be done here.

        What stands in two spellings cannot be moved or linked: the kernel takes them for two.
        """
        if step.verb == "mkdir beside":
            return len(self._all(step.path)) == 1 and step.path.swapcase() != step.path
        if step.verb == "write beside":
            leaf = step.path.rpartition(b"/")[2]
            return len(self._all(step.path)) == 1 and leaf.swapcase() != leaf
        return step.verb not in ("rename", "link") or len(self._all(step.path)) == 1

    def do(self, step: Step) -> None:
        getattr(self, "_" + step.verb.replace(" ", "_"))(step)

    def _all(self, path: bytes) -> list[bytes]:
        """Every spelling of a path that the mount has."""
        found = [self._mount]
        for leaf in path.split(b"/"):
            found = [
                above + b"/" + name
                for above in found
                if os.path.isdir(above) and not os.path.islink(above)
                for name in sorted(os.listdir(above))
                if fold(name) == fold(leaf)
            ]
        return found

    def _one(self, path: bytes) -> bytes:
        found = self._all(path)
        return next((one for one in found if one in self._beside), found[0])

    def _new(self, path: bytes, *, swap: bool = False) -> bytes:
        above, _, leaf = path.rpartition(b"/")
        places = self._all(above)
        return places[-1 if swap else 0] + b"/" + leaf

    def _streams(self, paths: list[bytes]) -> dict[bytes, bytes]:
        """Path -> name of the streams beside any of these names."""
        found = {}
        for path in paths:
            above, _, leaf = path.rpartition(b"/")
            for name in os.listdir(above):
                owner, colon, stream = name.partition(b":")
                if colon and fold(owner) == fold(leaf):
                    found[above + b"/" + name] = stream
        return found

    def _write(self, step: Step) -> None:
        found = self._all(step.path)
        path = self._one(step.path) if found else self._new(step.path, swap=step.swap)
        Path(os.fsdecode(path)).write_bytes(step.body)

    def _write_beside(self, step: Step) -> None:
        above, _, leaf = self._one(step.path).rpartition(b"/")
        path = above + b"/" + leaf.swapcase()
        self._beside.add(path)
        Path(os.fsdecode(path)).write_bytes(step.body)

    def _mkdir(self, step: Step) -> None:
        os.mkdir(self._new(step.path, swap=step.swap))

    def _mkdir_beside(self, step: Step) -> None:
        above, _, leaf = self._one(step.path).rpartition(b"/")
        if leaf.swapcase() != leaf:
            os.mkdir(above + b"/" + leaf.swapcase())

    def _remove(self, step: Step) -> None:
        found = self._all(step.path)
        for path, stream in self._streams(found).items():
            if step.others:
                os.rename(path, self._one(step.others[0]) + b":" + stream)
            else:
                os.unlink(path)
        for path in found:
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path)
            else:
                os.unlink(path)

    def _rename(self, step: Step) -> None:
        found = self._all(step.path)
        [path] = found
        to = self._new(step.to, swap=step.swap)
        if fold(step.to) == fold(step.path):
            to = path.rpartition(b"/")[0] + b"/" + step.to.rpartition(b"/")[2]
        streams = self._streams(found)
        if path != to:
            os.rename(path, to)
        for stream, name in streams.items():
            os.rename(stream, to + b":" + name)

    def _link(self, step: Step) -> None:
        os.link(self._one(step.path), self._new(step.to, swap=step.swap))

    def _symlink(self, step: Step) -> None:
        os.symlink(step.to, self._new(step.path, swap=step.swap))

    def _stream(self, step: Step) -> None:
        path = self._one(step.path)
        for one in (path, *map(self._one, step.others)):
            for stream, name in self._streams([one]).items():
                if fold(name) == fold(step.stream):
                    Path(os.fsdecode(stream)).write_bytes(step.body)
                    return
        Path(os.fsdecode(path + b":" + step.stream)).write_bytes(step.body)

    def _chmod(self, step: Step) -> None:
        path = self._one(step.path)
        os.chmod(path, 0o700 if os.path.isdir(path) else 0o600)

    def _open(self, step: Step) -> None:
        os.close(os.open(self._one(step.path), os.O_RDWR))


class Editor:
    """Does steps through the library, in any case."""

    def __init__(self, editor: ScratchEditor) -> None:
        self._editor = editor

    def do(self, step: Step) -> None:
        path = step.path.swapcase() if step.swap and self._editor.exists(step.path) else step.path
        editor = self._editor
        if step.verb == "write":
            editor.write(path, step.body)
        elif step.verb == "mkdir":
            editor.mkdir(path)
        elif step.verb == "remove":
            editor.remove(path, recursive=True)
        elif step.verb == "rename":
            editor.rename(path, step.to)
        elif step.verb == "link":
            editor.link(step.to, path)
        elif step.verb == "symlink":
            editor.symlink(path, step.to)
        elif step.verb == "stream":
            editor.write(path + b":" + step.stream, step.body)
        elif step.verb == "acl":
            descriptor = SecurityDescriptor.parse(step.body)
            editor.metadata.change(path, choices.security(descriptor))
        elif step.verb == "attrib":
            now = editor.metadata.look(path).metadata.attributes()
            change = {"remove" if now & HIDDEN else "add": HIDDEN}
            editor.metadata.change(path, choices.attributes(**change))
        elif step.verb == "touch":
            editor.metadata.change(path, choices.times(write=TOUCHED))
        else:
            raise AssertionError(step.verb)


def check(work: TestScratch, model: Model) -> None:
    """The scratch's changes and committed layer must be the model's."""
    expected = [(kind, os.fsdecode(path)) for kind, path in model.changes()]
    assert sorted(work.changes(), key=lambda change: os.fsencode(change[1])) == expected
    with work.committed() as tree:
        assert not tree.problems
        result = model_of(tree)
    result.root.kids.pop(b"HIVES", None)
    wanted = {fold(path): described(name.inode) for path, name in model.walk()}
    assert {fold(path): described(name.inode) for path, name in result.walk()} == wanted
    groups = {fold(path): {fold(one) for one in group} for path, group in model.groups().items()}
    found: dict[int, set[bytes]] = {}
    for path, name in result.walk():
        if name.inode.kind == FILE:
            found.setdefault(name.inode.serial, set()).add(fold(path))
    assert {path: group for group in found.values() for path in group} == groups
    check_metadata(model, result)


def described(inode: Inode) -> tuple[Any, ...]:
    streams = {key: data for key, (_, data) in inode.streams.items()}
    return inode.kind, inode.data, inode.target, streams


def inherited(parent: bytes, *, is_directory: bool) -> bytes:
    if not parent:
        return b""
    made = new_descriptor(
        SecurityDescriptor.parse(parent),
        is_directory=is_directory,
        owner=ADMINISTRATORS,
        group=SYSTEM,
    )
    return made.build()


def check_metadata(model: Model, result: Model) -> None:
    origins = {}
    for _, name in Model.of(model.base).walk():
        origins[name.inode.serial] = name.inode
    first: dict[int, bytes] = {}
    for path, name in model.walk():
        inode, got = name.inode, result.find(path)
        assert got is not None
        if inode.origin is None:
            # A file inherits where the first of its names is.
            above = result.find(first.setdefault(inode.serial, path).rpartition(b"/")[0])
            assert above is not None
            expected = inherited(above.inode.descriptor, is_directory=inode.kind == DIRECTORY)
        else:
            was = origins[inode.origin]
            expected = was.descriptor
            assert got.inode.creation == was.creation, path
        if inode.own_descriptor is not None:
            expected = inode.own_descriptor
        assert got.inode.descriptor == expected, path
        assert got.inode.attributes == inode.attributes_now(), path
        if inode.own_write is not None:
            assert got.inode.own_write == inode.own_write, path


@contextmanager
def fresh(disk: Path | None = None) -> Iterator[tuple[TestScratch, Model]]:
    folder = Path(tempfile.mkdtemp(prefix="scratch-property-", dir=disk))
    try:
        with scratch(folder / "one", BASE, CHILD) as work:
            model = model_of(work.tree)
            model.seal()
            yield work, model
    finally:
        shutil.rmtree(folder)


def run(model: Model, work: list[Operation]) -> list[Step]:
    return [step for one in work if (step := apply(model, one)) is not None]


COMMON = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@given(operations(EDITOR_VERBS))
@COMMON
def test_edits_come_to_what_ntfs_would_hold(work: list[Operation]) -> None:
    with fresh() as (one, model):
        with one.edited() as editor:
            for step in run(model, work):
                Editor(editor).do(step)
        check(one, model)


def work_in(mount: Path, model: Model, work: list[Operation]) -> Model:
    """Do what can be done in a mount, and to the model; the model then is what should be."""
    kernel = Kernel(mount)
    for operation in work:
        before = model.copied()
        step = apply(model, operation)
        if step is None:
            continue
        if kernel.can(step):
            kernel.do(step)
        else:
            model = before
    return model


@pytest.mark.root
@given(operations(MOUNT_VERBS))
@COMMON
def test_work_in_a_mount_comes_to_what_ntfs_would_hold(work: list[Operation]) -> None:
    with fresh() as (one, model):
        with one.mounted() as mount:
            model = work_in(mount, model, work)
        check(one, model)


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with mounts.disk(tmp_path_factory.mktemp("disk")) as folder:
        (folder / "images").mkdir()
        yield folder


@pytest.mark.root
@given(work=operations(MOUNT_VERBS))
@settings(COMMON, max_examples=EXAMPLES // 2)
def test_work_over_images_comes_to_what_ntfs_would_hold(disk: Path, work: list[Operation]) -> None:
    with fresh(disk) as (one, model):
        with one.mounted_from_images(disk / "images") as mount:
            model = work_in(mount, model, work)
        check(one, model)


@pytest.mark.root
@given(operations(VERBS))
@COMMON
def test_the_kernel_and_the_editor_write_the_same_bytes(work: list[Operation]) -> None:
    with fresh() as (one, model):
        steps = run(model, work)
        with one.mounted() as mount:
            kernel = Kernel(mount)
            for step in steps:
                kernel.do(step)
        other = TestScratch(one.folder.parent / "other", one.blobs, one.tree)
        with other.edited() as editor:
            for step in steps:
                Editor(editor).do(step)
        assert one.tar(LATEST) == other.tar(LATEST)
