"""The tables of `catalog.db`.

Everything here but `labels` can be read again from the records on disk, so a schema never changes
in place: another `VERSION` makes the catalog be built anew (docs/formats/store.md section 7).
"""

from __future__ import annotations

VERSION = 2
APPLICATION_ID = 0x77666C74  # "wflt", for file(1)

# `record` is the file's bytes, `stamp` tells whether the file has changed since, `crc` (of the other
# columns) whether the row has.
TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

CREATE TABLE layers (
    id TEXT PRIMARY KEY,
    parent TEXT,
    state TEXT NOT NULL,
    owner TEXT NOT NULL,
    diff_id TEXT,
    chain_id TEXT,
    name TEXT UNIQUE,
    created INTEGER NOT NULL,
    record BLOB NOT NULL,
    stamp TEXT NOT NULL,
    crc INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX layers_by_parent ON layers (parent);
CREATE INDEX layers_by_diff ON layers (diff_id);
CREATE INDEX layers_by_chain ON layers (chain_id);

CREATE TABLE aliases (
    alias TEXT PRIMARY KEY,
    layer TEXT NOT NULL REFERENCES layers ON DELETE CASCADE
) WITHOUT ROWID;
CREATE INDEX aliases_by_layer ON aliases (layer);

CREATE TABLE pins (
    chain TEXT NOT NULL,
    layer TEXT NOT NULL REFERENCES layers ON DELETE CASCADE,
    PRIMARY KEY (chain, layer)
) WITHOUT ROWID;
CREATE INDEX pins_by_layer ON pins (layer);

CREATE TABLE snapshots (
    key TEXT PRIMARY KEY,
    layer TEXT NOT NULL REFERENCES layers ON DELETE CASCADE,
    kind TEXT NOT NULL,
    parent TEXT,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX snapshots_by_layer ON snapshots (layer);
CREATE INDEX snapshots_by_parent ON snapshots (parent);

CREATE TABLE images (
    id TEXT PRIMARY KEY,
    created INTEGER NOT NULL,
    record BLOB NOT NULL,
    stamp TEXT NOT NULL,
    crc INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE image_layers (
    image TEXT NOT NULL REFERENCES images ON DELETE CASCADE,
    position INTEGER NOT NULL,
    layer TEXT NOT NULL,
    PRIMARY KEY (image, position)
) WITHOUT ROWID;
CREATE INDEX image_layers_by_layer ON image_layers (layer);

CREATE TABLE tags (
    reference TEXT PRIMARY KEY,
    image TEXT NOT NULL REFERENCES images ON DELETE CASCADE,
    since INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX tags_by_image ON tags (image);

CREATE TABLE labels (
    kind TEXT NOT NULL,
    object TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (kind, object, key)
) WITHOUT ROWID;

CREATE TABLE holds (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    object TEXT NOT NULL,
    purpose TEXT NOT NULL,
    path TEXT NOT NULL,
    pid INTEGER,
    start_time INTEGER,
    namespace TEXT,
    boot TEXT NOT NULL,
    created INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX holds_by_object ON holds (kind, object);
"""
