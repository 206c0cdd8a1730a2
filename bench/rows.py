"""The rows of the table: each measures one kind of work and adds its lines to the report."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from statistics import median

from bench import corpus, measure
from bench.corpus import FULL, Shape
from bench.measure import BenchError
from bench.report import Line, megabytes, seconds
from bench.session import NotHereError, Session, remove

MIN_ENTRIES_PER_S = 80_000
MIN_OPERATIONS_PER_S = 40_000
_LARGE_FILES = 64
_LARGE_BYTES = 16 << 20
_LATER_MOUNTS = 20
_EMPTY_ENTRIES = 10_000_000


def reader(session: Session) -> None:
    """How many entries the tar reader takes in a second of one processor."""
    blob = session.corpus().blob(0)
    measure.warm(blob)
    rates = []
    records = 0.0
    for _ in range(session.runs):
        found = session.child("reader", blob).json()
        rates.append(found["entries"] / found["cpu_s"])
        records = found["records"] / found["entries"]
    rate = median(rates)
    session.report.add(
        Line(
            row="reader",
            work=f"tar reader, all checks, {records:.1f} PAX records an entry",
            ours=f"{rate:,.0f} entries/s",
            target=f">= {MIN_ENTRIES_PER_S:,}",
            met=rate >= MIN_ENTRIES_PER_S,
            runs={"entries_per_cpu_s": rates},
        )
    )


def operations(session: Session) -> None:
    """Layer tars as operations with backup streams, beside Python's own reader of tar headers."""
    runs: dict[str, list[float]] = {"rate": [], "twice": [], "growth": [], "bodies": [], "peer": []}
    with session.folder("operations") as place:
        once, twice, large = (place / f"{name}.tar" for name in ("once", "twice", "large"))
        session.child("headers", session.corpus().blob(0), "1", once)
        session.child("headers", session.corpus().blob(0), "2", twice)
        corpus.write_large(large, _LARGE_FILES, _LARGE_BYTES)
        measure.warm(once, twice, large)
        for _ in range(session.runs):
            one, two = (session.child("operations", tar, "skip").json() for tar in (once, twice))
            peer = session.child("operations", once, "peer").json()
            whole = session.child("operations", large, "read").json()
            runs["rate"].append(one["entries"] / one["cpu_s"])
            runs["twice"].append(two["cpu_s"] / one["cpu_s"])
            runs["growth"].append((two["peak"] - one["peak"]) / one["peak"])
            runs["peer"].append(peer["entries"] / peer["cpu_s"])
            runs["bodies"].append(whole["bytes"] / whole["cpu_s"] / 1e9)
    _report_operations(session, runs)


def _report_operations(session: Session, runs: dict[str, list[float]]) -> None:
    figure = {name: median(values) for name, values in runs.items()}
    for work, ours, peer, ratio, target, met in (
        (
            "layer tar to operations, without bodies",
            f"{figure['rate']:,.0f} entries/s",
            f"tarfile, headers only: {figure['peer']:,.0f} entries/s",
            f"{figure['rate'] / figure['peer']:.1f}x",
            f">= {MIN_OPERATIONS_PER_S:,}",
            figure["rate"] >= MIN_OPERATIONS_PER_S,
        ),
        (
            "twice as many entries: time; growth of the peak",
            f"{figure['twice']:.2f}x; {figure['growth']:+.0%}",
            "",
            "",
            "<= 2.2x; <= 10 %",
            figure["twice"] <= 2.2 and figure["growth"] <= 0.1,
        ),
        (
            "bodies as backup streams",
            f"{figure['bodies']:.1f} GB/s",
            "",
            "",
            ">= 1 GB/s",
            figure["bodies"] >= 1,
        ),
    ):
        session.report.add(
            Line(
                row="operations",
                work=work,
                ours=ours,
                peer=peer,
                figure=ratio,
                target=target,
                met=met,
                runs=runs,
            )
        )


def load(session: Session) -> None:
    """Loading, in turns with umoci's raw unpack and with loops that only do the unavoidable."""
    made = session.corpus()
    blobs = [made.blob(number) for number in range(len(made.layers))]
    measure.warm(*blobs)
    times: dict[str, list[float]] = {}

    def took(what: str, value: float) -> None:
        times.setdefault(what, []).append(value)

    for number in range(session.runs):
        session.say(f"load, round {number + 1} of {session.runs}")
        with session.folder("load") as place:
            _unpack_by_umoci(session, made.app, place / "umoci", took)
            measure.settle()
            for what in ("threads", "loop"):
                took(what, session.child(what, place / what, *blobs).json()["seconds"])
                for written in place.glob(f"{what}.*"):
                    written.unlink()
                measure.settle()
            root = place / "root"
            run, image = session.load(root, made.app)
            took("load", run.wall_s)
            took("load_cpu", run.cpu_s)
            try:
                with session.mounted(root, image, place / "mnt") as mounting:
                    took("load+mount", run.wall_s + mounting.wall_s)
            except (NotHereError, BenchError) as error:
                session.report.note(f"load plus first mount: {error}")
    _report_load(session, times)


def _unpack_by_umoci(
    session: Session, layout: Path, target: Path, took: Callable[[str, float], None]
) -> None:
    try:
        umoci = session.peer("umoci")
        session.needs_root("umoci raw unpack")
    except NotHereError as error:
        session.report.note(f"load beside umoci: {error}")
        return
    measure.settle()
    unpack = measure.run([umoci, "raw", "unpack", "--image", f"{layout}:bench", target])
    took("umoci", unpack.wall_s)
    took("rm -rf", measure.run(["rm", "-rf", target]).wall_s)


def _report_load(session: Session, times: dict[str, list[float]]) -> None:
    for ours, peer, work, text, target in (
        ("load", "umoci", "load", "umoci raw unpack", 1 / 4),
        ("load", "threads", "load", "inflate, digest twice, write, fsync (a thread each)", 1.8),
        ("load", "loop", "load", "inflate, digest twice, write, fsync (one thread)", 1.8),
        ("load+mount", "umoci", "load plus first mount", "umoci raw unpack", 1 / 3.5),
    ):
        if ours not in times or peer not in times:
            continue
        ratios = [a / b for a, b in zip(times[ours], times[peer], strict=True)]
        ratio = median(ratios)
        session.report.add(
            Line(
                row="load",
                work=work,
                ours=seconds(median(times[ours])),
                peer=f"{text} {seconds(median(times[peer]))}",
                figure=f"{ratio:.2f}x",
                target=f"<= {target:.2g}x",
                met=ratio <= target,
                runs={"ours_s": times[ours], "peer_s": times[peer], "ratios": ratios},
            )
        )


def mount(session: Session) -> None:
    """First mounts of a base and of its child, later ones in the same process."""
    session.needs_root("mounting")
    made = session.corpus()
    base_s, child_s, later_s = [], [], []
    for number in range(session.runs):
        session.say(f"mount, round {number + 1} of {session.runs}")
        with session.folder("mount") as place:
            root = place / "root"
            _, base = session.load(root, made.base)
            _, app = session.load(root, made.app)
            measure.settle()
            with session.mounted(root, base, place / "base") as first:
                base_s.append(first.wall_s)
                with session.mounted(root, app, place / "app") as second:
                    child_s.append(second.wall_s)
            again = session.child("later-mounts", root, app, str(_LATER_MOUNTS)).json()
            later_s.append(median(again["seconds"]))
    for work, times, limit in (
        (f"first mount, base of {made.layers[0].entries:,} entries", base_s, 3.0),
        (f"first mount, child of {made.layers[1].entries:,} on a mounted base", child_s, 0.4),
        ("later mount, inside the process", later_s, 0.02),
    ):
        middle = median(times)
        session.report.add(
            Line(
                row="mount",
                work=work,
                ours=seconds(middle),
                target=f"<= {seconds(limit)}",
                met=middle <= limit,
                runs={"seconds": times},
            )
        )


def memory(session: Session) -> None:
    """Peaks of load and first mount, and whether they grow with the bytes of the layers."""
    few = FULL.scaled(max(2000, min(20_000, session.shape.entries)))
    peaks = {}
    for name, shape in (
        ("", session.shape),
        ("small files", Shape(entries=few.entries, bytes=few.entries * 10_000, child_entries=50)),
        ("large files", Shape(entries=few.entries, bytes=few.entries * 40_000, child_entries=50)),
    ):
        peaks[name] = _peaks(session, shape)
    for what, limit in (("load", 250e6), ("first mount", 350e6)):
        _report_memory(session, "memory", what, session.shape, peaks[""].get(what), limit)
    if "load" in peaks["small files"]:
        small, large = peaks["small files"]["load"], peaks["large files"]["load"]
        session.report.add(
            Line(
                row="memory",
                work="peak memory of load, four times the bytes in as many entries",
                ours=megabytes(large),
                peer=megabytes(small),
                figure=f"{large / small:.2f}x",
                target="<= 1.1x",
                met=large <= 1.1 * small,
            )
        )


def million(session: Session) -> None:
    """Peaks with 1,000,000 entries."""
    shape = Shape(entries=1_000_000, bytes=3_000_000_000, child_entries=1000)
    peaks = _peaks(session, shape)
    for what in ("load", "first mount"):
        _report_memory(session, "million", what, shape, peaks.get(what), 600e6)


def _peaks(session: Session, shape: Shape) -> dict[str, int]:
    made = session.corpus(shape)
    session.say(f"memory with {made.entries:,} entries, {made.size / 1e6:,.0f} MB")
    with session.folder("memory") as place:
        root = place / "root"
        run, image = session.load(root, made.app, watch=True)
        peaks = {"load": run.peak_bytes}
        try:
            with session.mounted(root, image, place / "mnt") as first:
                peaks["first mount"] = first.peak_bytes
        except (NotHereError, BenchError) as error:
            session.report.note(f"memory of first mount: {error}")
        return peaks


def _report_memory(
    session: Session, row: str, what: str, shape: Shape, peak: int | None, limit: float
) -> None:
    if peak is None:
        return
    session.report.add(
        Line(
            row=row,
            work=f"peak memory of {what}, {shape.entries:,} entries",
            ours=megabytes(peak),
            target=f"<= {megabytes(limit)}",
            met=peak <= limit,
        )
    )


def empties(session: Session) -> None:
    """Ten million empty entries: done within 700 MB, or refused at a documented limit."""
    layout = corpus.ensure_empty(session.work / "corpus", _EMPTY_ENTRIES)
    with session.folder("empties") as place:
        run = session.ours(place / "root", "load", layout, watch=True, check=False)
        refused = run.code == 3 and "limit" in run.stderr.lower()
        session.report.add(
            Line(
                row="empties",
                work=f"load of {_EMPTY_ENTRIES:,} empty entries",
                ours=f"{'refused' if refused else f'exit code {run.code}'} after"
                f" {seconds(run.wall_s)}, {megabytes(run.peak_bytes)}",
                figure=run.stderr.strip()[-200:] if run.code else "",
                target="refused or <= 700 MB",
                met=refused or (run.code == 0 and run.peak_bytes <= 700e6),
            )
        )


def removal(session: Session) -> None:
    """Removing the image: time, and whether the space is back when the command returns."""
    made = session.corpus()
    times, returned = [], []
    for number in range(session.runs):
        session.say(f"removal, round {number + 1} of {session.runs}")
        with session.folder("remove") as place:
            root = place / "root"
            _, image = session.load(root, made.app)
            try:
                with session.mounted(root, image, place / "mnt"):
                    pass
            except (NotHereError, BenchError) as error:
                session.report.note(f"removal, with a mount before: {error}")
            measure.settle()
            held, free = measure.allocated(root), measure.free_bytes(root)
            run = session.ours(root, "rmi", image)
            gained = measure.free_bytes(root) - free
            times.append(run.wall_s)
            returned.append(gained / (held - measure.allocated(root)))
    middle, share = median(times), median(returned)
    session.report.add(
        Line(
            row="remove",
            work="remove the image, mounted once",
            ours=seconds(middle),
            figure=f"{share:.0%} of the space back",
            target="<= 0.7 s, space back",
            met=middle <= 0.7 and share >= 0.98,
            runs={"seconds": times, "share_of_space_back": returned},
        )
    )


def read(session: Session) -> None:
    """Every file through the mount, against the same tree unpacked: warm and cold."""
    session.needs_root("mounting and dropping caches")
    made = session.corpus()
    with session.folder("read") as place:
        root, mounted, plain = place / "root", place / "mnt", place / "plain"
        _, image = session.load(root, made.app)
        with session.mounted(root, image, mounted):
            session.say("read: copying the mounted tree")
            measure.run(["cp", "-a", mounted, plain])
            measure.settle()
            for name, limit in (("warm", 1.2), ("cold", 1.0)):
                _compare_reads(session, name, limit, mounted, plain)
        remove(plain)


def _compare_reads(session: Session, name: str, limit: float, mounted: Path, plain: Path) -> None:
    ours: list[float] = []
    theirs: list[float] = []
    digests = set()
    if name == "warm":
        for tree in (mounted, plain):
            session.child("read-tree", tree)
    for number in range(session.runs):
        session.say(f"read {name}, round {number + 1} of {session.runs}")
        for tree, times in ((mounted, ours), (plain, theirs)):
            if name == "cold":
                measure.drop_caches()
            found = session.child("read-tree", tree).json()
            times.append(found["seconds"])
            digests.add((found["files"], found["bytes"], found["digest"]))
    ratio = median(a / b for a, b in zip(ours, theirs, strict=True))
    files, size, _ = next(iter(digests))
    session.report.add(
        Line(
            row="read",
            work=f"sha256 of {files:,} files, {size / 1e6:,.0f} MB, through the mount, {name}",
            ours=seconds(median(ours)),
            peer=f"unpacked folder {seconds(median(theirs))}",
            figure=f"{ratio:.2f}x" if len(digests) == 1 else "DIFFERENT CONTENT",
            target=f"<= {limit}x",
            met=ratio <= limit and len(digests) == 1,
            runs={"ours_s": ours, "peer_s": theirs},
        )
    )


def save(session: Session) -> None:
    """Saving plain layers against copying their bytes with cat."""
    made = session.corpus()
    with session.folder("save") as place:
        root = place / "root"
        _, image = session.load(root, made.app)
        names = [layer.diff_id.removeprefix("sha256:") for layer in made.layers]
        blobs = [root / "blobs" / "sha256" / name / "blob" for name in names]
        measure.warm(*blobs)
        ours, plain, synced = [], [], []
        for number in range(session.runs):
            session.say(f"save, round {number + 1} of {session.runs}")
            out = place / "out"
            measure.settle()
            saved = session.ours(
                root, "save", image, "-o", out, "--format", "oci", "--compression", "none"
            )
            ours.append(saved.wall_s)
            out.unlink()
            measure.settle()
            cat = measure.run(["cat", *blobs], stdout=out)
            plain.append(cat.wall_s)
            synced.append(cat.wall_s + measure.run(["sync", out]).wall_s)
            out.unlink()
    for text, theirs in (("cat", plain), ("cat, then fsync", synced)):
        ratio = median(a / b for a, b in zip(ours, theirs, strict=True))
        session.report.add(
            Line(
                row="save",
                work="save as plain layers",
                ours=seconds(median(ours)),
                peer=f"{text} of the blobs {seconds(median(theirs))}",
                figure=f"{ratio:.2f}x",
                target="<= 2x",
                met=ratio <= 2,
                runs={"ours_s": ours, "peer_s": theirs},
            )
        )


def bsdtar(session: Session) -> None:
    """For orientation: unpacking with bsdtar, which digests nothing, and removing that."""
    program = session.peer("bsdtar")
    made = session.corpus()
    unpacked, removed = [], []
    for number in range(session.runs):
        session.say(f"bsdtar, round {number + 1} of {session.runs}")
        with session.folder("bsdtar") as place:
            measure.settle()
            total = 0.0
            for layer in range(len(made.layers)):
                # It has no whiteouts, so these become files; and says so of odd names.
                run = measure.run([program, "-C", place, "-xf", made.blob(layer)], check=False)
                total += run.wall_s
            unpacked.append(total)
            tree = place / "Files"
            removed.append(measure.run(["rm", "-rf", tree]).wall_s)
    session.report.add(
        Line(
            row="bsdtar",
            work="for orientation: bsdtar unpacks without any digest",
            ours="",
            peer=f"{seconds(median(unpacked))}, rm -rf {seconds(median(removed))}",
            runs={"unpack_s": unpacked, "remove_s": removed},
        )
    )


ROWS: dict[str, Callable[[Session], None]] = {
    "reader": reader,
    "operations": operations,
    "load": load,
    "mount": mount,
    "memory": memory,
    "million": million,
    "empties": empties,
    "remove": removal,
    "read": read,
    "save": save,
    "bsdtar": bsdtar,
}


def room_for(session: Session) -> None:
    """Raises NotHereError if the disk cannot hold what the rows write."""
    needed = 5 * session.shape.bytes
    free = shutil.disk_usage(session.work).free
    if free < needed:
        raise NotHereError(f"{session.work} has {megabytes(free)} free, {megabytes(needed)} needed")
