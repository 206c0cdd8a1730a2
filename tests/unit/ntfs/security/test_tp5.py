"""The ACE that Docker added to SDDL for builds up to 14300, as the Go original and as it should be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windowsfilter.errors import FormatError
from windowsfilter.ntfs.security.tp5 import DIRECTORY_ACE, FILE_ACE, add_ace_to_sddl_dacl

N = FILE_ACE
GIVES_UP = None
REFUSED = "refused"

# text -> what the reference answers, what we answer; None: the text unchanged, and False.
CASES: dict[str, tuple[str, str | None, str | None]] = {
    "an empty DACL": ("D:", f"D:{N}", f"D:{N}"),
    "before the first allow ACE": (
        "D:(D;;;no)(A;;;y)",
        f"D:(D;;;no){N}(A;;;y)",
        f"D:(D;;;no){N}(A;;;y)",
    ),
    "behind denials alone": ("D:(D;;;no)", f"D:(D;;;no){N}", f"D:(D;;;no){N}"),
    "there already": (f"O:BAD:{N}", f"O:BAD:{N}", f"O:BAD:{N}"),
    "there already, behind others": (
        f"D:(D;;;no)(A;;;y){N}S:",
        f"D:(D;;;no)(A;;;y){N}S:",
        f"D:(D;;;no)(A;;;y){N}S:",
    ),
    "between other sections": (
        "O:BAG:SYD:(A;;FA;;;SY)S:AI(AU;SA;FA;;;WD)",
        f"O:BAG:SYD:{N}(A;;FA;;;SY)S:AI(AU;SA;FA;;;WD)",
        f"O:BAG:SYD:{N}(A;;FA;;;SY)S:AI(AU;SA;FA;;;WD)",
    ),
    "a SID whose last digits look like a section": (
        "O:S-1-2-512D:(A;;FA;;;SY)",
        f"O:S-1-2-512D:{N}(A;;FA;;;SY)",
        f"O:S-1-2-512D:{N}(A;;FA;;;SY)",
    ),
    "no DACL": ("O:BAG:SY", GIVES_UP, GIVES_UP),
    "nothing at all": ("", GIVES_UP, GIVES_UP),
    "only a SACL": ("S:(AU;SA;FA;;;WD)", GIVES_UP, GIVES_UP),
    "object and callback ACEs are no plain allow ACEs": (
        'D:(OA;;CR;;;WD)(XA;;FX;;;WD;(@USER.a == "b"))(A;;FA;;;SY)',
        f'D:(OA;;CR;;;WD)(XA;;FX;;;WD;(@USER.a == "b")){N}(A;;FA;;;SY)',
        f'D:(OA;;CR;;;WD)(XA;;FX;;;WD;(@USER.a == "b")){N}(A;;FA;;;SY)',
    ),
    # The reference gives up on what it does not know, where there is a good answer.
    "flags": ("D:PAI(A;;FA;;;SY)", GIVES_UP, f"D:PAI{N}(A;;FA;;;SY)"),
    "flags alone": ("D:AI", GIVES_UP, f"D:AI{N}"),
    "a blank between ACEs": ("D:(D;;;no) (A;;;y)", GIVES_UP, f"D:(D;;;no) {N}(A;;;y)"),
    "blanks around flags": ("D: P AI S:", GIVES_UP, f"D: P AI{N} S:"),
    "everybody is let in anyway": ("D:NO_ACCESS_CONTROL", GIVES_UP, GIVES_UP),
    "everybody is let in, with flags": ("D:PAINO_ACCESS_CONTROLS:", GIVES_UP, GIVES_UP),
    # The reference makes nonsense of these.
    "one flag alone": ("D:P", f"D:{N}P", f"D:P{N}"),
    "one flag, then a SACL": ("D:PS:AI", f"D:{N}PS:AI", f"D:P{N}S:AI"),
    "an ACE that has only begun": ("D:(", f"D:{N}(", REFUSED),
    "an ACE without an end": ("D:(D;;;un", f"D:(D;;;un{N}", REFUSED),
    "an ACE of nothing": ("D:()", f"D:(){N}", REFUSED),
    "letters behind ACEs": ("D:(D;;;no)x", f"D:(D;;;no){N}x", REFUSED),
    "a parenthesis right after one": ("D:((D;;;no)", f"D:((D;;;no){N}", REFUSED),
    "a section's name inside a string": (
        'D:(XD;;FX;;;WD;(@USER.a == "S:"))(A;;FA;;;SY)',
        f'D:(XD;;FX;;;WD;(@USER.a == "{N}S:"))(A;;FA;;;SY)',
        f'D:(XD;;FX;;;WD;(@USER.a == "S:")){N}(A;;FA;;;SY)',
    ),
    "a parenthesis inside a string": (
        'D:(XD;;FX;;;WD;(@USER.a == ")"))(A;;FA;;;SY)',
        GIVES_UP,
        f'D:(XD;;FX;;;WD;(@USER.a == ")")){N}(A;;FA;;;SY)',
    ),
    "the ACE's text inside a string": (
        f'D:(XD;;FX;;;WD;(@USER.a == "{N}"))',
        f'D:(XD;;FX;;;WD;(@USER.a == "{N}"))',
        f'D:(XD;;FX;;;WD;(@USER.a == "{N}")){N}',
    ),
    "the DACL behind the SACL, whose string names one": (
        'S:(RA;;;;;WD;("D:",TS,0x0,"D:"))D:(A;;FA;;;SY)',
        GIVES_UP,
        f'S:(RA;;;;;WD;("D:",TS,0x0,"D:"))D:{N}(A;;FA;;;SY)',
    ),
    "a lower-case type": ("D:(d;;;no)(a;;;y)", f"D:(d;;;no)(a;;;y){N}", f"D:(d;;;no){N}(a;;;y)"),
}


def unchanged_or(text: str, answer: str | None) -> tuple[str, bool]:
    return (text, False) if answer is None else (answer, True)


@pytest.mark.parametrize(("text", "reference", "ours"), CASES.values(), ids=CASES)
def test_the_reference_is_imitated_to_the_letter(
    text: str, reference: str | None, ours: str | None
) -> None:
    assert add_ace_to_sddl_dacl(text, N, go=True) == unchanged_or(text, reference)


@pytest.mark.parametrize(("text", "reference", "ours"), CASES.values(), ids=CASES)
def test_the_ace_goes_where_it_belongs(text: str, reference: str | None, ours: str | None) -> None:
    if ours == REFUSED:
        with pytest.raises(FormatError) as caught:
            add_ace_to_sddl_dacl(text, N)
        assert caught.value.offset is not None
        assert 0 <= caught.value.offset <= len(text)
        return
    assert add_ace_to_sddl_dacl(text, N) == unchanged_or(text, ours)


@pytest.mark.parametrize(
    ("text", "offset"),
    {
        "X:BA": 1,
        "BA": 0,
        "  BA": 2,
        "x O:BA": 0,
        "D:P(A;;FA;;;SY)D:": 15,
        "D:PX": 3,
        "D:(A;;FA;;;SY)S:(": 16,
        'D:(XA;;FX;;;WD;(@USER.a == "b))': 27,
        "D:NO_ACCESS_CONTROL(A;;FA;;;SY)": 2,
    }.items(),
)
def test_malformed_texts_are_refused_where_they_are_wrong(text: str, offset: int) -> None:
    with pytest.raises(FormatError) as caught:
        add_ace_to_sddl_dacl(text, N)
    assert caught.value.offset == offset


def test_long_texts_take_no_more_than_their_length() -> None:
    """Quadratic work would not end here."""
    for text in (
        "D:" + "(" * 2_000_000,
        "D:" + "(D;;;no)" * 250_000,
        'D:(XA;;;;;WD;("' + '"("' * 500_000,
        "O:" * 1_000_000,
        "D:" + "P" * 2_000_000,
        "D:" + " " * 2_000_000 + "x",
    ):
        for go in (False, True):
            try:
                add_ace_to_sddl_dacl(text, DIRECTORY_ACE, go=go)
            except FormatError:
                assert not go


PIECES = ["D:", "S:", "O:", "(", ")", "A;", "(A;;FA;;;SY)", "(D;;;no)", N, '"', " ", "P", "AI", ";"]


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_once_added_it_is_found_again(text: str) -> None:
    try:
        added, there = add_ace_to_sddl_dacl(text, N)
    except FormatError:
        return
    if there:
        assert add_ace_to_sddl_dacl(added, N) == (added, True)
        assert len(added) in (len(text), len(text) + len(N))
    else:
        assert added == text


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_the_reference_only_ever_inserts(text: str) -> None:
    added, there = add_ace_to_sddl_dacl(text, N, go=True)
    assert there or added == text
    if added != text:
        assert any(text[:at] + N + text[at:] == added for at in range(len(text) + 1))
