"""What an NTFS volume cannot hold: refused by name, or left out and listed; and how much it holds."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import ntfs_volumes
from tests.support.chains import (
    OWNER_SYSTEM,
    Entry,
    file,
    folder,
    hard_link,
    symlink,
    tar,
)
from tests.support.command import write_layout
from tests.support.windows_image import assert_same, distinct_descriptor
from windowsfilter.engines.portable.volumes import kept, plan, writer
from windowsfilter.errors import UsageError
from windowsfilter.ntfs.eas import ExtendedAttribute
from windowsfilter.ntfs.reparse import ReparsePoint, ReparseTag
from windowsfilter.ntfs.security import SecurityDescriptor
from windowsfilter.store.exporting import Exported
from windowsfilter.store.image import Image
from windowsfilter.store.store import Store
from windowsfilter.wire.backuptar import records

pytestmark = pytest.mark.root

LONG = "\u6771" * 255
FULL_EAS = tuple(ExtendedAttribute(b"EA%d" % n, b"v" * 60_000) for n in range(2))
NO_FLAG_SOCKET = ReparsePoint(ReparseTag.AF_UNIX, b"")


@pytest.fixture(autouse=True)
def _programs(program: Callable[[str], str]) -> None:
    for name in ("mkntfs", "ntfs-3g", "ntfsinfo"):
        program(name)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store") as opened:
        yield opened


def load(store: Store, tmp_path: Path, *entries: Entry) -> Image:
    layer = tar([folder("Files"), *entries])
    return store.load(write_layout(tmp_path / "oci", layer), verify=False)


def exported(
    image: Image, tmp_path: Path, **how
) -> tuple[Exported, dict[bytes, ntfs_volumes.Entry]]:
    volume = tmp_path / "out"
    made = image.export_ntfs(volume, **how)
    ntfs_volumes.check(volume)
    return made, ntfs_volumes.read(volume, tmp_path / "mnt")


def nested(levels: int) -> str:
    return "Files/" + "/".join(["d"] * levels)


# name -> (entries, path of what is refused, why)
REFUSED: dict[str, tuple[list[Entry], bytes, str]] = {
    "too many names": (
        [file("Files/a"), *(hard_link(f"Files/l{n:04}", "Files/a") for n in range(64))],
        b"Files/l0063",
        "Windows' limit",
    ),
    "too deep": ([folder(nested(66))], nested(65).encode(), "below 64 others"),
    "a link to nothing": ([hard_link("Files/a", "Files/none")], b"Files/a", "does not exist"),
    "a stream of nothing": (
        [file("Files/a:s", b"x", attributes=None)],
        b"Files/a:s",
        "stream of a file that does not exist",
    ),
    "a stream without a name": (
        [file("Files/a"), file("Files/a:", b"x", attributes=None)],
        b"Files/a",
        "a stream without a name",
    ),
    "a colon in a stream's name": (
        [file("Files/a"), file("Files/a:b:c", b"x", attributes=None)],
        b"Files/a",
        "a colon in its name",
    ),
    "a folder's stream with long names": (
        [folder(f"Files/{LONG}"), file(f"Files/{LONG}:{LONG}", b"x", attributes=None)],
        f"Files/{LONG}".encode(),
        "too long together",
    ),
    "too many EAs": (
        [file("Files/a", records=records.eas_records(FULL_EAS))],
        b"Files/a",
        "extended attributes of 120024 bytes that NTFS does not take",
    ),
    "a reparse point that ntfs-3g checks": (
        [file("Files/a", records=records.reparse_records(NO_FLAG_SOCKET)[1])],
        b"Files/a",
        r"a reparse point \(af unix\) that ntfs-3g does not take",
    ),
    "a second name of a link to a folder": (
        [symlink("Files/a", "x", attributes=0x410), hard_link("Files/b", "Files/a")],
        b"Files/b",
        "a link to a directory, which can have but one",
    ),
}


@pytest.mark.parametrize(("entries", "path", "why"), REFUSED.values(), ids=REFUSED)
def test_what_would_be_lost_is_refused_or_listed(
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    entries: list[Entry],
    path: bytes,
    why: str,
) -> None:
    monkeypatch.setattr(writer, "MAX_LINKS", 64)  # ntfs-3g takes seconds for Windows' 1,024
    monkeypatch.setattr(plan, "MAX_DEPTH", 64)
    image = load(store, tmp_path, file("Files/kept", b"kept"), *entries)
    with pytest.raises(UsageError, match=f"export demo:1 to .*: .*{why}"):
        image.export_ntfs(tmp_path / "out")
    assert not (tmp_path / "out").exists()
    made, found = exported(image, tmp_path, skip_unsupported=True)
    [loss] = made.not_carried
    assert loss.path == path
    assert found[b"kept"].data == b"kept"


def test_states_that_nobody_can_set_are_listed_and_not_refused(
    store: Store, tmp_path: Path
) -> None:
    image = load(
        store,
        tmp_path,
        file("Files/all", b"x", attributes=0xFFFFFFFF),
        file("Files/dense", b"x" * 100_000, attributes=0x220),
        file("Files/packed", b"x", attributes=0x820),
        folder("Files/packed too", attributes=0x810),
        folder("Files/secret", attributes=0x4010),
    )
    made, found = exported(image, tmp_path)
    assert {loss.path: loss.what for loss in made.not_carried} == {
        b"Files/all": "attributes: volume label, directory, device, sparse, reparse point, "
        "compressed, encrypted, integrity stream, virtual, no scrub data, recall on open, pinned, "
        "unpinned, recall on data access, strictly sequential, 0xdfa00000",
        b"Files/dense": "attributes: sparse",
        b"Files/packed": "attributes: compressed",
        b"Files/secret": "attributes: encrypted",
    }
    assert found[b"all"].attributes == 0x3127


def test_a_descriptor_without_owner_or_group_gets_them(store: Store, tmp_path: Path) -> None:
    nothing = bytes.fromhex("01000480") + bytes(16)
    image = load(
        store,
        tmp_path,
        file("Files/no group", b"", sd=OWNER_SYSTEM),
        file("Files/nothing", b"", sd=nothing),
    )
    made, found = exported(image, tmp_path)
    assert {loss.path for loss in made.not_carried} == {b"Files/no group", b"Files/nothing"}
    text = "O:{}G:SYD:NO_ACCESS_CONTROL"
    for name, owner in ((b"no group", "SY"), (b"nothing", "BA")):
        descriptor = SecurityDescriptor.parse(found[name].descriptor)
        assert descriptor.to_sddl() == text.format(owner)


def test_a_folder_with_a_reparse_point_keeps_what_is_in_it(store: Store, tmp_path: Path) -> None:
    point = ReparsePoint(ReparseTag.WCI_1, bytes(range(40)))
    found = records.reparse_records(point)[1]
    image = load(
        store,
        tmp_path,
        folder("Files/placeholder", attributes=0x410, records=found),
        file("Files/placeholder/inside", b"inside"),
    )
    volume = tmp_path / "out"
    made = image.export_ntfs(volume)
    assert not made.not_carried
    entries = ntfs_volumes.read(volume, tmp_path / "mnt")
    assert entries[b"placeholder"].reparse == point.build()
    inside = subprocess.run(
        ["ntfscat", "-q", volume, "placeholder/inside"], capture_output=True, check=True
    )
    assert inside.stdout == b"inside"


def many(count: int, make: Callable[[int], list[Entry]]) -> list[Entry]:
    return [entry for number in range(count) for entry in make(number)]


# What may need more room than its data: the volume is sized for it beforehand.
ROOM = {
    "tiny files": many(3000, lambda n: [file(f"Files/{n:06}", b"x" * (n % 900))]),
    "one cluster and a byte": many(1000, lambda n: [file(f"Files/{n:06}", b"x" * 4097)]),
    "long names": many(1500, lambda n: [file(f"Files/{n:05}{'n' * 240}")]),
    "descriptors": many(1500, lambda n: [file(f"Files/{n}", sd=distinct_descriptor(n))]),
    "streams": [
        file("Files/a"),
        *many(300, lambda n: [file(f"Files/a:{n}{'s' * 200}", b"x" * 500, attributes=None)]),
    ],
    "names of one file": [
        file("Files/a"),
        *many(300, lambda n: [hard_link(f"Files/{n:04}{'l' * 200}", "Files/a")]),
    ],
    "folders": many(700, lambda n: [folder(f"Files/{n}"), folder(f"Files/{n}/below")]),
    "extended attributes": many(
        400,
        lambda n: [
            file(
                f"Files/{n}",
                records={b"MSWINDOWS.xattr.BIG": base64.b64encode(b"v" * 3000)},
            )
        ],
    ),
    "links": many(800, lambda n: [symlink(f"Files/{n}", "C:\\" + "t" * 500)]),
}


@pytest.mark.parametrize("entries", ROOM.values(), ids=ROOM)
def test_a_volume_is_large_enough_for_what_goes_on_it(
    store: Store, tmp_path: Path, entries: list[Entry]
) -> None:
    image = load(store, tmp_path, *entries)
    made = image.export_ntfs(tmp_path / "out")
    assert not made.not_carried
    ntfs_volumes.check(tmp_path / "out")
    assert (tmp_path / "out").stat().st_blocks * 512 < made.size


def test_more_metadata_than_is_kept_in_memory_is_read_again(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "MAX_BYTES", 1000)
    image = load(
        store,
        tmp_path,
        *many(
            40,
            lambda n: [
                file(
                    f"Files/{n}",
                    b"%d" % n,
                    sd=distinct_descriptor(n),
                    records=records.eas_records([ExtendedAttribute(b"N", b"%d" % n)]),
                ),
                symlink(f"Files/link{n}", f"target{n}"),
            ],
        ),
    )
    made, found = exported(image, tmp_path)
    assert not made.not_carried
    assert_same(image, found)


def test_a_volume_has_its_label_and_size(store: Store, tmp_path: Path) -> None:
    image = load(store, tmp_path)
    image.export_ntfs(tmp_path / "out", label="Größe 東京", size=40 << 20)
    assert (tmp_path / "out").stat().st_size == 40 << 20
    told = subprocess.run(["ntfslabel", tmp_path / "out"], check=True, capture_output=True)
    assert told.stdout.decode().strip() == "Größe 東京"
    for label in ("x" * 33, "a\0b", "\udc80"):
        with pytest.raises(UsageError, match="a label has"):
            image.export_ntfs(tmp_path / "other", label=label)


def test_the_same_image_gives_the_same_volume(store: Store, tmp_path: Path) -> None:
    image = load(store, tmp_path, *ROOM["streams"][:20], folder("Files/d"))
    for name in ("one", "two"):
        image.export_ntfs(tmp_path / name)
    one, two = ((tmp_path / name).read_bytes()[:512] for name in ("one", "two"))
    assert one == two  # the boot sector, with the serial number


def test_a_descriptor_too_large_to_be_inherited_is_refused_or_listed(
    store: Store, tmp_path: Path
) -> None:
    # Generic rights come down twice to a directory: as they act there, and for those below.
    aces = "".join(f"(A;OICI;GA;;;S-1-5-21-1-2-3-{number})" for number in range(1, 1700))
    large = SecurityDescriptor.from_sddl(f"O:SYG:SYD:P{aces}").build()
    image = load(store, tmp_path, folder("Files/made", sd=large), folder("Files/made/old"))
    with pytest.raises(UsageError, match="Files/made/old: a security descriptor that cannot"):
        image.export_ntfs(tmp_path / "out")
    # ntfssecaudit fails at the large one, so this volume is not checked with it.
    made = image.export_ntfs(tmp_path / "out", skip_unsupported=True)
    assert [lost.path for lost in made.not_carried] == [b"Files/made/old"]
