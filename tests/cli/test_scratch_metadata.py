"""`scratch acl|attrib|touch`, and what becomes of it in an image and in a mount."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import pytest

from tests.support import windows_entries
from tests.support.chains import folder, tar
from tests.support.command import Command, write_layout
from windowsfilter.ntfs.security import SecurityDescriptor

OTHER = "O:SYG:SYD:P(A;;FA;;;SY)(D;;FW;;;WD)"
CONDITION = (
    'D:(XA;;FX;;;WD;((Title == "PM") && ((Division == "Finance") || (Division == "Sales"))))'
)


@pytest.fixture
def work(command: Command, tmp_path: Path) -> Command:
    layer = tar(windows_entries.entries())
    command.ok("load", write_layout(tmp_path / "oci", layer))
    command.ok("scratch", "create", "work", "demo:1")
    return command


def committed(work: Command, path: str) -> dict[str, Any]:
    work.ok("scratch", "commit", "work", "demo:2")
    return work.json("stat", "demo:2", path)


def test_acl_shows_and_sets_descriptors_as_text(work: Command) -> None:
    assert work.ok("scratch", "acl", "work", "eas").text == windows_entries.SDDL + "\n"
    assert work.ok("scratch", "acl", "work", "app.exe").text == "none\n"
    for text in (OTHER, CONDITION, "D:NO_ACCESS_CONTROL"):
        assert work.ok("scratch", "acl", "work", "c:/EAS", "--sddl", text).out == b""
        assert work.ok("scratch", "acl", "work", "eas").text == text + "\n"
    document = work.json("scratch", "acl", "work", "eas")
    raw = SecurityDescriptor.from_sddl("D:NO_ACCESS_CONTROL").build()
    assert document == {
        "path": "eas",
        "owner": None,
        "group": None,
        "sddl": "D:NO_ACCESS_CONTROL",
        "security_descriptor": base64.b64encode(raw).decode(),
    }
    assert work.ok("scratch", "diff", "work").lines == ["modify  Files/eas"]
    assert committed(work, "eas")["sddl"] == "D:NO_ACCESS_CONTROL"


def test_acl_inherits_and_changes_owners(work: Command) -> None:
    work.ok("scratch", "mkdir", "work", "made")
    work.ok("scratch", "write", "work", "made/new", os.devnull)
    inherited = "D:AI(A;ID;FA;;;SY)(A;ID;FA;;;BA)(A;ID;0x1200a9;;;BU)"
    assert work.ok("scratch", "acl", "work", "made/new").text == f"O:BAG:SY{inherited}\n"
    work.ok("scratch", "acl", "work", "made", "--sddl", OTHER)
    work.ok("scratch", "acl", "work", "made", "--owner", "S-1-5-32-545", "--group", "BA")
    assert work.ok("scratch", "acl", "work", "made").text.startswith("O:BUG:BAD:P")
    domain = ["--domain", "S-1-5-21-1-2-3"]
    work.ok("scratch", "acl", "work", "made", "--owner", "DA", *domain)
    assert work.ok("scratch", "acl", "work", "made").text.startswith("O:S-1-5-21-1-2-3-512G:BA")
    work.ok("scratch", "acl", "work", "made", "--inherited", "-r")
    assert work.ok("scratch", "acl", "work", "made/new").text.endswith(inherited + "\n")


def test_a_descriptor_too_large_to_be_inherited_is_refused_naming_the_entry(
    command: Command, tmp_path: Path
) -> None:
    # Generic rights come down twice to a directory: as they act there, and for those below.
    aces = "".join(f"(A;OICI;GA;;;S-1-5-21-1-2-3-{number})" for number in range(1, 1700))
    large = SecurityDescriptor.from_sddl(f"O:SYG:SYD:P{aces}").build()
    layer = tar([folder("Files"), folder("Files/made", sd=large), folder("Files/made/old")])
    command.ok("load", write_layout(tmp_path / "oci", layer))
    command.ok("scratch", "create", "work", "demo:1")
    command.ok("scratch", "mkdir", "work", "made/new")
    for arguments in (["made/old", "--inherited"], ["made/new"]):
        done = command("scratch", "acl", "work", *arguments)
        assert done.code == 2
        assert f"Files/{arguments[0]}" in done.err


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["acl", "work", "eas", "--sddl", "D:(A;;FA;;;SY"], "character"),
        (["acl", "work", "eas", "--sddl", "O:DA"], "domain"),
        (["acl", "work", "eas", "--sddl", "D:", "--inherited"], "either"),
        (["acl", "work", "eas", "--owner", "S-2-5"], "S-2-5"),
        (["acl", "work", "nothing", "--sddl", "D:"], "nothing"),
        (["acl", "work", "app.exe", "--owner", "SY"], "no security descriptor"),
        (["attrib", "work", "eas", "+d"], "cannot be set"),
        (["attrib", "work", "eas", "-l"], "cannot be set"),
        (["attrib", "work", "eas", "+q"], "'q'"),
        (["attrib", "work", "eas", "r"], "+r or -r"),
        (["attrib", "work", "eas", "+r", "-r"], "set and cleared"),
        (["touch", "work", "nothing"], "nothing"),
        (["touch", "work", "eas", "--written", "2021-02-30"], "no day"),
        (["touch", "work", "eas", "--written", "yesterday"], "yesterday"),
        (["touch", "work", "eas", "--written", "1600-01-01"], "Windows cannot hold"),
    ],
)
def test_what_is_impossible_is_said(work: Command, arguments: list[str], word: str) -> None:
    done = work("scratch", *arguments)
    assert (done.code, done.out) == (2, b"")
    assert word in done.err
    assert work.ok("scratch", "diff", "work").lines == []


def test_attrib_shows_sets_and_clears(work: Command) -> None:
    assert work.ok("scratch", "attrib", "work", "eas").text == "archive (0x20)\n"
    work.ok("scratch", "attrib", "work", "eas", "+rH", "-a", "+s")
    assert work.ok("scratch", "attrib", "work", "eas").text == "read-only, hidden, system (0x7)\n"
    work.ok("scratch", "attrib", "work", "eas", "-r", "-h", "-s")
    assert work.json("scratch", "attrib", "work", "eas")["words"] == ["normal"]
    work.ok("scratch", "attrib", "work", "", "+h", "--recursive")
    changed = work.ok("scratch", "diff", "work").lines
    assert changed[0] == "modify  Files"
    assert len(changed) == 8
    assert committed(work, "windows")["attributes"] == 0x12


def test_touch_sets_times_exactly(work: Command) -> None:
    told = work.json("scratch", "touch", "work", "eas", "--written", "2021-05-07 10:00:00.1234567")
    assert told == {"operation": "touch", "path": "eas"}
    work.ok("scratch", "touch", "work", "windows", "--created", "9999-12-31T23:59:59Z")
    work.ok("scratch", "touch", "work", "windows", "--accessed", "1601-01-01 00:00:00.0000001 UTC")
    work.ok("scratch", "touch", "work", "windows", "--changed", "2021-05-07 12:00+02:00")
    assert committed(work, "eas")["last_write_time"] == 132_648_552_001_234_567
    page = work.ok("stat", "demo:2", "windows").text
    assert "Created:     9999-12-31 23:59:59.0000000 UTC\n" in page
    assert "Accessed:    1601-01-01 00:00:00.0000001 UTC\n" in page
    assert "Changed:     2021-05-07 10:00:00.0000000 UTC\n" in page
    assert "Written:     2016-10-09 08:00:00.1234567 UTC\n" in page


def test_touch_makes_files_when_it_is_asked_to(work: Command) -> None:
    work.ok("scratch", "touch", "work", "new", "--create", "--written", "2021-05-07")
    assert work.ok("scratch", "diff", "work").lines == ["add     Files/new"]
    work.ok("scratch", "touch", "work", "eas")
    found = committed(work, "eas")
    assert found["last_write_time"] == found["last_access_time"] > 133_000_000_000_000_000


@pytest.mark.parametrize("change", [["acl"], ["attrib", "+h"], ["touch"], ["touch", "--create"]])
@pytest.mark.parametrize("path", ["eas:stream", "eas:new", "nothing:new"])
def test_streams_have_no_metadata_and_are_not_made_for_it(
    work: Command, path: str, change: list[str]
) -> None:
    done = work("scratch", change[0], "work", path, *change[1:])
    assert done.code == 2
    assert "name the file it belongs to" in done.err
    assert work.ok("scratch", "diff", "work").lines == []


def test_a_mounted_scratch_is_not_changed_behind_the_kernels_back(
    work: Command, tmp_path: Path
) -> None:
    place = tmp_path / "mount"
    place.mkdir()
    done = work("scratch", "mount", "work", place)
    if done.code:
        pytest.skip("needs root and overlayfs")
    try:
        done = work("scratch", "attrib", "work", "eas", "+r")
        assert (done.code, "mounted" in done.err) == (2, True)
        ea = "trusted.windows.ea.4c582e54455854"
        assert os.getxattr(place / "eas", ea) == b"text"
        os.setxattr(place / "eas", ea, b"by hand")
        os.setxattr(place / "eas", "trusted.windows.ea.4e4557", b"new")
        os.removexattr(place / "eas", "trusted.windows.ea.244b45524e454c2e50555247452e58")
        assert (place / "app.exe").exists()
        os.setxattr(
            place / "app.exe", "trusted.windows.sd", SecurityDescriptor.from_sddl(OTHER).build()
        )
    finally:
        work.ok("scratch", "umount", "work")
    assert work.ok("scratch", "diff", "work").lines == [
        "modify  Files/app.exe",
        "modify  Files/eas",
    ]
    found = committed(work, "eas")["extended_attributes"]
    assert [(ea["name"], ea["flags"], base64.b64decode(ea["value"])[:8]) for ea in found] == [
        ("LARGE", 0, b"LLLLLLLL"),
        ("LX.TEXT", 0, b"by hand"),
        ("NEW", 0, b"new"),
    ]
    app = work.json("stat", "demo:2", "app.exe")
    assert app["sddl"] == OTHER
    assert app["reparse_point"]["name"] == "appexeclink"


def test_stat_tells_everything_in_words(work: Command) -> None:
    page = work.ok("stat", "demo:1", "eas").text
    assert "Owner:       BUILTIN\\Administrators (S-1-5-32-544)\n" in page
    assert "Group:       NT AUTHORITY\\SYSTEM (S-1-5-18)\n" in page
    assert f"Security:    {windows_entries.SDDL}\n" in page
    assert "EA:          $KERNEL.PURGE.X (8 bytes, needed to open it): 0001020304050607\n" in page
    assert "EA:          LX.TEXT (4 bytes): 'text'\n" in page
    assert (
        "EA:          LARGE (600 bytes): 'LLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLL' …, see --json\n" in page
    )
    page = work.ok("stat", "demo:1", "app.exe").text
    assert "Reparse:     appexeclink (0x8000001b, 8 bytes): 0300000061707000\n" in page
    page = work.ok("stat", "demo:1", "unshown").text
    assert "Substitute:  \\??\\C:\\Windows\n" in page
    assert "Print name:  none\n" in page
    page = work.ok("stat", "demo:1", "link").text
    assert "Stream:      own (8 bytes)\n" in page
    assert "Substitute" not in page
    page = work.ok("stat", "demo:1", "odd").text
    assert "Problem:     its security descriptor cannot be said in SDDL" in page
    assert "Owner:       NT AUTHORITY\\SYSTEM (S-1-5-18)\n" in page
    owners = [line.split()[1] for line in work.ok("ls", "-l", "demo:1").lines]
    assert {"OWNER", "Administrators", "SYSTEM", "-"} <= set(owners)


def test_damaged_metadata_is_refused_and_can_be_looked_at(command: Command, tmp_path: Path) -> None:
    layout = write_layout(tmp_path / "oci", tar(windows_entries.damaged_entries()))
    done = command("load", layout)
    assert (done.code, done.out) == (3, b"")
    assert "Files/descriptor" in done.err and "at byte" in done.err
    command.ok("load", "--no-verify", layout)
    assert command.ok("ls", "demo:1").lines == sorted(command.ok("ls", "demo:1").lines)
    assert len(command.ok("ls", "-l", "demo:1").lines) == 7
    assert command.ok("inspect", "demo:1").text.count("cannot be used") == 5
    assert len(command.json("find", "demo:1")) == 6
    page = command.ok("stat", "demo:1", "descriptor").text
    assert "Problem:     its security descriptor cannot be used" in page
    assert "Security:    40 bytes, see --json\n" in page


def test_damaged_descriptors_can_be_replaced_by_inherited_ones(
    command: Command, tmp_path: Path
) -> None:
    layout = write_layout(tmp_path / "oci", tar(windows_entries.damaged_entries()))
    command.ok("load", "--no-verify", layout)
    command.ok("scratch", "create", "work", "demo:1")
    command.ok("scratch", "acl", "work", "C:\\", "--sddl", "O:BAG:SYD:(A;OICI;FA;;;SY)")
    assert command("scratch", "acl", "work", "descriptor").code == 2
    for name in ("descriptor", "base64", "text"):
        command.ok("scratch", "acl", "work", name, "--inherited")
        shown = command.ok("scratch", "acl", "work", name).text
        assert shown == "O:BAG:SYD:(A;ID;FA;;;SY)\n"
    assert committed(command, "text")["sddl"] == "O:BAG:SYD:(A;ID;FA;;;SY)"


def test_a_descriptor_that_says_nothing_is_not_shown_as_an_empty_line(work: Command) -> None:
    work.ok("scratch", "acl", "work", "eas", "--sddl", "")
    assert work.ok("scratch", "acl", "work", "eas").text == "empty\n"
