"""Trees of names as lines with branches in front."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

_BRANCH, _LAST, _DOWN, _EMPTY = "├── ", "└── ", "│   ", "    "


def lines(
    root: T, below: Callable[[T, int], Sequence[T]], name: Callable[[T], str]
) -> Iterator[str]:
    """One line for each node, the root first.

    `below(node, depth)` gives the children of a node at a depth (the root's is 0). A stack instead
    of recursion: paths of a layer may be deeper than Python likes.
    """
    yield name(root)
    pending = _with_branches(below(root, 0), "", 1)
    while pending:
        node, indent, last, depth = pending.pop()
        yield indent + (_LAST if last else _BRANCH) + name(node)
        pending += _with_branches(
            below(node, depth), indent + (_EMPTY if last else _DOWN), depth + 1
        )


def _with_branches(nodes: Sequence[T], indent: str, depth: int) -> list[tuple[T, str, bool, int]]:
    """What is to be drawn, the first node at the end, where it is taken from."""
    end = len(nodes) - 1
    return [(node, indent, number == end, depth) for number, node in enumerate(nodes)][::-1]
