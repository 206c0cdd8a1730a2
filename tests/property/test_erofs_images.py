"""Damaged and invented images give values or our error, never anything else."""

import io
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import chains
from windowsfilter.engines.portable.aliases import alias, is_shown, real_name, shown_names
from windowsfilter.engines.portable.erofs.reader import ErofsImage
from windowsfilter.engines.portable.erofs.writer import write_image
from windowsfilter.engines.portable.links import parse_target, windows_text
from windowsfilter.engines.portable.shown import ShownTree
from windowsfilter.engines.portable.tree import Tree
from windowsfilter.errors import FormatError
from windowsfilter.ntfs.names import fold

ENTRIES = [
    chains.folder("Files", sd=chains.OWNER_SYSTEM),
    *(chains.file(f"Files/{number:03}{'x' * number}", b"1") for number in range(0, 120, 3)),
    chains.symlink("Files/long", "\\" * 700),
    chains.symlink("Files/short", r"C:\000"),
    chains.file("Files/deep/er/f", b"2" * 600, sd=chains.OWNER_SYSTEM),
]


def _image() -> bytes:
    with tempfile.TemporaryDirectory() as name:
        with chains.Blobs(Path(name)).chain(ENTRIES) as chain:
            out = io.BytesIO()
            write_image(ShownTree(Tree(chain)), out, uuid=bytes(16))
            return out.getvalue()


IMAGE = _image()
META = int.from_bytes(IMAGE[1064:1068], "little") * 512
CHANGES = st.lists(
    st.tuples(
        st.one_of(st.integers(1024, 1300), st.integers(META, len(IMAGE) - 1)), st.integers(0, 255)
    ),
    min_size=1,
    max_size=6,
)


@settings(deadline=None)
@given(CHANGES, st.integers(0, 600))
def test_a_damaged_image_is_read_or_refused(changes, cut):
    data = bytearray(IMAGE)
    for place, value in changes:
        data[place] = value
    with tempfile.NamedTemporaryFile() as file:
        file.write(data[: len(data) - cut])
        file.flush()
        try:
            with ErofsImage(Path(file.name)) as image:
                for number, (_, entry) in enumerate(image.walk()):
                    if number > 1000:
                        break
                    read = (image.inode, image.xattrs, image.extents, image.readlink)
                    for ask in read:
                        try:
                            ask(entry.nid)
                        except FormatError:
                            continue
        except FormatError:
            return


@given(st.lists(st.text(min_size=1, max_size=300).map(str.encode), unique_by=fold, max_size=6))
def test_every_directory_can_be_shown_and_mapped_back(names):
    names = [name for name in names if b"/" not in name]
    shown = shown_names(names)
    all_shown = [shown.get(name, name) for name in names]
    assert len(set(map(fold, all_shown))) == len(names)
    assert all(is_shown(name) for name in all_shown)
    assert [real_name(names, name) for name in all_shown] == names
    assert all(alias(name) == name for name in names if is_shown(name))


@given(st.binary(max_size=60))
def test_any_target_is_taken_apart_and_shown_harmlessly(target):
    parse_target(target)
    text = windows_text(target)
    assert b"/" not in text and b"\0" not in text and b"\\" in text
