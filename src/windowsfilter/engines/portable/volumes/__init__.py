"""Windows volumes made on Linux: a merged tree written to NTFS, and from there into a WIM.

The file systems are others' work: ntfs-3g and wimlib, separate programs that are run and never linked.
What is carried, how, and what is not: docs/formats/ntfs-volume.md.
"""
