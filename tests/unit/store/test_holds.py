from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.open_store import OpenStore
from windowsfilter.store import processes
from windowsfilter.store.holds import HoldKind
from windowsfilter.store.processes import Process

HOLDER = """
import sys
from pathlib import Path
from tests.support.open_store import OpenStore
from windowsfilter.store.holds import HoldKind
store = OpenStore(Path(sys.argv[1]))
store.holds.take([(HoldKind.LAYER, "a")], "mount", path="/mnt")
print("held", flush=True)
sys.stdin.read()
"""

LAYER_A = (HoldKind.LAYER, "a")


def start_holder(root: Path) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
        env={**os.environ, "PYTHONPATH": "."},
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    return child


def test_a_hold_is_seen_until_it_is_released(store: OpenStore) -> None:
    with store.holds.held([LAYER_A, (HoldKind.BLOB, "b")], "load") as holds:
        assert len(holds) == 2
        assert store.holds.live(HoldKind.LAYER, "a") == holds[:1]
        assert store.holds.live(HoldKind.BLOB) == holds[1:]
        assert store.holds.live() == sorted(holds, key=lambda hold: hold.id)
        assert not store.holds.live(HoldKind.LAYER, "b")
    assert not store.holds.live()
    store.holds.release(holds)


def test_two_holds_on_one_object_end_one_by_one(store: OpenStore) -> None:
    first = store.holds.take([LAYER_A], "get", path="/m")
    second = store.holds.take([LAYER_A], "get", path="/m")
    assert {hold.id for hold in store.holds.at("/m")} == {first[0].id, second[0].id}
    store.holds.release(first)
    assert store.holds.live() == second


def test_other_processes_are_seen_and_their_death_ends_their_holds(
    root: Path, store: OpenStore
) -> None:
    child = start_holder(root)
    (hold,) = store.holds.live(*LAYER_A)
    assert hold.process is not None
    assert hold.process.pid == child.pid
    assert hold.describe() == f"mount at /mnt by process {child.pid}"
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert not store.holds.live(*LAYER_A)
    assert len(store.catalog.find_holds()) == 1
    store.holds.take([(HoldKind.LAYER, "b")], "load")
    assert [hold.object for hold in store.catalog.find_holds()] == ["b"]


def test_a_lasting_hold_outlives_its_process(root: Path) -> None:
    with OpenStore(root) as store:
        (hold,) = store.holds.take([LAYER_A], "mount", path="/mnt", lasting=True)
        assert (root / "holds" / f"{hold.id}.json").exists()
    with OpenStore(root) as store:
        assert store.holds.live(*LAYER_A) == [hold]
        store.holds.release([hold])
        assert not store.holds.live()
    assert not list((root / "holds").iterdir())


def test_cleanup_drops_the_dead_and_if_asked_what_nobody_stands_for(store: OpenStore) -> None:
    mine = store.holds.take([LAYER_A], "load")
    lasting = store.holds.take([LAYER_A], "get", lasting=True)
    nobody = Process(1 << 22, 1, processes.current().namespace)
    dead = replace(mine[0], id="dead", process=nobody)
    store.catalog.add_holds([dead])
    assert store.holds.cleanup() == [dead]
    assert store.holds.cleanup(lasting=True) == lasting
    assert store.holds.live() == mine


def test_a_reboot_ends_every_hold(
    root: Path, store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.holds.take([LAYER_A], "mount", lasting=True)
    store.holds.take([LAYER_A], "load")
    monkeypatch.setattr(processes, "boot_id", lambda: "another boot")
    assert not store.holds.live()
    assert store.holds.saved() == []
    assert len(store.holds.cleanup()) == 2
    assert not list((root / "holds").iterdir())


def test_a_lost_catalog_gives_lasting_holds_back(root: Path) -> None:
    with OpenStore(root) as store:
        lasting = store.holds.take([LAYER_A], "mount", path="/mnt", lasting=True)
        store.holds.take([LAYER_A], "load")
        (root / "holds" / "half.json").write_text("{")
    (root / "catalog.db").unlink()
    with OpenStore(root) as store:
        assert store.holds.live() == lasting
    assert [path.name for path in (root / "holds").iterdir()] == [f"{lasting[0].id}.json"]


def test_a_pid_that_was_given_away_again_is_another_process() -> None:
    me = processes.current()
    boot = processes.boot_id()
    assert processes.is_alive(me, boot)
    assert not processes.is_alive(replace(me, start_time=me.start_time + 1), boot)
    assert not processes.is_alive(me, "another boot")
    assert not processes.is_alive(Process(1 << 22, 5, me.namespace), boot)


def test_a_process_of_another_pid_namespace_counts_as_alive() -> None:
    assert processes.is_alive(Process(1 << 22, 5, "pid:[1]"), processes.boot_id())


def test_a_zombie_is_dead() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert processes._start_time(child) is None
    os.waitpid(child, 0)


def test_systems_that_tell_nothing_are_asked_for_the_pid() -> None:
    namespace = processes.current().namespace
    boot = processes.boot_id()
    assert processes.is_alive(Process(os.getpid(), 0, namespace), boot)
    assert processes.is_alive(Process(1, 0, namespace), boot)
    assert not processes.is_alive(Process(1 << 22, 0, namespace), boot)
