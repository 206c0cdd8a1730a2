from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windowsfilter.ui import text

any_text = st.text(alphabet=st.characters(codec=None, min_codepoint=0, max_codepoint=0x10FFFF))


@given(st.text(alphabet=st.characters(min_codepoint=0xD700, max_codepoint=0xE000)))
def test_names_with_lone_surrogates_keep_their_bytes(name: str) -> None:
    # Pairs become one character, as everywhere in WTF-8; what is alone survives.
    whole = name.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    assert text.decode(text.encode(whole)) == whole


def test_bytes_that_are_no_text_are_shown_with_escapes() -> None:
    assert text.decode(b"a\xffb") == "a\\xffb"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain name.txt", "plain name.txt"),
        ("zoë 東京 🗔", "zoë 東京 🗔"),
        ("a\nb\tc\x1b[2J", "a\\x0ab\\x09c\\x1b[2J"),
        ("\x9b31m", "\\x9b31m"),
        ("\u202egpj.exe", "\\u202egpj.exe"),
        ("\ud800", "\\ud800"),
        ("\u2028", "\\u2028"),
    ],
)
def test_what_disturbs_a_terminal_is_escaped(name: str, shown: str) -> None:
    assert text.escaped(name) == shown


@given(any_text)
def test_escaped_json_is_the_same_json_and_has_an_encoding(value: str) -> None:
    document = json.dumps({value: [value]}, ensure_ascii=False, indent=1)
    escaped = text.escaped_in_json(document)
    assert json.loads(escaped.encode()) == {value: [value]}
    assert text.escaped(escaped.replace("\n", "")) == escaped.replace("\n", "")
