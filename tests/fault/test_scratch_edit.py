"""Edits of a scratch that are killed half way: nothing is half-written, and the next edit works."""

import os
import shutil

import pytest

from tests.support import chains
from tests.support.crash import crash_points
from tests.support.scratches import TestScratch, scratch

BASE = [
    chains.folder("Files"),
    chains.folder("Files/d"),
    chains.file("Files/d/one", b"one"),
    chains.file("Files/d/one:s", b"s"),
    chains.folder("Files/d/e"),
    chains.file("Files/d/e/two", b"two"),
    chains.file("Files/three", b"three"),
    chains.symlink("Files/link", r"C:\d"),
]


def prepare(editor):
    editor.write(b"Files/three", b"changed")
    editor.write(b"Files/three:t", b"t")
    editor.mkdir(b"Files/new")
    editor.write(b"Files/new/file", b"new")
    editor.remove(b"Files/d/e", recursive=True)


EDITS = {
    "write new": lambda e: e.write(b"Files/d/x", b"x" * 3_000_000),
    "copy up": lambda e: e.write(b"Files/d/one", b"other"),
    "stream": lambda e: e.write(b"Files/d/one:new", b"stream"),
    "remove": lambda e: e.remove(b"Files/d/one"),
    "remove modified": lambda e: e.remove(b"Files/three"),
    "remove new": lambda e: e.remove(b"Files/new", recursive=True),
    "remove tree": lambda e: e.remove(b"Files/d", recursive=True),
    "mkdir again": lambda e: e.mkdir(b"Files/d/e"),
    "rename": lambda e: e.rename(b"Files/d/one", b"Files/moved"),
    "rename modified": lambda e: e.rename(b"Files/three", b"Files/new/three"),
    "rename case": lambda e: e.rename(b"Files/three", b"Files/THREE"),
    "rename tree": lambda e: e.rename(b"Files/d", b"Files/new/d"),
    "rename link": lambda e: e.rename(b"Files/link", b"Files/new/link"),
    "link": lambda e: e.link(b"Files/again", b"Files/three"),
    "symlink": lambda e: e.symlink(b"Files/new/s", b"x"),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_an_edit_that_is_killed_leaves_a_whole_scratch(tmp_path, edit):
    with scratch(tmp_path / "work", BASE) as work:
        begin(work)
        before = set(work.changes())
        with work.edited() as editor:
            edit(editor)
        after = set(work.changes())
        begin(work)
        points = 0
        for point, _ in crash_points(lambda: killed(work, edit)):
            points += 1
            between = set(work.changes())
            assert between <= before | after, point
            bodies = {entry.name: data for entry, data in work.entries()}
            assert bodies.get(b"Files/d/x", b"") in (b"", b"x" * 3_000_000), point
            with work.edited() as editor:
                assert editor.listdir(b"Files")
            assert sorted(os.listdir(work.folder)) == ["upper"]
            begin(work)
        assert points > 2
        assert set(work.changes()) == after


def begin(work: TestScratch) -> None:
    shutil.rmtree(work.upper)
    shutil.rmtree(work.folder / "staging", ignore_errors=True)
    work.upper.mkdir()
    with work.edited() as editor:
        prepare(editor)


def killed(work: TestScratch, edit) -> None:
    with work.edited() as editor:
        edit(editor)
