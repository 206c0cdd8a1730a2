"""The portable engine: layers kept as their tars, mounted without being unpacked.

Reading order: `importer` (a tar comes in), `index` (what is known of its entries), `blobs` (where it
lies), `tree` (a chain merged), then the views: `erofs_writer`, `chains`, `mounting`, `fuse_server`,
and the way back: `scratch_export`.
"""
