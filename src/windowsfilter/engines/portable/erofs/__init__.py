"""EROFS images of chains: layout, writing, reading, deltas. Kept by `chains`, mounted by `mounting`."""
