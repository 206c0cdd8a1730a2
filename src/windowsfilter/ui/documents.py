"""What the command prints with `--json`: plain values of the library's objects.

Programs rely on these keys; they are added to, never renamed. Times of entries are FILETIME, all
others nanoseconds since 1970. Paths inside layers have `/` separators.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from windowsfilter.errors import FormatError
from windowsfilter.ui.text import decode

if TYPE_CHECKING:
    from windowsfilter.engines.portable.changes import Change
    from windowsfilter.engines.portable.tree import Problem
    from windowsfilter.ntfs.security import SecurityDescriptor
    from windowsfilter.store.exporting import Exported
    from windowsfilter.store.garbage import Removed
    from windowsfilter.store.image import Image
    from windowsfilter.store.layer import Layer
    from windowsfilter.store.mounts import Mount
    from windowsfilter.store.paths import LayerPath
    from windowsfilter.store.scratch import Scratch
    from windowsfilter.store.stats import Stat
    from windowsfilter.store.usage import Usage

Document = dict[str, Any]
Node = tuple["LayerPath", "Stat"]


def image(image: Image) -> Document:
    """An image with its layers, base first."""
    layers = [layer(each) for each in image.layers]
    return {
        "references": list(image.references),
        "id": image.id,
        "platform": dict(image.platform),
        "created": image.created,
        "size": sum(each["size"] or 0 for each in layers),
        "layers": layers,
    }


def image_in_full(found: Image) -> Document:
    """`image` and everything that came with it."""
    import json

    manifest = found.manifest_bytes
    layer_ids = [layer.id for layer in found.layers]
    return {
        **image(found),
        "config": found.config,
        "manifest": None if manifest is None else json.loads(manifest),
        "problems": [problem(each, layer_ids) for each in found.problems],
    }


def problem(found: Problem, layer_ids: list[str]) -> Document:
    """An entry that cannot be shown as what it claims to be."""
    return {"layer": layer_ids[found.layer], "path": decode(found.name), "reason": found.reason}


def layer(layer: Layer) -> Document:
    """A layer as its manifest has it."""
    return {
        "id": layer.id,
        "parent": layer.parent,
        "state": str(layer.state),
        "diff_id": layer.diff_id,
        "chain_id": layer.chain_id,
        "size": layer.size,
        "entries": layer.entries,
        "created": layer.created,
    }


def scratch(scratch: Scratch) -> Document:
    """A scratch and what it stands on."""
    return {
        "name": scratch.name,
        "id": scratch.id,
        "image": scratch.image,
        "created": scratch.created,
        "mounts": [str(mount.path) for mount in scratch.mounts],
    }


def mount(mount: Mount) -> Document:
    """A mount: where, and of which layer (the topmost) or scratch."""
    return {"path": str(mount.path), "id": mount.id, "writable": mount.writable}


def change(change: Change) -> Document:
    """One changed path, as in the tar: `Files/Windows/x.dll`."""
    return {"kind": str(change.kind), "path": decode(change.path)}


def security(descriptor: SecurityDescriptor | None) -> Document:
    """A security descriptor: its parts as text, and its bytes."""
    import base64

    if descriptor is None:
        return dict.fromkeys(("owner", "group", "sddl", "security_descriptor"))
    try:
        sddl = descriptor.to_sddl()
    except FormatError:
        sddl = None
    return {
        "owner": None if descriptor.owner is None else str(descriptor.owner),
        "group": None if descriptor.group is None else str(descriptor.group),
        "sddl": sddl,
        "security_descriptor": base64.b64encode(descriptor.build()).decode(),
    }


def entry(path: LayerPath, stat: Stat) -> Document:
    """An entry of a directory: its name, and everything `stat` says."""
    return {"name": path.name, **stat.to_json()}


def nested(root: Node, below: Callable[[Node, int], Sequence[Node]]) -> Document:
    """A directory tree as values inside each other; `below` as in `trees.lines`. No recursion."""
    top = _node(*root)
    pending = [(root, top, 0)]
    while pending:
        node, document, level = pending.pop()
        for kid in below(node, level):
            child = _node(*kid)
            document.setdefault("entries", []).append(child)
            pending.append((kid, child, level + 1))
    return top


def _node(path: LayerPath, stat: Stat) -> Document:
    node: Document = {"name": path.name, "type": str(stat.type), "size": stat.size}
    if stat.link_target is not None:
        node["link_target"] = stat.link_target
    return node


def exported(exported: Exported) -> Document:
    """What an export came to; paths of entries start at the root of the layers."""
    written = exported.written
    return {
        "file": str(exported.place),
        "format": exported.format,
        "size": exported.size,
        "directories": written.directories,
        "files": written.files,
        "links": written.links,
        "streams": written.streams,
        "reparse_points": written.reparse_points,
        "data_bytes": written.data_bytes,
        "not_carried": [
            {"path": decode(loss.path), "what": loss.what} for loss in exported.not_carried
        ],
    }


def removed(removed: Removed) -> Document:
    """What a removal came to."""
    return {
        "items": [
            {"kind": item.kind, "id": item.id, "bytes": item.bytes} for item in removed.items
        ],
        "bytes": removed.bytes,
    }


def usage(usage: Usage) -> Document:
    """What occupies the disk, in bytes."""
    return {
        "total": usage.total,
        "derived": usage.derived,
        "reserve": usage.reserve,
        "reclaimable": usage.reclaimable,
        "images": [
            {
                "id": each.id,
                "references": list(each.references),
                "exclusive": each.exclusive,
                "shared": each.shared,
            }
            for each in usage.images
        ],
        "layers": [
            {"id": each.id, "bytes": each.bytes, "images": list(each.images)}
            for each in usage.layers
        ],
        "scratches": [
            {"id": each.id, "name": each.name, "bytes": each.bytes} for each in usage.scratches
        ],
    }
