from __future__ import annotations

from windowsfilter.ui import trees

TREE = {"C:\\": ["app", "Windows", "readme"], "app": ["run"], "Windows": ["System32"]}


def drawn(depth: int | None = None) -> list[str]:
    def below(node: str, level: int) -> list[str]:
        return [] if depth is not None and level >= depth else TREE.get(node, [])

    return list(trees.lines("C:\\", below, str))


def test_branches_lead_to_every_node() -> None:
    assert drawn() == [
        "C:\\",
        "├── app",
        "│   └── run",
        "├── Windows",
        "│   └── System32",
        "└── readme",
    ]


def test_depth_is_known_to_whoever_gives_the_children() -> None:
    assert drawn(depth=1) == ["C:\\", "├── app", "├── Windows", "└── readme"]
    assert drawn(depth=0) == ["C:\\"]


def test_trees_may_be_deeper_than_the_stack() -> None:
    deep = 20_000
    lines = trees.lines(0, lambda node, _: [node + 1] if node < deep else [], str)
    assert sum(1 for _ in lines) == deep + 1
