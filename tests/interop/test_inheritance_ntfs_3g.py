"""ntfs-3g lets files inherit much as we do: which ACEs, in which order, split where they must be.

It is no judge of details, where we follow descriptors of real systems. These of its ways are
taken out before the comparison:
* ID is set only below a directory with AI, and NP stays on what goes no further;
* generic rights stay where CREATOR OWNER was replaced, or are added to an equal ACE's;
* an ACE that repeats another is left out in directories, not in files.
It makes GR of files read and execute, takes NP for no bound, and has rules of its own for SACLs:
the examples with those are not compared.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.ntfs_volumes import get_attribute
from windowsfilter.ntfs.security import Ace, AceFlag, Acl, SecurityDescriptor
from windowsfilter.ntfs.security.inheritance import new_descriptor

pytestmark = pytest.mark.root

TI = "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464"
PARENTS = {
    "ProgramData": "D:PAI(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICIIO;GA;;;CO)"
    "(A;OICI;0x1200a9;;;BU)(A;CI;DCLCRPCR;;;BU)",
    "Windows": f"D:PAI(A;;FA;;;{TI})(A;CIIO;GA;;;{TI})(A;;0x1301bf;;;SY)(A;OICIIO;GA;;;SY)"
    "(A;;0x1301bf;;;BA)(A;OICIIO;GA;;;BA)(A;;0x1200a9;;;BU)(A;OICIIO;GXGR;;;BU)"
    "(A;OICIIO;GA;;;CO)(A;;0x1200a9;;;AC)(A;OICIIO;GXGR;;;AC)",
    "another volume": "D:(A;;FA;;;BA)(A;OICIIO;GA;;;BA)(A;;FA;;;SY)(A;OICIIO;GA;;;SY)"
    "(A;;0x1301bf;;;AU)(A;OICIIO;SDGXGWGR;;;AU)(A;;0x1200a9;;;BU)(A;OICIIO;GXGR;;;BU)",
    "Public": "D:PAI(A;OICI;FA;;;BA)(A;OICIIO;FA;;;CO)(A;OICI;FA;;;SY)"
    "(A;OICIIO;0x1301ff;;;IU)(A;;0x1200af;;;IU)(A;OICIIO;0x1301ff;;;SU)(A;;0x1200af;;;SU)",
    "a client's root": "D:PAI(A;OICI;FA;;;BA)(A;OICI;FA;;;SY)(A;OICI;0x1200a9;;;BU)"
    "(A;OICIIO;SDGXGWGR;;;AU)(A;;LC;;;AU)",
    "BuildKit": "D:(A;OICI;FA;;;BA)(A;OICI;FA;;;SY)(A;;FA;;;BA)(A;OICIIO;GA;;;CO)"
    "(A;OICI;0x1200a9;;;BU)(A;CI;LC;;;BU)(A;CI;DC;;;BU)",
    "a denial first": "D:AI(D;OICI;FW;;;AN)(D;CI;SD;;;WD)(A;OI;FA;;;SY)(A;CI;FX;;;WD)(A;;FA;;;BA)",
}
GENERIC_ALL, ALL = 0x10000000, 0x1F01FF


@pytest.fixture(scope="module")
def volume(
    program: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """A mounted volume where files inherit, as the option of that name makes ntfs-3g do."""
    for name in ("mkntfs", "ntfs-3g"):
        program(name)
    base = tmp_path_factory.mktemp("ntfs")
    image, place, users = base / "image", base / "mounted", base / "users"
    image.touch()
    os.truncate(image, 30 << 20)
    place.mkdir()
    users.write_text("::S-1-5-21-1-2-3-10000\n")
    subprocess.run(["mkntfs", "-F", "-q", image], check=True, capture_output=True)
    options = f"permissions,inherit,usermapping={users}"
    subprocess.run(["ntfs-3g", "-o", options, image, place], check=True, capture_output=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("name", PARENTS)
def test_files_and_directories_inherit_what_ntfs_3g_lets_them(volume: Path, name: str) -> None:
    parent = SecurityDescriptor.from_sddl(f"O:BAG:SY{PARENTS[name]}")
    folder = volume / name
    folder.mkdir()
    os.setxattr(folder, "system.ntfs_acl", parent.build())
    (folder / "file").touch()
    (folder / "directory").mkdir()
    for leaf, is_directory in (("file", False), ("directory", True)):
        data = get_attribute(os.fsencode(folder / leaf), b"system.ntfs_acl")
        theirs = SecurityDescriptor.parse(data)
        assert theirs.owner and theirs.group
        ours = new_descriptor(
            parent, is_directory=is_directory, owner=theirs.owner, group=theirs.group
        )
        assert ours.dacl and theirs.dacl
        assert compared(theirs.dacl) == compared(ours.dacl)


def compared(acl: Acl) -> list[Ace]:
    found: list[Ace] = []
    for ace in acl.aces:
        assert isinstance(ace, Ace)
        flags = ace.flags & ~(AceFlag.INHERITED | AceFlag.NO_PROPAGATE_INHERIT)
        mask = ace.mask
        if mask & GENERIC_ALL and not flags & AceFlag.INHERIT_ONLY:
            mask = mask & ~GENERIC_ALL | ALL
        ace = replace(ace, flags=flags, mask=mask)
        acting = replace(ace, flags=flags & ~3)
        if acting not in [replace(before, flags=before.flags & ~3) for before in found]:
            found.append(ace)
    return found
