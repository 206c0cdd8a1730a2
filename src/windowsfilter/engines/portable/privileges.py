"""What this process may do, as the kernel sees it: user_namespaces(7), capabilities(7), proc(5)."""

from __future__ import annotations

import os
from pathlib import Path

_CAP_SYS_ADMIN = 1 << 21
_INITIAL_MAP = ["0", "0", "4294967295"]


def has_cap_sys_admin() -> bool:
    """Whether it has the right to mount, at least in its own user namespace."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return os.geteuid() == 0
    for line in status.splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) & _CAP_SYS_ADMIN)
    return False


def in_initial_namespace() -> bool:
    """Whether ids here are the machine's: only there does root read `trusted.*` attributes."""
    try:
        return Path("/proc/self/uid_map").read_text().split() == _INITIAL_MAP
    except OSError:
        return False


def sees_trusted_attributes() -> bool:
    """Whether it sees attributes `trusted.*`: without the right they look absent."""
    return in_initial_namespace() and has_cap_sys_admin()
