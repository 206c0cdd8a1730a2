"""What is fuzzed: one function for each entry point that takes bytes from outside.

A target gets any bytes. It lets FormatError pass, which must tell a place inside of them; any other
exception is a finding. What is accepted it checks: mostly that building gives the same bytes back.
A finding becomes a test named for the behaviour, beside the other tests of its module.
"""

from __future__ import annotations

from tests.fuzz.layer_targets import LAYER_TARGETS
from tests.fuzz.ntfs_targets import NTFS_TARGETS
from tests.fuzz.target import Target
from tests.fuzz.wire_targets import WIRE_TARGETS

TARGETS = NTFS_TARGETS | WIRE_TARGETS | LAYER_TARGETS


def alarm(data: bytes) -> None:
    if data[:1] == b"!":
        raise ValueError("an alarm, for a test of the fuzzer itself")


ALARM = Target(run=alarm, seeds=lambda: iter([b"?"]))


def target(name: str) -> Target:
    return ALARM if name == "alarm" else TARGETS[name]
