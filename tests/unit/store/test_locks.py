from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from windowsfilter.store import locks as module
from windowsfilter.store.locks import FileLocks, Locks, LockTimeout, RangeLocks

# Takes a lock, says so, and lives until its standard input ends.
HOLDER = """
import sys
from pathlib import Path
from windowsfilter.store import locks as module
from windowsfilter.store.locks import Locks
if sys.argv[4] == "FileLocks":
    module._backend = lambda root: module.FileLocks(root / "locks")
locks = Locks(Path(sys.argv[1]))
lock = locks.attempt(sys.argv[2], shared=sys.argv[3] == "shared")
print("taken" if lock is None else "held", flush=True)
sys.stdin.read()
"""


@pytest.fixture(params=["RangeLocks", "FileLocks"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "FileLocks":
        monkeypatch.setattr(module, "_backend", lambda root: FileLocks(root / "locks"))
    return str(request.param)


@pytest.fixture
def locks(tmp_path: Path, backend: str) -> Locks:
    return Locks(tmp_path)


class Other:
    """Another process that tries a lock and keeps it."""

    def __init__(self, root: Path, name: str, backend: str, mode: str = "exclusive") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(root), name, mode, backend],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.answer = self.process.stdout.readline().strip()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()

    def end(self) -> None:
        self.process.communicate("")


def test_linux_uses_ranges_of_one_file(tmp_path: Path) -> None:
    assert isinstance(Locks(tmp_path)._backend, RangeLocks)


def test_one_lock_excludes_threads_and_processes(
    locks: Locks, tmp_path: Path, backend: str
) -> None:
    with locks.held("layer:a"):
        assert Locks(tmp_path).attempt("layer:a") is None
        other = Other(tmp_path, "layer:a", backend)
        assert other.answer == "taken"
        other.end()
        beside = Other(tmp_path, "layer:b", backend)
        assert beside.answer == "held"
        beside.end()
    lock = locks.attempt("layer:a")
    assert lock is not None
    lock.release()
    lock.release()


def test_shared_locks_exclude_only_exclusive_ones(
    locks: Locks, tmp_path: Path, backend: str
) -> None:
    with locks.held("catalog", shared=True):
        assert locks.attempt("catalog") is None
        for mode, answer in (("shared", "held"), ("exclusive", "taken")):
            other = Other(tmp_path, "catalog", backend, mode)
            assert other.answer == answer
            other.end()


def test_death_releases_a_lock(locks: Locks, tmp_path: Path, backend: str) -> None:
    other = Other(tmp_path, "layer:a", backend)
    assert other.answer == "held"
    assert locks.attempt("layer:a") is None
    other.kill()
    with locks.held("layer:a", timeout_s=0):
        pass


def test_waiting_ends_with_an_error_that_names_lock_and_holder(
    tmp_path: Path,
) -> None:
    locks = Locks(tmp_path)
    other = Other(tmp_path, "layer:a", "RangeLocks")
    with pytest.raises(LockTimeout, match=rf"lock layer:a .*held by process {other.process.pid} "):
        locks.acquire("layer:a", timeout_s=0.01)
    other.end()


def test_waiting_ends_when_the_lock_is_free(locks: Locks) -> None:
    order = []
    lock = locks.acquire("layer:a")

    def wait() -> None:
        with locks.held("layer:a"):
            order.append("waiter")

    waiter = threading.Thread(target=wait)
    waiter.start()
    order.append("holder")
    lock.release()
    waiter.join()
    assert order == ["holder", "waiter"]


def test_a_wait_is_announced_once(
    locks: Locks, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_SAY_SO_AFTER_S", -1.0)
    caplog.set_level("INFO")
    with locks.held("layer:a"), pytest.raises(LockTimeout):
        locks.acquire("layer:a", timeout_s=0.02)
    assert [
        r.getMessage() for r in caplog.records if "waiting for" in r.getMessage()
    ].__len__() == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("layer:a", "store"),
        ("layer:a", "tags"),
        ("blob:a", "layer:a"),
        ("image:b", "image:a"),
        ("blob:b", "blob:a"),
        ("layer:a", "layer:a"),
        ("tags", "tags"),
        ("image:a", "name:x"),
    ],
)
def test_taking_locks_against_their_order_is_an_error_and_no_deadlock(
    locks: Locks, first: str, second: str
) -> None:
    with locks.held(first), pytest.raises(RuntimeError, match="lock"), locks.held(second):
        pass
    assert locks.attempt(second) is not None


def test_layers_may_be_taken_in_any_order_of_ids(locks: Locks) -> None:
    # Parent before child is the rule, and ids say nothing about that.
    with locks.held("layer:b"), locks.held("layer:a"), locks.held("blob:z"):
        pass


def test_trying_without_waiting_ignores_the_order(locks: Locks) -> None:
    with locks.held("layer:a"), locks.held("image:a", timeout_s=0):
        pass


def test_an_order_error_does_not_follow_a_thread_that_let_go(locks: Locks) -> None:
    with locks.held("layer:a"):
        pass
    with locks.held("store"):
        pass


def test_bytes_of_locks_are_apart_and_fit_an_offset() -> None:
    names = ["store", "catalog", "tags", *(f"layer:{n}" for n in range(1000))]
    found = {module._byte_of(name) for name in names}
    assert len(found) == len(names)
    assert max(found) < 1 << 62


def test_flock_files_go_away_with_their_last_holder(tmp_path: Path) -> None:
    backend = FileLocks(tmp_path / "locks")
    first = backend.try_lock("a", shared=True)
    second = backend.try_lock("a", shared=True)
    assert first is not None
    assert second is not None
    backend.unlock("a", first)
    assert len(os.listdir(tmp_path / "locks")) == 1
    backend.unlock("a", second)
    assert not os.listdir(tmp_path / "locks")


def test_many_threads_never_share_a_lock(locks: Locks) -> None:
    inside = 0
    most = 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(20):
            with locks.held("layer:a"):
                inside += 1
                most = max(most, inside)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
