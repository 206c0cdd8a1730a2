"""Conditional expressions from text.

Operators wait on a list until their operands are there; what is read goes out in postfix order at once.
Nothing recurses: parentheses may be as deep as the text is long.
Sources: MS-DTYP 2.5.1.1; what Windows accepts beside it, as its published outputs show.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from windowsfilter.ntfs.security.condition_words import (
    COMPARISON_SIGN,
    COMPARISON_WORDS,
    LEADING_WORDS,
    PREFIX,
    SOURCES,
    WORD,
)
from windowsfilter.ntfs.security.conditions import (
    EXISTENCE,
    Attribute,
    AttributeSource,
    Composite,
    Condition,
    Integer,
    Literal,
    Octets,
    Operator,
    SidValue,
    String,
    Token,
)
from windowsfilter.ntfs.security.scanner import BASE_10, Scanner

_OCTETS = re.compile(r"#([0-9a-fA-F#]*)")
_SID_WORD = re.compile(r"[Ss][Ii][Dd](?![A-Za-z0-9:./_])")
_STARTS_NUMBER = frozenset("+-0123456789")
_SIGNS = {"+": 1, "-": 2, "": 3}
_INT64_LIMIT = 2**63
_UINT64_LIMIT = 2**64


def read_condition(scanner: Scanner) -> Condition:
    """The expression that comes next, in its outermost parentheses. Raises SddlError."""
    if not scanner.looks_at("("):
        raise scanner.error(f"condition expected, found {scanner.shown()}")
    tokens: list[Token] = []
    # Operators that lack their right operand; None is an open parenthesis.
    waiting: list[Operator | None] = []
    while True:
        _read_openings(scanner, waiting)
        comparable = _read_term(scanner, tokens)
        while True:
            if comparable:
                _read_comparisons(scanner, tokens)
            _release(Operator.NOT, waiting, tokens)
            scanner.skip_blanks()
            if not scanner.take(")"):
                break
            _release(Operator.AND, waiting, tokens)
            _release(Operator.OR, waiting, tokens)
            waiting.pop()  # the parenthesis: there is one, or we had returned
            if not waiting:
                return Condition(tuple(tokens))
            comparable = True
        _read_logical(scanner, waiting, tokens)


def _release(operator: Operator, waiting: list[Operator | None], tokens: list[Token]) -> None:
    """Put out what waits on top, as long as it is `operator`."""
    while waiting and waiting[-1] is operator:
        waiting.pop()
        tokens.append(operator)


def _read_openings(scanner: Scanner, waiting: list[Operator | None]) -> None:
    """Parentheses and `!` in front of a term."""
    while True:
        scanner.skip_blanks()
        if scanner.take("("):
            waiting.append(None)
        elif scanner.take("!"):
            waiting.append(Operator.NOT)
            scanner.skip_blanks()
            if not (scanner.looks_at("(") or scanner.looks_at("@")):
                raise scanner.error("after ! comes a parenthesis or an attribute with @")
        else:
            return


def _read_logical(scanner: Scanner, waiting: list[Operator | None], tokens: list[Token]) -> None:
    """`&&` or `||`, which binds less: whatever binds as much or more goes out first."""
    if scanner.take("&&"):
        _release(Operator.AND, waiting, tokens)
        waiting.append(Operator.AND)
    elif scanner.take("||"):
        _release(Operator.AND, waiting, tokens)
        _release(Operator.OR, waiting, tokens)
        waiting.append(Operator.OR)
    else:
        raise scanner.error(f"operator or ) expected, found {scanner.shown()}")


def _read_term(scanner: Scanner, tokens: list[Token]) -> bool:
    """An attribute, a test for one, or a membership; whether a comparison may follow it."""
    operator = _leading_operator(scanner)
    if operator is None:
        tokens.append(_read_attribute(scanner))
        return True
    scanner.skip_blanks()
    if operator in EXISTENCE:
        tokens.append(_read_attribute(scanner))
    else:
        # The grammar knows only SIDs here; Windows takes any value.
        tokens.append(_read_in_parentheses(scanner, _read_literal))
    tokens.append(operator)
    return operator in EXISTENCE


def _leading_operator(scanner: Scanner) -> Operator | None:
    found = WORD.match(scanner.text, scanner.place)
    operator = LEADING_WORDS.get(found[0].lower()) if found else None
    if found is not None and operator is not None:
        scanner.place = found.end()
    return operator


def _read_comparisons(scanner: Scanner, tokens: list[Token]) -> None:
    """Operators with a value or an attribute to their right; a chain groups to the left."""
    while True:
        scanner.skip_blanks()
        found = COMPARISON_SIGN.match(scanner.text, scanner.place)
        found = found or WORD.match(scanner.text, scanner.place)
        operator = COMPARISON_WORDS.get(found[0].lower()) if found else None
        if found is None or operator is None:
            return
        scanner.place = found.end()
        scanner.skip_blanks()
        right = _read_in_parentheses(scanner, _read_right)
        tokens.append(right)
        tokens.append(operator)
        if not isinstance(right, Attribute):
            return  # `a == 1 == 2` is nobody's meaning; Windows refuses it, too


def _read_in_parentheses(scanner: Scanner, read: Callable[[Scanner], Token]) -> Token:
    """What `read` reads, alone or in any number of parentheses."""
    depth = 0
    while scanner.take("("):
        depth += 1
        scanner.skip_blanks()
    token = read(scanner)
    for _ in range(depth):
        scanner.skip_blanks()
        scanner.expect(")")
    return token


def _read_right(scanner: Scanner) -> Token:
    """A right operand: a value, or an attribute that is not local."""
    return _read_attribute(scanner) if scanner.looks_at("@") else _read_literal(scanner)


def _read_attribute(scanner: Scanner) -> Attribute:
    start = scanner.place
    prefix = scanner.match(PREFIX)
    if prefix is not None:
        source = SOURCES.get(prefix[1].upper())
        if source is None:
            raise scanner.error(f"unknown prefix {prefix[0][:20]!a}", at=start)
        return Attribute(source, scanner.name())
    found = scanner.match(WORD)
    if found is None:
        raise scanner.error(f"attribute expected, found {scanner.shown()}")
    return Attribute(AttributeSource.LOCAL, found[0])


def _read_literal(scanner: Scanner) -> Literal:
    """A value or a list of values."""
    return _read_list(scanner) if scanner.looks_at("{") else _read_single(scanner)


def _read_list(scanner: Scanner) -> Composite:
    """`{a, b}`, not nested; `{}` is an empty one."""
    scanner.expect("{")
    members: list[Literal] = []
    scanner.skip_blanks()
    if scanner.take("}"):
        return Composite(())
    while True:
        scanner.skip_blanks()
        members.append(_read_single(scanner))
        scanner.skip_blanks()
        if scanner.take("}"):
            return Composite(tuple(members))
        scanner.expect(",")


def _read_single(scanner: Scanner) -> Literal:
    """One value that is no list."""
    if scanner.at_end:
        raise scanner.error("value expected, found the end")
    char = scanner.text[scanner.place]
    if char == '"':
        return String(scanner.string())
    if (found := scanner.match(_OCTETS)) is not None:
        return Octets(octets_of(found[1]))
    if char in _STARTS_NUMBER:
        return _read_integer(scanner)
    return _read_sid(scanner)


def octets_of(digits: str) -> bytes:
    """The bytes of hexadecimal digits where `#` is zero; an odd count gets a zero in front."""
    return bytes.fromhex("0" * (len(digits) % 2) + digits.replace("#", "0"))


def _read_integer(scanner: Scanner) -> Integer:
    start = scanner.place
    sign, magnitude, base = scanner.integer()
    value = -magnitude if sign == "-" else magnitude
    # Without a sign, octal and hexadecimal digits are a pattern of 64 bits.
    if not sign and base != BASE_10 and _INT64_LIMIT <= value < _UINT64_LIMIT:
        value -= _UINT64_LIMIT
    if not -_INT64_LIMIT <= value < _INT64_LIMIT:
        raise scanner.error("number does not fit 64 bits", at=start)
    return Integer(value, _SIGNS[sign], base)


def _read_sid(scanner: Scanner) -> SidValue:
    """`SID(BA)`."""
    if scanner.match(_SID_WORD) is None:
        raise scanner.error(f"value expected, found {scanner.shown()}")
    scanner.skip_blanks()
    scanner.expect("(")
    scanner.skip_blanks()
    sid, _ = scanner.sid()
    scanner.skip_blanks()
    scanner.expect(")")
    return SidValue(sid)
