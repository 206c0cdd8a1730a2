"""`python -m windowsfilter`: the command."""

from __future__ import annotations

import sys

from windowsfilter.cli import main

if __name__ == "__main__":
    sys.exit(main())
