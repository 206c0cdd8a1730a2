"""Steps are printed when they end, with what they showed."""

from __future__ import annotations

import io
import re

import pytest

from demo.report import CheckFailed, Reporter, check


def test_a_step_prints_its_number_title_time_and_facts() -> None:
    out = io.StringIO()
    report = Reporter(out)
    with report.step("load"):
        report.fact("two layers")
    with report.step("mount"):
        pass
    lines = out.getvalue().splitlines()
    assert re.fullmatch(r" 1\. load \.+ +\d+\.\d s", lines[0])
    assert lines[1].strip() == "two layers"
    assert lines[2].startswith(" 2. mount .")


def test_a_failed_step_says_so_and_nothing_of_success() -> None:
    out = io.StringIO()
    report = Reporter(out)
    with pytest.raises(CheckFailed, match="two are not three"), report.step("count"):
        report.fact("counted")
        check(False, "two are not three")
    assert re.fullmatch(r" 1\. count \.+  FAILED\n", out.getvalue())
