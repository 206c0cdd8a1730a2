"""What NTFS metadata means: names, times, attributes. Bytes in, values out; no files."""
