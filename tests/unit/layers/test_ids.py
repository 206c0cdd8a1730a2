from __future__ import annotations

import pytest

from windowsfilter.digests import DiffID, chain_id
from windowsfilter.errors import UsageError
from windowsfilter.layers import ids


@pytest.mark.parametrize(
    "text",
    ["a", "Base", "f" * 64, "f" * 64 + "-init", "f" * 64 + "-removing", "a.b_c-d", "x" * 128],
)
def test_ids_of_docker_and_of_its_tests_are_accepted(text: str) -> None:
    assert ids.check_id(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        ".hidden",
        "-x",
        "a/b",
        "a\\b",
        "../x",
        "a\0",
        "a\n",
        "x" * 129,
        "ä",
        "a b",
        "C:",
    ],
)
def test_text_that_could_leave_or_hide_in_the_folder_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no layer id"):
        ids.check_id(text)


def test_random_ids_are_ids_and_differ() -> None:
    made = {ids.random_id() for _ in range(100)}
    assert len(made) == 100
    assert all(ids.is_id(text) and len(text) == 64 for text in made)


def test_the_id_of_a_loaded_layer_is_its_chain_id() -> None:
    chain = chain_id([DiffID.of(b"a"), DiffID.of(b"b")])
    assert f"sha256:{ids.id_of_chain(chain)}" == chain
