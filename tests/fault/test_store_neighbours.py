"""Several processes load, tag, remove and prune overlapping chains at once; nobody loses anything."""

from __future__ import annotations

import os
import random
import signal
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fault.test_store_crashes import check, check_no_leak
from tests.support.open_store import OpenStore, add_layers, add_scratch, chain_of, load
from windowsfilter.digests import DiffID
from windowsfilter.errors import AlreadyExists, ImageNotFound, LayerInUse, LayerNotFound
from windowsfilter.store.holds import HoldKind

PROCESSES = 4
ROUNDS = 12


def in_children(work: Callable[[int], None], count: int = PROCESSES) -> list[int]:
    """Run `work(number)` in forks at the same time; their wait statuses."""
    children = []
    for number in range(count):
        child = os.fork()
        if child == 0:
            try:
                work(number)
            except BaseException:  # noqa: BLE001
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        children.append(child)
    return [os.waitpid(child, 0)[1] for child in children]


# Chains that share their lower layers, and contents that stand on different parents.
CHAINS = [[b"a"], [b"a", b"b"], [b"a", b"b", b"c"], [b"a", b"c"], [b"d", b"b"], [b"d", b"b", b"e"]]


def busy(root: Path, number: int, *, rounds: int = ROUNDS) -> None:
    chance = random.Random(number)
    with OpenStore(root) as store:
        for _ in range(rounds):
            one_thing(store, chance)


def one_thing(store: OpenStore, chance: random.Random) -> None:
    chain = chance.choice(CHAINS)
    tag = f"t{chance.randrange(4)}"
    what = chance.randrange(6)
    try:
        if what < 3:
            load_and_rely(store, chain, tag)
        elif what == 3:
            store.garbage.remove_image(store.images.untag(tag), tags=())
        elif what == 4:
            store.garbage.prune(untagged_images=chance.random() < 0.5)
        else:
            scratch_and_back(store, chain, f"s{chance.randrange(3)}")
    except (ImageNotFound, LayerInUse):
        pass  # somebody else was faster


def load_and_rely(store: OpenStore, chain: list[bytes], tag: str) -> None:
    """While the image is held, it and all it is made of are there."""
    config = repr(chain).encode()
    with store.holds.held([(HoldKind.IMAGE, DiffID.of(config).hex)], "test"):
        image_id = load(store, chain, tag)
        for layer, content in zip(store.catalog.image(image_id).layers, chain, strict=True):
            manifest = store.catalog.layer(layer)
            assert manifest.diff_id == DiffID.of(content)
            assert (store.layout.blob(manifest.diff_id) / "blob").read_bytes() == content
            assert (store.layout.layer(layer) / "manifest.json").exists()


def scratch_and_back(store: OpenStore, chain: list[bytes], name: str) -> None:
    blobs = [(HoldKind.BLOB, DiffID.of(content).hex) for content in chain]
    layers = [(HoldKind.LAYER, chain_id.hex) for chain_id in chain_of(chain)]
    with store.holds.held(blobs + layers, "create"):
        parent = add_layers(store, chain)[-1]
        try:
            add_scratch(store, f"{name}-{os.getpid()}", name, parent)
        except AlreadyExists:
            return
    scratch = store.catalog.scratch(name)
    assert scratch is not None
    assert [layer.id for layer in store.catalog.chain(scratch.id)][1] == parent
    try:
        store.garbage.remove_layer(scratch.id)
    except LayerNotFound as error:
        raise AssertionError("nobody else removes our scratch") from error


def test_processes_that_work_on_the_same_layers_lose_none(tmp_path: Path) -> None:
    root = tmp_path / "store"
    OpenStore(root).close()
    assert in_children(lambda number: busy(root, number)) == [0] * PROCESSES
    with OpenStore(root) as store:
        check(store)
        check_no_leak(store)


def test_two_processes_that_load_the_same_image_store_it_once(tmp_path: Path) -> None:
    root = tmp_path / "store"

    def work(number: int) -> None:
        with OpenStore(root) as store:
            load(store, CHAINS[2], f"t{number}")

    assert in_children(work) == [0] * PROCESSES
    with OpenStore(root) as store:
        check(store)
        assert len(store.catalog.images()) == 1
        assert len(store.catalog.layers()) == 3
        assert len(store.catalog.tags()) == PROCESSES


def test_a_name_goes_to_one_of_those_who_want_it(tmp_path: Path) -> None:
    root = tmp_path / "store"
    with OpenStore(root) as store:
        base = add_layers(store, [b"a"])[0]

    def work(number: int) -> None:
        with OpenStore(root) as store:
            try:
                add_scratch(store, f"s{number}", "wanted", base)
            except AlreadyExists:
                os._exit(7)

    statuses = [os.waitstatus_to_exitcode(status) for status in in_children(work)]
    assert sorted(statuses) == [0, 7, 7, 7]
    with OpenStore(root) as store:
        check(store)
        assert len(store.catalog.layers()) == 2


@pytest.mark.parametrize("seed", range(3))
def test_neighbours_go_on_when_one_is_killed(tmp_path: Path, seed: int) -> None:
    root = tmp_path / "store"
    OpenStore(root).close()

    def work(number: int) -> None:
        if number == 0:
            # Dies somewhere in the middle, by a count of its own calls and not by the clock.
            left = 30 + 37 * seed
            original = os.open

            def counted(*args: object, **more: object) -> int:
                nonlocal left
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return original(*args, **more)  # type: ignore[arg-type]

            os.open = counted
        busy(root, 100 * seed + number)

    statuses = in_children(work)
    assert os.WTERMSIG(statuses[0]) == signal.SIGKILL
    assert statuses[1:] == [0] * (PROCESSES - 1)
    with OpenStore(root) as store:
        check(store)
        check_no_leak(store)
