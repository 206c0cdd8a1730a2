"""How the operators and prefixes of conditional expressions are spelled.

Read in any case, printed as Windows prints them (its `Member_of_any` has a small a).
Source: MS-DTYP 2.5.1.1; sddl.h of the Windows SDK.
"""

from __future__ import annotations

import re

from windowsfilter.ntfs.security.conditions import (
    COMPARISON,
    EXISTENCE,
    MEMBERSHIP,
    AttributeSource,
    Operator,
)

SPELLING = {
    Operator.EQUAL: "==",
    Operator.NOT_EQUAL: "!=",
    Operator.LESS: "<",
    Operator.LESS_OR_EQUAL: "<=",
    Operator.GREATER: ">",
    Operator.GREATER_OR_EQUAL: ">=",
    Operator.CONTAINS: "Contains",
    Operator.EXISTS: "Exists",
    Operator.ANY_OF: "Any_of",
    Operator.MEMBER_OF: "Member_of",
    Operator.DEVICE_MEMBER_OF: "Device_Member_of",
    Operator.MEMBER_OF_ANY: "Member_of_any",
    Operator.DEVICE_MEMBER_OF_ANY: "Device_Member_of_Any",
    Operator.NOT_EXISTS: "Not_Exists",
    Operator.NOT_CONTAINS: "Not_Contains",
    Operator.NOT_ANY_OF: "Not_Any_of",
    Operator.NOT_MEMBER_OF: "Not_Member_of",
    Operator.NOT_DEVICE_MEMBER_OF: "Not_Device_Member_of",
    Operator.NOT_MEMBER_OF_ANY: "Not_Member_of_Any",
    Operator.NOT_DEVICE_MEMBER_OF_ANY: "Not_Device_Member_of_Any",
    Operator.AND: "&&",
    Operator.OR: "||",
    Operator.NOT: "!",
}
PREFIXES = {
    AttributeSource.USER: "@USER.",
    AttributeSource.RESOURCE: "@RESOURCE.",
    AttributeSource.DEVICE: "@DEVICE.",
}

WORD = re.compile(r"[A-Za-z0-9:./_]+")
"""A word of operators, and the whole alphabet of a local attribute's name."""
PREFIX = re.compile(r"@([A-Za-z]+)\.")

SOURCES = {spelling[1:-1]: source for source, spelling in PREFIXES.items()}
LEADING_WORDS = {SPELLING[operator].lower(): operator for operator in EXISTENCE | MEMBERSHIP}
"""Operators that come before their operand, by their word in small letters."""
COMPARISON_WORDS = {SPELLING[operator].lower(): operator for operator in COMPARISON}
"""Operators between an attribute and a value, by their word or sign."""
COMPARISON_SIGN = re.compile(r"[=!<>]=|[<>]")
