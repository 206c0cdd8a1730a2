"""Bytes in a pipe: tar, whiteouts, compression. No files and no sockets of its own."""
