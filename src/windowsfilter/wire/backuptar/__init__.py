"""Layer tars <-> operations on files with their Win32 backup streams."""
