"""A delta image over its parent's images shows what a full image of the whole chain shows."""

import stat
import tempfile
from contextlib import ExitStack
from pathlib import Path

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from tests.support import chains
from windowsfilter.engines.portable.erofs.delta import make_delta
from windowsfilter.engines.portable.erofs.reader import ErofsImage
from windowsfilter.engines.portable.erofs.stacked import ImageStack
from windowsfilter.engines.portable.erofs.writer import ImageInfo, Source, write_image
from windowsfilter.engines.portable.erofs.xattrs import OPAQUE
from windowsfilter.engines.portable.shown import ShownTree
from windowsfilter.engines.portable.tree import Tree
from windowsfilter.errors import FormatError

LEAVES = ["a", "A", "b", "B", "c", "\u00e9", "\u00c9"]
PATHS = st.lists(st.sampled_from(LEAVES), min_size=1, max_size=3).map(
    lambda leaves: "/".join(["Files", *leaves])
)


def entry(kind: str, path: str, other: str, body: bytes) -> chains.Entry:
    match kind:
        case "file":
            return chains.file(path, body)
        case "folder":
            return chains.folder(path)
        case "link":
            return chains.symlink(path, "C:" + other.removeprefix("Files").replace("/", "\\"))
        case "hard link":
            return chains.hard_link(path, other)
        case "whiteout":
            return chains.whiteout(path)
        case _:
            return chains.opaque(path)


def layers(kinds: list[str]) -> st.SearchStrategy[list[chains.Entry]]:
    """Entries of which no two have one name and none lies below something else than a folder."""

    @st.composite
    def build(draw: st.DrawFn) -> list[chains.Entry]:
        taken: dict[str, str] = {}
        found = []
        for _ in range(draw(st.integers(0, 12))):
            kind, path, other = draw(st.sampled_from(kinds)), draw(PATHS), draw(PATHS)
            key = path.upper()
            above = [key[:place] for place, char in enumerate(key) if char == "/"]
            hides = kind in ("whiteout", "opaque")
            slot = key + f"/.wh.{kind}" if hides else key
            if slot in taken or any(taken.get(name, "folder") != "folder" for name in above):
                continue
            below = [name for name in taken if name.startswith(key + "/") and ".wh." not in name]
            if kind not in ("folder", "whiteout", "opaque") and below:
                continue
            taken[slot] = kind
            found.append(entry(kind, path, other, draw(st.binary(max_size=3))))
        return found

    return build()


LOWER = layers(["file", "folder", "link"] * 4 + ["hard link"])
UPPER = layers(["file", "folder", "link", "whiteout", "opaque"] * 3 + ["hard link"])


class Picture:
    """What a stack of images shows: path -> everything but st_nlink and inode numbers."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self.images: list[ErofsImage] = []
        self.infos: list[ImageInfo] = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stack.close()

    def add(self, source: Source) -> None:
        path = self._folder / f"image{id(self)}.{len(self.images)}"
        with path.open("wb") as out:
            self.infos.insert(0, write_image(source, out, uuid=bytes(16)))
        self.images.insert(0, self._stack.enter_context(ErofsImage(path)))

    def show(self, newest: int) -> dict[bytes, tuple[object, ...]]:
        stack = ImageStack(self.images)
        shown: dict[bytes, tuple[object, ...]] = {}
        for path, entry in stack.walk():
            image = self.images[entry.level]
            inode = image.inode(entry.nid)
            xattrs = image.xattrs(entry.nid)
            xattrs.pop(OPAQUE, None)
            data: object = None
            if stat.S_ISREG(inode.mode):
                devices = self.infos[entry.level].devices
                data = [
                    (devices[extent.device - 1], extent.offset, extent.size)
                    for extent in image.extents(entry.nid)
                ]
            elif (
                stat.S_ISLNK(inode.mode)
                and (stack.ref(entry.level, entry.nid) or (0,))[0] == newest
            ):
                # Older links keep showing what their target was when their image was made.
                data = image.readlink(entry.nid)
            size = inode.size if stat.S_ISREG(inode.mode) else 0
            shown[path] = (inode.mode, size, inode.mtime_ns, data, sorted(xattrs.items()))
        return shown


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(LOWER, st.lists(UPPER, min_size=1, max_size=3))
def test_a_stack_of_deltas_shows_what_the_tree_shows(base, uppers):
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        blobs = chains.Blobs(folder)
        raw = []
        for layer in (base, *uppers):
            try:
                stack.enter_context(blobs.add(layer)).index.count  # noqa: B018
            except FormatError:
                event("refused at import")
                return
            raw.append(layer)
        deltas = stack.enter_context(Picture(folder))
        with blobs.chain(*raw) as chain:
            deltas.add(ShownTree(Tree(chain[:1])))
            for count in range(2, len(chain) + 1):
                full = ShownTree(Tree(chain[:count]))
                if ShownTree(Tree(chain[: count - 1])).has_dangling:
                    event("dangling")
                    return
                delta = make_delta(chain[:count], ImageStack(deltas.images))
                if delta is None:
                    event("no delta")
                    return
                deltas.add(delta)
                with Picture(folder) as whole:
                    whole.add(full)
                    assert deltas.show(count - 1) == whole.show(count - 1)
                event("compared")
