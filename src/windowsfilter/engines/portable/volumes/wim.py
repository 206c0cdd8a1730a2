"""A WIM, captured by wimlib from an NTFS volume that nobody has mounted.

Only so does wimlib keep descriptors, attributes, streams and reparse points on Linux. A WIM has no
place for change times, and wimlib's capture of volumes none for EAs.
"""

from __future__ import annotations

from pathlib import Path

from windowsfilter.engines.portable.volumes import programs
from windowsfilter.engines.portable.volumes.programs import WIMLIB
from windowsfilter.errors import UsageError

COMPRESSIONS = ("none", "xpress", "lzx", "lzms")
"""`--compress` of wimcapture: how well, and how slowly, from left to right."""
# wimlib leaves out what Windows does not need in an image (page file, recycle bin, ...) unless
# there is a list of what to leave out: ours is empty.
_NOTHING_EXCLUDED = "[ExclusionList]\n"


def check_compression(compression: str) -> None:
    """Raises UsageError for a word that is none of COMPRESSIONS."""
    if compression not in COMPRESSIONS:
        known = ", ".join(COMPRESSIONS)
        raise UsageError(f"compression {compression!r} is not one of {known}")


def capture(volume: Path, target: Path, *, name: str, compression: str, working: Path) -> None:
    """Write the WIM `target` with one image called `name`. Raises HostError.

    `working` is a folder for a file that wimlib needs.
    """
    rules = working / "wimlib.ini"
    rules.write_text(_NOTHING_EXCLUDED)
    programs.run(
        WIMLIB,
        [
            "capture",
            volume,
            target,
            name,
            f"--compress={compression}",
            f"--config={rules}",
            "--norpfix",  # or absolute links would be made to point into the captured tree
            "--strict-acls",
            "--check",
        ],
        what=f"capture {target}",
    )
