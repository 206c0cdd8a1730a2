"""The changes of a scratch against its chain: `docker diff`, told as Windows would see it."""

from __future__ import annotations

from pathlib import Path

from windowsfilter.engines.portable.changes import Change, ChangeKind
from windowsfilter.engines.portable.scratch.walk import walking
from windowsfilter.engines.portable.tree import Tree


def changes(tree: Tree, upper: Path) -> list[Change]:
    """What the scratch with this upper directory changes, in the order of its layer's tar.

    May be called while the scratch is mounted. Raises ScratchRefused, naming it, for what cannot
    be in a Windows layer; HostError for what changes while it is read.
    """
    found: list[Change] = []
    with walking(tree, upper) as walk:
        for node in walk.nodes():
            if node.change is not None:
                found.append(Change(node.change, node.path))
            for leaf, _ in node.whiteouts:
                found.append(Change(ChangeKind.DELETE, node.path + b"/" + leaf))
    return found
