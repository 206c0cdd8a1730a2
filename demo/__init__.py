"""The demonstration: a real Windows image is built, and the whole story runs on it.

`wheels` fetches Windows programs from the package index, `layertree` writes a layer the way
Windows exports it, `content` decides what the layers hold, `image` makes an OCI image of them,
`model` says what a container would then see, `story` drives the `windowsfilter` command through
everything and compares. `python -m demo` (or `make demo`) runs it.
"""
