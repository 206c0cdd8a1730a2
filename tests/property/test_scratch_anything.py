"""Whatever lies in an upper directory: a layer that can be imported, or a refusal of ours."""

import os
import shutil
import stat
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support import chains
from tests.support.scratches import TestScratch, scratch
from windowsfilter.engines.portable.changes import layer_changes
from windowsfilter.errors import WindowsFilterError
from windowsfilter.ntfs.names import fold

EXAMPLES = 1500 if os.environ.get("WINDOWSFILTER_SOAK") else 100

BASE = [
    chains.folder("Files", sd=chains.OWNER_SYSTEM),
    chains.folder("Files/a"),
    chains.file("Files/a/f", b"f"),
    chains.file("Files/a/f:s", b"s"),
    chains.hard_link("Files/a/g", "Files/a/f"),
    chains.hard_link("Files/a/dangling", "Files/never"),
    chains.folder("Files/a/b"),
    chains.file("Files/a/b/f", b"inner"),
    chains.symlink("Files/l", r"C:\a"),
    chains.file("Files/implied/x", b"x"),
    chains.folder("UtilityVM/Files"),
]
LEAVES = [b"Files", b"a", b"A", b"b", b"f", b"F", b"g", b"l", b"f:s", b"f:S", b"A:t", b"x", b"X"]
LEAVES += [
    b"implied",
    b"dangling",
    b"UtilityVM",
    b"Hives",
    b"odd?",
    b"\xff",
    b".wh.f",
    b"f:",
    b"d ",
]
REDIRECTS = [b"/Files/a", b"a", b"/Files/a/b", b"b", b"/Files", b"/", b"", b"..", b"/Files/l", b"f"]

leaves = st.sampled_from(LEAVES[:13]) | st.sampled_from(LEAVES)
entries = (
    st.none()
    | st.binary(max_size=9)
    | st.tuples(st.integers(0, 1), st.integers(0, 12)).map(
        lambda ref: ref[0].to_bytes(4, "little") + ref[1].to_bytes(4, "little")
    )
)
files = st.tuples(st.just("file"), st.sampled_from([b"", b"f", b"inner"]), entries)
links = st.tuples(st.just("link"), st.sampled_from([b"a", b"/a", b"x\\y", b"..", b"\xff"]), entries)
others = st.sampled_from([("whiteout", b"", None), ("fifo", b"", None), ("same", b"", None)])
things = st.recursive(
    files | files | links | others,
    lambda inner: st.tuples(
        st.just("folder"),
        st.dictionaries(leaves, inner, max_size=4),
        entries,
        st.booleans(),
        st.none() | st.none() | st.sampled_from(REDIRECTS),
    ),
    max_leaves=14,
)


def make(work: TestScratch, path: Path, thing, linked: list[Path]) -> None:
    kind, content, entry, *marks = thing
    relative = str(path.relative_to(work.upper))
    if kind == "file":
        path.write_bytes(content)
        os.utime(path, ns=(chains.A_TIME_NS, chains.A_TIME_NS))
        linked.append(path)
    elif kind == "link":
        os.symlink(content, os.fsencode(path))
    elif kind == "whiteout":
        os.mknod(path, stat.S_IFCHR, os.makedev(0, 0))
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "same":
        if linked:
            os.link(linked[-1], path)
    else:
        path.mkdir()
        for leaf, inner in content.items():
            make(work, path / os.fsdecode(leaf), inner, linked)
        if marks[0]:
            work.mark(relative, "overlay.opaque", b"y")
        if marks[1] is not None:
            work.mark(relative, "overlay.redirect", marks[1])
    if entry is not None and (kind in ("file", "folder") or work.namespace == "trusted."):
        work.mark(relative, "windows.entry", entry)


@given(files=st.dictionaries(leaves, things, max_size=5))
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
def test_any_upper_directory_gives_a_layer_or_our_refusal(files) -> None:
    folder = Path(tempfile.mkdtemp(prefix="scratch-anything-"))
    try:
        with scratch(folder / "one", BASE) as work:
            (work.upper / "Files").mkdir()
            work.come_from("Files", "Files")
            for leaf, thing in files.items():
                make(work, work.upper / "Files" / os.fsdecode(leaf), thing, [])
            try:
                changes = work.changes()
                data = work.tar()
            except WindowsFilterError:
                return
            with work.blobs.add(data) as layer:
                found = [(str(one.kind), one.path) for one in layer_changes(work.tree, layer)]
            listed = {(kind, fold(os.fsencode(path))) for kind, path in changes}
            written = {(kind, fold(path)) for kind, path in found}
            assert written <= listed
            # A directory made again may be as the old one; its entry alone does not tell.
            for kind, path in listed - written:
                slot = work.tree.lookup(path)
                assert kind == "modify"
                assert slot is not None
                assert work.tree.is_directory(slot)
    finally:
        shutil.rmtree(folder)
