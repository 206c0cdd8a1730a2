"""Container images as files: references, manifests, OCI layouts and docker archives.

Knows nothing of engines and of the store: layers go out as streams of bytes with the digests
that they should have, and come in the same way.
"""
