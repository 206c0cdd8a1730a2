from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import pytest

from tests.support import windows_entries
from tests.support.chains import OWNER_SYSTEM, file, folder, hard_link, opaque, tar
from tests.support.command import BASE, CHILD, CMD, ODD, ODD_NAMES, ZONE, Command, write_layout
from tests.support.images import digest_of

CMD_PATH = "C:\\Windows\\System32\\cmd.exe"


@pytest.mark.parametrize(
    "path",
    [
        CMD_PATH,
        "c:/windows/system32/CMD.EXE",
        "\\WINDOWS\\system32\\cmd.exe",
        "windows/system32/cmd.exe",
        "Files/windows/system32/cmd.exe",
        "FILES\\Windows\\System32\\cmd.exe",
    ],
)
def test_paths_are_windows_paths_in_any_case(reader: Command, path: str) -> None:
    assert reader.ok("cat", "demo:1", path).out == CMD


def test_an_image_may_be_named_by_tag_id_or_layer(reader: Command) -> None:
    (image,) = reader.json("images")
    base, child = (layer["id"] for layer in image["layers"])
    for name in ("demo:1", image["id"], image["id"][7:12], child, child[:12]):
        assert reader.ok("cat", name, "windows/win.ini").out == b"[new]\r\n"
    assert reader.ok("cat", base, "windows/win.ini").out == b"[fonts]\r\n"


def test_top_folders_of_layers_are_found_unless_the_volume_has_them(
    demo: Command, tmp_path: Path
) -> None:
    assert demo.ok("cat", "demo:1", "hives/system_delta").out == b"regf"
    assert demo.ok("ls", "demo:1", "--view", "layer").lines == ["Files", "Hives"]
    assert demo("cat", "demo:1", "hives/system_delta", "--view", "volume").code == 2
    both = tar([folder("Files"), folder("Files/Files"), file("Files/Files/x", b"inner")])
    demo.ok("load", write_layout(tmp_path / "both", both, tag="both:1"))
    assert demo.ok("cat", "both:1", "files/x").out == b"inner"
    assert demo.ok("cat", "both:1", "files/files/x").out == b"inner"
    assert demo.ok("ls", "both:1", "files").lines == ["x"]


def test_ls_lists_names_in_the_order_of_windows(reader: Command) -> None:
    names = ["app", "Documents and Settings", "readme", "Users", "Windows"]
    assert reader.ok("ls", "demo:1").lines == names
    assert [entry["name"] for entry in reader.json("ls", "demo:1")] == names
    assert reader.ok("ls", "demo:1", "users").lines == []
    assert reader.json("ls", "demo:1", "users") == []


def test_ls_of_a_file_or_with_d_shows_the_entry_itself(reader: Command) -> None:
    assert reader.ok("ls", "demo:1", "WINDOWS/win.INI").lines == ["win.INI"]
    assert reader.ok("ls", "demo:1", "-d").lines == ["C:\\"]
    (entry,) = reader.json("ls", "-d", "demo:1", "windows")
    assert entry["type"] == "directory"


def test_ls_long_shows_times_layers_streams_and_targets(reader: Command) -> None:
    header, *rows = reader.ok("ls", "-l", "demo:1", "windows/system32").lines
    assert header.split() == [
        *("ATTR", "OWNER", "SIZE", "WRITTEN", "CREATED", "ACCESSED", "CHANGED", "LAYER", "NAME")
    ]
    base = digest_of(BASE)[7:19]
    assert rows[0].split()[:3] == ["AR", "SYSTEM", "10000"]
    assert rows[0].count("2016-10-09 08:00:00") == 3
    assert "2014-05-13 16:53:20" in rows[0]
    assert rows[0].endswith(f"{base}  cmd.exe")
    assert rows[1].split() == [str(len(ZONE)), "cmd.exe:Zone.Identifier"]
    top = reader.ok("ls", "-l", "demo:1").text
    assert "Documents and Settings -> C:\\Users" in top
    assert "readme -> Windows\\win.ini" in top
    assert "Windows\\\n" in top


def test_ls_follows_a_junction_to_a_directory(reader: Command) -> None:
    assert reader.ok("ls", "demo:1", "documents and settings").lines == []
    assert reader.ok("stat", "demo:1", "documents and settings", "--follow").text.count("C:\\")


def test_stat_in_json_has_every_key_that_programs_rely_on(reader: Command) -> None:
    found = reader.json("stat", "demo:1", CMD_PATH)
    filetime = (1_476_000_000 + 11_644_473_600) * 10**7 + 1_234_567
    expected = {
        "path": CMD_PATH,
        "type": "file",
        "size": 10_000,
        "attributes": 0x21,
        "creation_time": (1_400_000_000 + 11_644_473_600) * 10**7 + 7_654_321,
        "last_access_time": filetime,
        "last_write_time": filetime,
        "change_time": filetime,
        "link_target": None,
        "streams": [{"name": "Zone.Identifier", "size": len(ZONE)}],
        "hard_links": 1,
        "security_descriptor": base64.b64encode(OWNER_SYSTEM).decode(),
    }
    assert {key: found[key] for key in expected} == expected
    assert found["layer"] == reader.json("images")[0]["layers"][0]["id"]
    assert found["pax"]["MSWINDOWS.fileattr"] == "33"


@pytest.mark.parametrize(
    ("path", "kind", "target"),
    [
        ("windows", "directory", None),
        ("readme", "symlink", "Windows\\win.ini"),
        ("Documents and Settings", "junction", "C:\\Users"),
    ],
)
def test_stat_shows_links_themselves(
    reader: Command, path: str, kind: str, target: str | None
) -> None:
    found = reader.json("stat", "demo:1", path)
    assert (found["type"], found["link_target"]) == (kind, target)


def test_stat_for_people_is_in_words(reader: Command) -> None:
    page = reader.ok("stat", "demo:1", CMD_PATH).text
    assert "Attributes:  read-only, archive (0x21)\n" in page
    assert "Created:     2014-05-13 16:53:20.7654321 UTC\n" in page
    assert "Stream:      Zone.Identifier (26 bytes)\n" in page
    assert "Owner:       NT AUTHORITY\\SYSTEM (S-1-5-18)\n" in page
    assert "Security:    O:SYD:NO_ACCESS_CONTROL\n" in page


def test_cat_writes_several_files_or_nothing(reader: Command) -> None:
    both = reader.ok("cat", "demo:1", "app/run.cmd", "readme")
    assert both.out == b"echo hi\r\n[new]\r\n"
    done = reader("cat", "demo:1", "app/run.cmd", "nothing")
    assert (done.code, done.out) == (2, b"")


def test_cat_writes_streams(reader: Command) -> None:
    assert reader.ok("cat", "demo:1", f"{CMD_PATH.upper()}:ZONE.identifier").out == ZONE


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["cat", "demo:1", "windows"], "not a file"),
        (["cat", "demo:1", "users/old.txt"], "C:\\users\\old.txt"),
        (["cat", "demo:1", "D:\\x"], "drive C: only"),
        (["ls", "demo:1", "nothing"], "C:\\nothing"),
        (["stat", "demo:2", ""], "demo:2"),
        (["tree", "demo:1", "windows/win.ini"], "not a directory"),
        (["find", "demo:1", "nothing"], "C:\\nothing"),
    ],
)
def test_what_is_not_there_is_named(reader: Command, arguments: list[str], word: str) -> None:
    for done in (reader(*arguments), reader("--json", *arguments)):
        assert (done.code, done.out) == (2, b"")
        assert word in done.err.splitlines()[0]


def test_a_scratch_is_not_taken_for_an_image(demo: Command) -> None:
    demo.ok("scratch", "create", "work", "demo:1")
    done = demo("ls", "work")
    assert done.code == 2
    assert "is a scratch" in done.err


def test_tree_draws_what_is_below(reader: Command) -> None:
    assert reader.ok("tree", "demo:1").lines == [
        "C:\\",
        "├── app\\",
        "│   └── run.cmd",
        "├── Documents and Settings@",
        "├── readme@",
        "├── Users\\",
        "└── Windows\\",
        "    ├── linked.ini",
        "    ├── System32\\",
        "    │   └── cmd.exe",
        "    └── win.ini",
    ]
    windows = reader.ok("tree", "demo:1", "WINDOWS", "-d").lines
    assert windows == ["Windows\\", "└── System32\\"]


def test_tree_in_json_is_nested_and_no_deeper_than_asked(reader: Command) -> None:
    root = reader.json("tree", "demo:1", "--depth", "1")
    assert root["entries"][0]["name"] == "app"
    assert not any("entries" in entry for entry in root["entries"])
    whole = reader.json("tree", "demo:1")
    windows = next(entry for entry in whole["entries"] if entry["name"] == "Windows")
    assert {"name": "win.ini", "type": "file", "size": 7} in windows["entries"]


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        (["--name", "*.INI"], ["win.ini", "linked.ini"]),
        (["--name", "c?d.exe"], ["cmd.exe"]),
        (["--type", "l"], ["readme"]),
        (["--type", "j"], ["Documents and Settings"]),
        (["--type", "lj"], ["readme", "Documents and Settings"]),
        (["--type", "d", "--name", "s*"], ["System32"]),
        (["--larger", "9K"], ["cmd.exe"]),
        (["--larger", "10000"], []),
        (["--smaller", "8"], ["win.ini"]),
        (["--stream"], ["cmd.exe"]),
        (["--layer", digest_of(BASE)[7:20], "--type", "f"], ["cmd.exe", "linked.ini"]),
    ],
)
def test_find_lists_what_fits_all_conditions(
    reader: Command, conditions: list[str], expected: list[str]
) -> None:
    found = [line.rpartition("\\")[2] for line in reader.ok("find", "demo:1", *conditions).lines]
    assert sorted(found) == sorted(expected)
    named = [entry["name"] for entry in reader.json("find", "demo:1", *conditions)]
    assert named == found


def test_find_prints_paths_that_cat_reads(reader: Command) -> None:
    done = reader.ok("find", "demo:1", "windows", "--type", "f", "-0")
    *paths, end = done.text.split("\0")
    assert end == ""
    assert len(paths) == 3
    reader.ok("cat", "demo:1", *paths)


def test_names_that_disturb_keep_their_bytes_in_pipes_only(
    command: Command, tmp_path: Path
) -> None:
    command.ok("load", write_layout(tmp_path / "odd", ODD))
    listed = command.ok("ls", "demo:1").out.splitlines()
    assert sorted(listed) == sorted(ODD_NAMES)
    shown = command.ok("ls", "demo:1", terminal=True).text
    assert "\\u202eexe.txt" in shown
    assert "\\x9b31m" in shown
    assert "\\ud800lone" in shown
    assert "zoë 東京" in shown
    document = command.ok("ls", "demo:1", "--json").out
    assert {entry["name"] for entry in json.loads(document.decode("utf-8"))} >= {"\ud800lone"}
    assert b"\xed\xa0\x80" not in document
    for name in ODD_NAMES:
        process = command.process("cat", "demo:1", os.fsdecode(b"Files/" + name))
        assert process.communicate()[0] == b"odd"


def test_dangling_hard_links_are_reported(command: Command, tmp_path: Path) -> None:
    layer = tar([folder("Files"), hard_link("Files/lost", "Files/nowhere")])
    command.ok("load", write_layout(tmp_path / "layout", layer))
    (problem,) = command.json("inspect", "demo:1")["problems"]
    assert problem["path"] == "Files/lost"
    assert problem["layer"] == command.json("images")[0]["layers"][0]["id"]
    assert "Files/lost" in command.ok("inspect", "demo:1").text
    assert "lost (dangling)" in command.ok("ls", "-l", "demo:1").text


def test_layers_are_shown_one_by_one(reader: Command) -> None:
    child, base = reader.ok("layer", "ls", "-q").lines
    found = reader.json("layer", "inspect", child[:8])
    assert found["chain"] == [base, child]
    assert (found["parent"], found["state"], found["diff_id"]) == (base, "sealed", digest_of(CHILD))
    assert "Parent:   none" in reader.ok("layer", "inspect", base).text
    assert [layer["id"] for layer in reader.json("layer", "ls")] == [child, base]
    assert reader.ok("layer", "ls").lines[1].split()[0] == child


def test_changes_of_a_layer_have_the_paths_of_the_tar(reader: Command) -> None:
    child, base = reader.ok("layer", "ls", "-q").lines
    expected = [
        ("add", "Files/app"),
        ("add", "Files/app/run.cmd"),
        ("delete", "Files/Users/old.txt"),
        ("modify", "Files/Windows/win.ini"),
    ]
    listed = reader.json("layer", "changes", child)
    assert [(each["kind"], each["path"].lower()) for each in listed] == [
        (kind, path.lower()) for kind, path in expected
    ]
    assert reader.ok("layer", "changes", child).lines[0] == "add     Files/app"
    assert {each["kind"] for each in reader.json("layer", "changes", base)} == {"add"}


def test_a_layers_tar_comes_back_byte_for_byte(reader: Command, tmp_path: Path) -> None:
    child, base = reader.ok("layer", "ls", "-q").lines
    assert reader.ok("layer", "diff", child).out == CHILD
    reader.ok("layer", "diff", base, "-o", tmp_path / "base.tar")
    assert (tmp_path / "base.tar").read_bytes() == BASE
    assert reader("layer", "diff", base, terminal=True).code == 2
    assert reader("layer", "diff", base, "-o", tmp_path / "no" / "x.tar").code == 4


def test_the_size_of_a_layer_is_that_of_its_files(reader: Command) -> None:
    child, base = reader.ok("layer", "ls", "-q").lines
    assert reader.ok("layer", "size", child).lines == [str(len(b"echo hi\r\n[new]\r\n"))]
    assert reader.json("layer", "size", base) == {
        "id": base,
        "data_size": len(CMD) + len(b"[fonts]\r\n") + 1 + 4,
        "size": len(BASE),
    }


def test_an_opaque_whiteout_takes_away_what_was_there(command: Command, tmp_path: Path) -> None:
    below = tar([folder("Files"), folder("Files/Docs"), file("Files/Docs/old", b"old")])
    above = tar([folder("Files"), opaque("Files/docs"), file("Files/docs/new", b"new")])
    command.ok("load", write_layout(tmp_path / "layout", below, above))
    assert command.ok("ls", "demo:1", "docs").lines == ["new"]
    top = command.json("images")[0]["layers"][-1]["id"]
    assert "delete  Files/Docs/old" in command.ok("layer", "changes", top).lines


def test_streams_of_directories_and_links_are_read(command: Command, tmp_path: Path) -> None:
    layer = tar(windows_entries.entries())
    command.ok("load", write_layout(tmp_path / "layout", layer))
    for path in ("eas:stream", "Windows:stream", "link:own", "link:stream", "WINDOWS:Stream:$DATA"):
        assert command.ok("cat", "demo:1", path).out == windows_entries.STREAM
    assert command.ok("find", "demo:1", "--stream").lines == ["C:\\Windows", "C:\\eas", "C:\\link"]
