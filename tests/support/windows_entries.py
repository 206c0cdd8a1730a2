"""A layer with all Windows metadata that there is, for whoever reads, mounts or changes it."""

from __future__ import annotations

import base64

from tests.support.chains import Entry, file, folder, junction, symlink
from windowsfilter.ntfs.eas import NEED_EA, ExtendedAttribute
from windowsfilter.ntfs.reparse import LinkNames, ReparsePoint, ReparseTag
from windowsfilter.ntfs.security import Acl, OpaqueAce, SecurityDescriptor
from windowsfilter.ntfs.sids import SYSTEM
from windowsfilter.wire.backuptar import records

SDDL = "O:BAG:SYD:PAI(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICIIO;GA;;;CO)(A;OICI;0x1200a9;;;BU)"
DESCRIPTOR = SecurityDescriptor.from_sddl(SDDL).build()
# An ACE of a type that SDDL has no letters for.
ODD_DESCRIPTOR = SecurityDescriptor(
    owner=SYSTEM, dacl=Acl.of([OpaqueAce(type=0x30, body=bytes(8))])
).build()
EAS = (
    ExtendedAttribute(b"$KERNEL.PURGE.X", bytes(range(8)), NEED_EA),
    ExtendedAttribute(b"LX.TEXT", b"text"),
    ExtendedAttribute(b"LARGE", b"L" * 600),
)
PLACEHOLDER = ReparsePoint(ReparseTag.APPEXECLINK, b"\x03\0\0\0app\0")
UNSHOWN_LINK = LinkNames(substitute_name="\\??\\C:\\Windows", print_name="").build(
    ReparseTag.MOUNT_POINT
)
STREAM = b"[stream]"


def _reparse(point: ReparsePoint) -> dict[bytes, bytes]:
    return {records.RAW_REPARSE: base64.b64encode(point.build())}


def entries() -> list[Entry]:
    """The layer."""
    text = {records.TEXT_DESCRIPTOR: SDDL.encode()}
    unshown = junction("Files/unshown", "C:\\Windows").member.records
    return [
        folder("Files", sd=DESCRIPTOR),
        folder("Files/Windows", sd=DESCRIPTOR, records=records.eas_records(EAS[1:2])),
        file("Files/Windows:stream", STREAM),
        file("Files/eas", b"eas", sd=DESCRIPTOR, records=records.eas_records(EAS)),
        file("Files/eas:stream", STREAM),
        symlink("Files/link", "eas", records=records.eas_records(EAS[:1])),
        file("Files/link:own", STREAM),
        file("Files/app.exe", b"", attributes=0x420, records=_reparse(PLACEHOLDER)),
        symlink(
            "Files/unshown",
            "C:\\Windows",
            attributes=0x410,
            records={**unshown, **_reparse(UNSHOWN_LINK)},
        ),
        file("Files/old", b"old", records=text),
        file("Files/odd", b"odd", sd=ODD_DESCRIPTOR),
    ]


def damaged_entries() -> list[Entry]:
    """A layer that is only taken with `--no-verify`: each file has something that cannot be used."""
    return [
        folder("Files"),
        file("Files/descriptor", b"1", sd=DESCRIPTOR[:40]),
        file("Files/base64", b"2", records={records.RAW_DESCRIPTOR: b"AQAB!"}),
        file("Files/text", b"3", records={records.TEXT_DESCRIPTOR: b"O:SY)("}),
        file("Files/eas", b"4", records={records.RAW_EAS: base64.b64encode(b"\xff" * 12)}),
        file(
            "Files/reparse",
            b"5",
            records={records.RAW_REPARSE: base64.b64encode(b"\x03\0\0\xa0\xff\xff\0\0")},
        ),
        file("Files/fine", b"6", sd=DESCRIPTOR),
    ]
