"""Which images a chain gets, when they are made again, and what their records say."""

import contextlib
import errno
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import chains, mounts
from windowsfilter.digests import chain_id
from windowsfilter.engines.portable.chains import MAX_DEPTH, ChainImages
from windowsfilter.engines.portable.erofs import delta as erofs_delta
from windowsfilter.engines.portable.erofs.xattrs import Profile
from windowsfilter.engines.portable.tree import Tree
from windowsfilter.errors import HostError, UsageError
from windowsfilter.layers.chains import ChainRecord

BASE = [chains.folder("Files/Windows"), chains.file("Files/Windows/a.txt", b"hello")]


def step(number: int) -> list[chains.Entry]:
    return [chains.file(f"files/WINDOWS/{number}.txt", b"%d" % number)]


class Folder:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.blobs = chains.Blobs(folder / "store")
        self.locked: list[str] = []
        self.made = 0
        (folder / "chains").mkdir()
        self.images = self.open()

    def open(self, profile: Profile = Profile.FULL) -> ChainImages:
        return ChainImages(
            self.folder / "chains", staging=self.staging, lock=self.lock, profile=profile
        )

    def staging(self, purpose: str) -> Path:
        self.made += 1
        place = self.folder / f"{purpose}.{self.made}"
        place.mkdir()
        return place

    @contextmanager
    def lock(self, key: str) -> Iterator[None]:
        self.locked.append(key)
        yield

    def record(self, key: str) -> ChainRecord:
        return ChainRecord.parse((self.folder / "chains" / key / "manifest.json").read_bytes())

    @property
    def left_in_staging(self) -> list[str]:
        return [path.name for path in self.folder.glob("image.*")]


@pytest.fixture
def place(tmp_path) -> Folder:
    return Folder(tmp_path)


def test_an_image_is_made_once_and_found_again(place):
    with place.blobs.chain(BASE) as chain:
        assert place.images.find(chain) is None
        first = place.images.get(chain)
        before = first.images[0].path.stat()
        again = place.open().get(chain, tree=lambda: pytest.fail("no tree is needed"))
        assert again == first
        assert again.images[0].path.stat().st_mtime_ns == before.st_mtime_ns
        assert before.st_mode & 0o777 == 0o600
        assert place.locked == [first.keys[0]]
    assert not place.left_in_staging


def test_the_record_says_what_the_image_is(place):
    with place.blobs.chain(BASE, [chains.file("Hives/x", b"1")]) as chain:
        (key,) = place.images.get(chain).keys
        record = place.record(key)
        assert record.chain_id == chain_id([layer.diff_id for layer in chain])
        assert record.lowers == ()
        assert record.extra["devices"] == [
            {"layer": 0, "diff_id": chain[0].diff_id, "file": "blob"},
            {"layer": 1, "diff_id": chain[1].diff_id, "file": "blob"},
        ]
        assert record.extra["size"] == (place.folder / "chains" / key / "image").stat().st_size
        assert place.images.verify(key) is None


def test_a_small_child_of_a_chain_with_images_gets_a_delta(place):
    with place.blobs.chain(BASE, step(1)) as chain:
        base = place.images.get(chain[:1])
        child = place.images.get(chain, tree=lambda: pytest.fail("no tree is needed"))
        assert child.keys[1:] == base.keys
        assert place.record(child.keys[0]).lowers == base.keys
        assert place.images.get(chain) == child


def test_a_chain_without_images_gets_one_image(place):
    with place.blobs.chain(BASE, step(1), step(2)) as chain:
        assert len(place.images.get(chain).images) == 1


def test_several_new_layers_get_a_delta_each(place):
    with place.blobs.chain(BASE, step(1), step(2), step(3)) as chain:
        place.images.get(chain[:1])
        assert len(place.images.get(chain).images) == 4


def test_deep_stacks_are_flattened(place):
    layers = [BASE, *map(step, range(MAX_DEPTH + 1))]
    depths = []
    with place.blobs.chain(*layers) as chain:
        for count in range(1, len(chain) + 1):
            depths.append(len(place.images.get(chain[:count]).images))
    assert depths == [*range(1, MAX_DEPTH + 1), 1, 2]


def test_a_large_child_gets_an_image_of_its_own(place, monkeypatch):
    monkeypatch.setattr(erofs_delta, "MAX_ENTRIES", 3)
    with place.blobs.chain(BASE, step(1) + step(2) + step(3) + step(4)) as chain:
        place.images.get(chain[:1])
        assert len(place.images.get(chain).images) == 1


@pytest.mark.parametrize(
    "child",
    {
        "a name that needs an alias": [chains.file("Files/" + "\u4e2d" * 200, b"1")],
        "a name that looks like an alias": [chains.file("Files/x~" + "0" * 32, b"1")],
        "a link to a file with several names": [chains.hard_link("Files/c", "Files/one")],
        "a link that leads nowhere": [chains.hard_link("Files/c", "Files/none")],
        "everything opaque": [chains.file(".wh..wh..opq")],
    }.items(),
    ids=lambda item: item[0],
)
def test_what_a_delta_cannot_say_is_said_by_a_full_image(place, child):
    base = [*BASE, chains.file("Files/one"), chains.hard_link("Files/two", "Files/one")]
    with place.blobs.chain(base, child[1]) as chain:
        place.images.get(chain[:1])
        assert len(place.images.get(chain).images) == 1


def test_nothing_is_stacked_on_a_chain_with_dangling_links(place):
    with place.blobs.chain([*BASE, chains.hard_link("Files/B", "Files/none")], step(1)) as chain:
        (key,) = place.images.get(chain[:1]).keys
        assert place.record(key).extra["dangling"] is True
        assert len(place.images.get(chain).images) == 1


def test_a_stack_whose_lower_image_is_gone_is_made_again(place):
    with place.blobs.chain(BASE, step(1)) as chain:
        base = place.images.get(chain[:1])
        stack = place.images.get(chain)
        place.images.discard(base.keys[0])
        assert place.images.find(chain) is None
        (whole,) = place.images.get(chain).images
        assert whole.key not in stack.keys
    assert not place.left_in_staging


def test_records_that_lie_are_not_believed(place):
    with place.blobs.chain(BASE) as chain:
        (key,) = place.images.get(chain).keys
        path = place.folder / "chains" / key / "manifest.json"
        good = json.loads(path.read_text())
        lies: list[dict[str, object]] = [
            {"devices": [{"layer": 0, "diff_id": "sha256:" + "0" * 64, "file": "blob"}]},
            {"devices": [{"layer": 7, "diff_id": chain[0].diff_id, "file": "blob"}]},
            {"devices": [{"layer": 0, "diff_id": chain[0].diff_id, "file": "../x"}]},
            {"devices": []},
            {"devices": None},
            {"key": "0" * 64},
            {"size": 1},
            {"lowers": ["../../x"]},
        ]
        for change in lies:
            path.write_text(json.dumps({**good, **change}))
            assert place.images.find(chain) is None
        path.write_text("{")
        assert place.images.find(chain) is None
        assert place.images.get(chain).keys == (key,)
        assert json.loads(path.read_text()) == good


def test_keys_tell_everything_apart_that_changes_bytes(place):
    with place.blobs.chain(BASE, step(1)) as chain:
        ids = [layer.diff_id for layer in chain]
        keys = {
            place.images.key(ids),
            place.images.key(ids, private=False),
            place.images.key(ids, delta=True),
            place.images.key(ids[::-1]),
            place.images.key(ids[:1]),
            place.open(Profile.ENTRY).key(ids),
        }
    assert len(keys) == 6


def test_verify_reports_what_is_not_there(place):
    assert "No such file" in (place.images.verify("0" * 64) or "")


def test_a_chain_has_layers(place):
    with pytest.raises(UsageError):
        place.images.get([])


def test_long_chains_have_one_image(place):
    layers = [BASE, *([chains.file(f"Files/{number}", b"x" * number)] for number in range(1, 120))]
    with place.blobs.chain(*layers) as chain:
        (image,) = place.images.get(chain, tree=lambda: Tree(chain)).images
        assert len(image.devices) == 120


@pytest.mark.root
def test_a_full_disk_is_told_and_nothing_stays(tmp_path):
    with mounts.tmpfs(tmp_path):
        place = Folder(tmp_path)
        entries = [chains.file(f"Files/{number:0200}") for number in range(2000)]
        with place.blobs.chain(entries) as chain:
            filler = tmp_path / "filler"
            with filler.open("wb") as file, contextlib.suppress(OSError):
                while True:
                    file.write(bytes(1 << 16))
            with pytest.raises(HostError, match="make chain image") as caught:
                place.images.get(chain)
            assert caught.value.errno == errno.ENOSPC
            assert not list((tmp_path / "chains").iterdir())
            assert not place.left_in_staging
            filler.unlink()
            assert place.images.get(chain) == place.images.find(chain)
