"""The portable engine: layers kept as their tars, mounted without being unpacked.

Reading order: `importer` (a tar comes in), `index` (what is known of its entries), `blobs` (where it
lies), `tree` (a chain merged), then the views: `erofs.writer`, `chains`, `mounting`, `fuse.server`,
and the way back: `scratch.export`.
"""
