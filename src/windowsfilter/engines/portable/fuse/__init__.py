"""The FUSE server: nodes of a tree, the kernel protocol, the process that serves, mounting it."""
