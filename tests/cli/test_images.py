from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from tests.support.command import BASE, CHILD, Command, write_layout
from tests.support.images import digest_of, gz


def test_load_tells_ids_digests_and_counts(command: Command, layout: Path) -> None:
    (image,) = command.json("load", layout)["images"]
    assert image["references"] == ["demo:1"]
    assert image["id"].startswith("sha256:")
    base, child = image["layers"]
    assert base["diff_id"] == base["chain_id"] == digest_of(BASE)
    assert child["diff_id"] == digest_of(CHILD)
    chain = f"{base['chain_id']} {child['diff_id']}".encode()
    assert child["chain_id"] == digest_of(chain)
    assert (base["size"], base["entries"]) == (len(BASE), 13)
    assert base["id"] != child["id"]


def test_load_says_what_came_in(command: Command, layout: Path) -> None:
    (line,) = command.ok("load", layout).lines
    assert line.startswith("Loaded demo:1: sha256:")
    assert line.endswith(" (2 layers, 42 KiB)")
    (quiet,) = command.ok("load", "-q", layout).lines
    assert quiet in line


def test_load_gives_more_tags(command: Command, layout: Path) -> None:
    command.ok("load", layout, "-t", "other:2", "--tag", "registry.example/third")
    assert command.json("images")[0]["references"] == [
        "demo:1",
        "other:2",
        "registry.example/third:latest",
    ]


def test_load_reads_standard_input(command: Command, layout: Path, tmp_path: Path) -> None:
    archive = tmp_path / "oci.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(layout, arcname=".")
    with archive.open("rb") as file:
        process = command.process("load", "--json", "-", stdin=file)
        out, err = process.communicate()
    assert process.returncode == 0, err
    assert json.loads(out)["images"][0]["references"] == ["demo:1"]


def test_load_without_verifying_takes_what_load_refuses(command: Command, tmp_path: Path) -> None:
    layout = write_layout(tmp_path / "oci")
    (config,) = [
        blob
        for blob in (layout / "blobs/sha256").iterdir()
        if blob.stat().st_size < 1000 and b"rootfs" in blob.read_bytes()
    ]
    wrong = config.read_bytes().replace(digest_of(CHILD).encode(), digest_of(b"").encode())
    replaced = hashlib.sha256(wrong).hexdigest()
    for blob in (layout / "blobs/sha256").iterdir():
        blob.write_bytes(blob.read_bytes().replace(config.name.encode(), replaced.encode()))
    (layout / "blobs/sha256" / replaced).write_bytes(wrong)
    refused = command("load", layout)
    assert refused.code == 3
    assert command.json("images") == []
    command.ok("load", "--no-verify", layout)
    assert len(command.json("images")) == 1


@pytest.mark.parametrize(
    ("option", "value"), [("--max-entries", "3"), ("--max-bytes", "1K"), ("--max-ratio", "1")]
)
def test_limits_refuse_and_name_their_option(
    command: Command, layout: Path, option: str, value: str
) -> None:
    done = command("load", layout, option, value)
    if option == "--max-ratio":
        assert done.code == 0  # counted after 64 MiB
        return
    assert done.code == 3
    assert option.strip("-").replace("-", "_") in done.err.replace("-", "_")
    assert command.json("images") == []


def test_what_is_not_there_is_the_callers_fault(command: Command, tmp_path: Path) -> None:
    assert command("load", tmp_path / "nothing").code == 2
    (tmp_path / "text").write_text("no image")
    assert command("load", tmp_path / "text").code == 3


def test_images_and_inspect_show_what_is_there(demo: Command) -> None:
    header, row = demo.ok("images").lines
    assert header.split() == ["REFERENCE", "ID", "PLATFORM", "LAYERS", "SIZE", "LOADED"]
    assert row.split()[0] == "demo:1"
    assert "windows/amd64 10.0.20348.169" in row
    (image,) = demo.json("images")
    assert demo.ok("images", "-q").lines == [image["id"]]
    page = demo.ok("inspect", image["id"][7:15]).text
    assert "Reference:  " in page
    assert '["cmd.exe"]' in page
    found = demo.json("inspect", "demo:1")
    assert found["config"]["os.version"] == "10.0.20348.169"
    assert found["manifest"]["schemaVersion"] == 2
    assert found["problems"] == []
    assert found["layers"] == image["layers"]


def test_a_table_on_a_terminal_has_everything(demo: Command) -> None:
    assert b"demo:1" in demo("images", terminal=True).out


def test_tags_come_and_go(demo: Command) -> None:
    demo.ok("tag", "demo:1", "other:1")
    assert demo.json("images")[0]["references"] == ["demo:1", "other:1"]
    gone = demo.ok("rmi", "demo:1")
    assert "Untagged demo:1" in gone.err
    assert demo.json("images")[0]["references"] == ["other:1"]


def test_rmi_tells_what_went_and_leaves_nothing(demo: Command) -> None:
    lines = demo.ok("rmi", "demo:1").lines
    assert [line.split()[0] for line in lines[:-1]].count("blob") == 2
    assert lines[-1].endswith(" freed")
    assert demo.json("images") == []
    assert demo.json("layer", "ls") == []
    assert not list((demo.root / "blobs" / "sha256").iterdir())


def test_rmi_in_json_counts_the_bytes(demo: Command) -> None:
    done = demo.json("rmi", "demo:1")
    assert done["removed"][0]["image"] == "demo:1"
    assert done["bytes"] == sum(item["bytes"] for item in done["removed"][0]["items"]) > 0


def test_an_image_of_several_tags_goes_by_force_only(demo: Command) -> None:
    demo.ok("tag", "demo:1", "other:1")
    (image,) = demo.json("images")
    refused = demo("rmi", image["id"])
    assert refused.code == 2
    assert "other:1" in refused.err
    demo.ok("rmi", "-f", image["id"])
    assert demo.json("images") == []


@pytest.mark.parametrize("form", ["oci", "docker"])
@pytest.mark.parametrize("compression", [None, "none", "gzip", "zstd"])
def test_what_is_saved_is_what_was_loaded(
    demo: Command, tmp_path: Path, form: str, compression: str | None
) -> None:
    file = tmp_path / "saved.tar"
    packing = ["--compression", compression] if compression else []
    demo.ok("save", "demo:1", "-o", file, "--format", form, *packing)
    again = Command(tmp_path / "again")
    (image,) = again.json("load", file)["images"]
    assert image["references"] == ["demo:1"]
    assert [layer["diff_id"] for layer in image["layers"]] == [digest_of(BASE), digest_of(CHILD)]
    assert image["id"] == demo.json("images")[0]["id"]


def test_save_writes_a_folder_where_the_name_ends_in_a_slash(demo: Command, tmp_path: Path) -> None:
    done = demo.json("save", "demo:1", "-o", f"{tmp_path / 'saved'}/", "--compression", "none")
    assert done == {"file": str(tmp_path / "saved"), "format": "oci", "images": ["demo:1"]}
    blob = tmp_path / "saved" / "blobs" / "sha256" / hashlib.sha256(BASE).hexdigest()
    assert blob.read_bytes() == BASE


def test_save_writes_to_standard_output(demo: Command) -> None:
    done = demo.ok("save", "demo:1", "-o", "-")
    with tarfile.open(fileobj=io.BytesIO(done.out)) as tar:
        assert "index.json" in tar.getnames()
    assert demo("save", "demo:1", "-o", "-", terminal=True).code == 2


def test_kept_compressed_bytes_come_back_with_their_manifest(
    command: Command, layout: Path, tmp_path: Path
) -> None:
    command.ok("load", "--keep-compressed", layout)
    command.ok("save", "demo:1", "-o", f"{tmp_path / 'saved'}/")
    before = json.loads((layout / "index.json").read_bytes())["manifests"][0]["digest"]
    after = json.loads((tmp_path / "saved" / "index.json").read_bytes())["manifests"][0]["digest"]
    assert before == after
    assert (tmp_path / "saved" / "blobs" / "sha256" / digest_of(gz(BASE))[7:]).exists()


def test_nothing_is_left_of_a_save_that_fails(demo: Command, tmp_path: Path) -> None:
    done = demo("save", "demo:1", "absent:1", "-o", tmp_path / "saved.tar")
    assert done.code == 2
    assert not (tmp_path / "saved.tar").exists()
