"""Conditional expressions as text: the canonical one of Windows.

The whole stands in one pair of parentheses, and so does each comparison, logical operation and
membership; what `!`, `&&` and `||` take stands in some, too. Nothing recurses.
Source: published outputs of Windows, which this reproduces.
"""

from __future__ import annotations

from windowsfilter.ntfs.security.complaints import NotExpressible
from windowsfilter.ntfs.security.condition_words import LEADING_WORDS, PREFIXES, SPELLING, WORD
from windowsfilter.ntfs.security.conditions import (
    COMPARISON,
    EXISTENCE,
    LOGICAL,
    UNARY,
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
from windowsfilter.ntfs.security.scanner import escaped
from windowsfilter.ntfs.security.sddl_letters import print_sid
from windowsfilter.ntfs.sids import Sid

_PLUS, _MINUS = 1, 2
_BASE_8, _BASE_16 = 1, 3
_INT64 = 4


def print_condition(condition: Condition, *, domain: Sid | None = None) -> str:
    """The canonical text. Raises NotExpressible where there is none that compiles to the same."""
    return _Printer(condition.tokens, domain).text()


class _Printer:
    """A postfix program with the operands of each operator found."""

    def __init__(self, tokens: tuple[Token, ...], domain: Sid | None) -> None:
        self.tokens = tokens
        self.domain = domain
        # Of each token, where its left (or only) operand is; its right one is just before it.
        self.left = [0] * len(tokens)
        results: list[int] = []
        for index, token in enumerate(tokens):
            if isinstance(token, Operator):
                if token not in UNARY:
                    results.pop()
                self.left[index] = results.pop()
            results.append(index)

    def text(self) -> str:
        pieces: list[str] = []
        # Text to put out, or the index of a node to take apart; the next one is last.
        todo = self._operand(len(self.tokens) - 1)[::-1]
        while todo:
            item = todo.pop()
            if isinstance(item, str):
                pieces.append(item)
            else:
                todo.extend(reversed(self._parts(item)))
        return "".join(pieces)

    def _operand(self, index: int) -> list[str | int]:
        """An operand of `!`, `&&`, `||`, or the whole: always in parentheses."""
        token = self.tokens[index]
        if isinstance(token, Attribute) or token in EXISTENCE or token is Operator.NOT:
            return ["(", index, ")"]
        if isinstance(token, Operator):
            return [index]
        raise NotExpressible("a conditional expression with a value where a condition belongs")

    def _parts(self, index: int) -> list[str | int]:
        """The text of a node, with those of its nodes still to be taken apart."""
        token = self.tokens[index]
        if isinstance(token, Attribute):
            return [_attribute(token)]
        assert isinstance(token, Operator)
        spelling = SPELLING[token]
        left = self.left[index]
        if token is Operator.NOT:
            return ["!", *self._operand(left)]
        if token in LOGICAL:
            return ["(", *self._operand(left), f" {spelling} ", *self._operand(index - 1), ")"]
        if token in COMPARISON:
            return ["(", *self._compared(left), f" {spelling} ", self._right(index - 1), ")"]
        operand = self.tokens[left]
        if token in EXISTENCE:
            if not isinstance(operand, Attribute):
                raise NotExpressible(f"{spelling} of what is no attribute")
            return [f"{spelling} {_attribute(operand, alone=False)}"]
        if isinstance(operand, Attribute | Operator):
            raise NotExpressible(f"{spelling} of what is no value")
        return [f"({spelling} {self._literal(operand)})"]

    def _compared(self, index: int) -> list[str | int]:
        """The left side of a comparison. `!` binds less and needs parentheses."""
        token = self.tokens[index]
        if token is Operator.NOT:
            return ["(", index, ")"]
        if isinstance(token, Attribute | Operator):
            return [index]
        raise NotExpressible("a comparison with a value on its left side")

    def _right(self, index: int) -> str:
        """The right side of a comparison."""
        token = self.tokens[index]
        if isinstance(token, Operator):
            raise NotExpressible("a comparison with a condition on its right side")
        if not isinstance(token, Attribute):
            return self._literal(token)
        if token.source == AttributeSource.LOCAL:
            raise NotExpressible("a comparison with a local attribute on its right side")
        return _attribute(token)

    def _literal(self, literal: Literal, *, nested: bool = False) -> str:
        match literal:
            case Integer():
                return _integer(literal)
            case String(text):
                if '"' in text:
                    raise NotExpressible("a string with a quotation mark in it")
                return f'"{text}"'
            case Octets(data):
                return f"#{data.hex()}"
            case SidValue(sid):
                return f"SID({print_sid(sid, self.domain)})"
            case Composite(members):
                if nested:
                    raise NotExpressible("a list inside a list")
                inner = [self._literal(member, nested=True) for member in members]
                return "{" + ", ".join(inner) + "}"


def _attribute(attribute: Attribute, *, alone: bool = True) -> str:
    """An attribute's name; `alone` where a word that comes before an operand would be taken for one."""
    if attribute.source != AttributeSource.LOCAL:
        if not attribute.name:
            raise NotExpressible("an attribute without a name")
        return PREFIXES[attribute.source] + escaped(attribute.name)
    name = attribute.name
    if WORD.fullmatch(name) is None or (alone and name.lower() in LEADING_WORDS):
        raise NotExpressible(f"a local attribute of the name {name[:40]!a}")
    return name


def _integer(integer: Integer) -> str:
    value, sign, base = integer.value, integer.sign, integer.base
    if integer.width != _INT64:
        raise NotExpressible(f"a number of less than 64 bits ({value})")
    if (sign == _PLUS and value < 0) or (sign == _MINUS and value > 0):
        raise NotExpressible(f"the number {value} with the other sign")
    if sign in (_PLUS, _MINUS):
        prefix, magnitude = "+" if sign == _PLUS else "-", abs(value)
    elif base in (_BASE_8, _BASE_16):
        prefix, magnitude = "", value % 2**64
    else:
        return str(value)
    if base == _BASE_8:
        return f"{prefix}0{magnitude:o}"
    return f"{prefix}{magnitude:#x}" if base == _BASE_16 else f"{prefix}{magnitude}"
