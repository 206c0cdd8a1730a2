from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout

import pytest

from tests.support.command import Stream
from windowsfilter.errors import UsageError
from windowsfilter.store.core import Event
from windowsfilter.ui import log
from windowsfilter.ui.output import Output, complain, complain_in_json
from windowsfilter.ui.tables import Column, Table

NAME = "a\x1b[2J\ud800b"


def shown(action: Callable[[], object], *, terminal: bool = False) -> bytes:
    out = Stream(terminal)
    with redirect_stdout(out):
        action()
    out.flush()
    return out.kept.getvalue()


def complained(action: Callable[[], object], *, terminal: bool = False) -> str:
    err = Stream(terminal)
    with redirect_stderr(err):
        action()
    return err.kept.getvalue().decode()


def test_names_keep_their_bytes_in_a_pipe() -> None:
    assert shown(lambda: Output().line(NAME)) == b"a\x1b[2J\xed\xa0\x80b\n"
    assert shown(lambda: Output().lines(["a", "b"], end="\0")) == b"a\0b\0"


def test_names_are_escaped_on_a_terminal() -> None:
    assert shown(lambda: Output().line(NAME), terminal=True) == b"a\\x1b[2J\\ud800b\n"


def test_cells_of_a_table_are_escaped_on_a_terminal() -> None:
    table = Table((Column("NAME"),))
    table.add(NAME)
    assert b"a\\x1b[2J\\ud800b" in shown(lambda: Output().table(table), terminal=True)


def test_an_array_is_written_an_element_a_line() -> None:
    def write() -> None:
        Output().documents({"n": number} for number in range(3))

    assert shown(write) == b'[\n  {"n": 0},\n  {"n": 1},\n  {"n": 2}\n]\n'
    assert shown(lambda: Output().documents([])) == b"[]\n"


def test_json_is_valid_whatever_the_names() -> None:
    data = shown(lambda: Output().document({"name": NAME, "é": "\u202e"}))
    assert json.loads(data) == {"name": NAME, "é": "\u202e"}
    assert b"\\ud800" in data
    assert b"\\u202e" in data


def test_bytes_do_not_go_to_a_terminal_unless_they_are_a_file_of_the_users() -> None:
    with pytest.raises(UsageError, match="not to a terminal"):
        shown(lambda: Output().data("save"), terminal=True)
    assert shown(lambda: Output().data("save").write(b"\xff")) == b"\xff"
    assert shown(lambda: Output().content().write(b"\xff"), terminal=True) == b"\xff"


def test_messages_are_one_line_and_absent_when_quiet() -> None:
    assert complained(lambda: Output().message("two\nlines")) == "two\\x0alines\n"
    assert complained(lambda: Output(verbosity=-1).message("done")) == ""


def test_errors_in_json_are_one_line_of_ascii() -> None:
    line = complained(lambda: complain_in_json({"message": "zoë\n\ud800"}))
    assert line.count("\n") == 1
    assert line.isascii()
    assert json.loads(line) == {"message": "zoë\n\ud800"}


def test_a_stream_of_a_small_encoding_gets_escapes() -> None:
    err = Stream()
    err.reconfigure(encoding="ascii")
    with redirect_stderr(err):
        complain("zoë")
    assert err.kept.getvalue() == b"zo\\xeb\n"


EVENTS = [Event("load", "layer 1/2", 5, 10), Event("load", "layer 1/2", 10, 10)]


def report(output: Output) -> None:
    with output.progress() as progress:
        for event in EVENTS:
            if progress is not None:
                progress(event)


def test_progress_is_silent_in_logs_and_lines_when_asked_for() -> None:
    assert complained(lambda: report(Output())) == ""
    assert complained(lambda: report(Output(verbosity=1))) == "load layer 1/2: 10 B\n"


def test_progress_is_bars_on_a_terminal_unless_quiet() -> None:
    assert "load layer 1/2" in complained(lambda: report(Output()), terminal=True)
    assert complained(lambda: report(Output(verbosity=-1)), terminal=True) == ""


def test_log_messages_follow_the_verbosity() -> None:
    import logging

    logger = logging.getLogger("windowsfilter.test_output")

    def speak(verbosity: int) -> None:
        with log.shown("windowsfilter", verbosity):
            logger.debug("step")
            logger.info("work")
            logger.warning("care %s", "\x1b")
            logger.error("loss")

    assert complained(lambda: speak(-1)) == "error: loss\n"
    assert complained(lambda: speak(0)) == "warning: care \\x1b\nerror: loss\n"
    assert complained(lambda: speak(1)).startswith("info: work\n")
    assert complained(lambda: speak(2)).startswith("debug: step\n")
    assert complained(lambda: logger.info("afterwards")) == ""
