"""Owns the data of benchmarks: real ext4 images and their changes, also as a command. Mounts nothing.

The parts live in modules of their own and are re-exported here: gpt (partition table), ext4 (e2fsprogs),
corpus (real files), pgpages and pgreplay (the database), changes (upgrades, scattered writes, removals),
diff (what differs, what is non-zero), huge (the 8 TiB disk).
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from rigs.images import corpus, ext4
from rigs.images.changes import package_upgrade, scattered, write_status, zero_files
from rigs.images.diff import (
    changed_extents,
    changed_pages_bytes,
    changed_pages_zstd,
    copy_sparse,
    extract_nonzero,
    nonzero_bytes,
    write_extents,
)
from rigs.images.gpt import write_gpt
from rigs.images.huge import build_huge, touch_huge
from rigs.images.pgreplay import database, database_run
from rigs.images.pgstore import PGDATA

__all__ = [
    "build_huge",
    "build_image",
    "changed_extents",
    "changed_pages_bytes",
    "changed_pages_zstd",
    "copy_sparse",
    "database",
    "database_run",
    "extract_nonzero",
    "nonzero_bytes",
    "package_upgrade",
    "scattered",
    "touch_huge",
    "write_extents",
    "zero_files",
]

STAGE_BYTES = 64 << 20


def build_image(
    path: str | os.PathLike[str],
    *,
    content_mb: int,
    image_mb: int,
    seed: int = 1,
    gpt: bool = True,
    database_mb: int | None = None,
    roots: tuple[str, ...] = corpus.ROOTS,
) -> None:
    """Build a raw sparse image: an ext4 full of real files and a database. An existing `path` is replaced.

    `content_mb` (MiB) of allocated file content in all, of which `database_mb` are the database below
    /var/lib/postgresql (by default an eighth, at least 6 and at most a half; 0: none) and the rest this
    machine's files below `roots`; where it has too few, edited copies below /srv follow. `image_mb` (MiB) is
    the size of the image; with `gpt` the file system lies in a partition at 1 MiB, otherwise it is the whole
    image. Holes stay holes: `du` shows the content and some metadata. The same seed on the same machine's
    files gives the same bytes. Staging needs `database_mb` + 64 MiB beside the image for a while. Ends with
    e2fsck.

    Raises ValueError (the content does not fit, or too small), ext4.ToolError (e2fsprogs missing or unhappy),
    OSError. After an error the partial image is removed.
    """
    database_mb = max(6, min(content_mb // 8, content_mb // 2)) if database_mb is None else database_mb
    size, content = image_mb << 20, content_mb << 20
    file_bytes = content - (database_mb << 20)
    if file_bytes <= 0:
        raise ValueError(f"content of {content_mb} MB leaves no room for files beside {database_mb} MB of database")
    if content + content // 16 + (8 << 20) > size:
        raise ValueError(f"{content_mb} MB of content do not fit into an image of {image_mb} MB with its metadata")
    chosen = corpus.choose(file_bytes, seed=seed, roots=roots)
    image = Path(path)
    try:
        with open(image, "wb") as file:
            file.truncate(size)
        offset, length = write_gpt(image, seed=seed) if gpt else (0, size)
        needed = len(chosen) + len(corpus.directories([name for name, _ in chosen])) + 256
        ext4.make(image, offset=offset, length=length, seed=seed, inodes=max(needed * 3 // 2, size // 16384))
        if ext4.free_bytes(image) < content + content // 100 + (1 << 20):
            raise ValueError(f"{content_mb} MB do not fit into the {ext4.free_bytes(image) >> 20} MB free in {image}")
        with tempfile.TemporaryDirectory(prefix="warmspare-build-", dir=image.resolve().parent) as staging:
            if database_mb:
                _place_database(image, Path(staging, "database"), database_mb, seed)
            _place_files(image, Path(staging), chosen, seed)
        ext4.check(image)
    except BaseException:
        image.unlink(missing_ok=True)
        raise


def _place_database(image: Path, staging: Path, megabytes: int, seed: int) -> None:
    staging.mkdir()
    names = database(staging, megabytes=megabytes, seed=seed)
    lines = [f"mkdir {name}" for name in corpus.directories([f"{PGDATA}/{name}" for name in names])]
    for name in names:
        (staging / name).chmod(0o600)
        directory, _, base = f"{PGDATA}/{name}".rpartition("/")
        lines += [f"cd {directory}", f"write {staging / name} {base}"]
    ext4.run_script(image, lines)
    for name in names:
        (staging / name).unlink()


def _place_files(image: Path, staging: Path, chosen: list[tuple[str, corpus.Source]], seed: int) -> None:
    existing = {entry.path for entry in ext4.tree(image) if entry.is_directory}
    names = [name for name, _ in chosen]
    directories = corpus.directories([*names, "/var/lib/dpkg/status"])
    lines = [f"mkdir {name}" for name in directories if name not in existing]
    status = staging / "status"
    write_status(status, corpus.directories(names), 0)
    lines += ["cd /var/lib/dpkg", f"write {status} status"]
    staged: list[Path] = []
    staged_bytes, here, donor = 0, "", b""
    for number, (name, source) in enumerate(chosen):
        directory, _, base = name.rpartition("/")
        if directory != here:
            lines.append(f"cd {directory}")
            here = directory
        if source.target is not None:
            lines.append(f"symlink {base} {source.target}")
        elif name == source.path:
            lines.append(f"write {source.path} {base}")
        else:  # a copy: the same bytes twice would be a disk that no one has
            content = corpus.read(source.path)
            copy = staging / f"copy{number}"
            copy.write_bytes(corpus.new_version(content, donor or content, seed=seed + number))
            lines.append(f"write {copy} {base}")
            staged.append(copy)
            staged_bytes, donor = staged_bytes + len(content), content
        if staged_bytes >= STAGE_BYTES:
            ext4.run_script(image, lines)
            lines, staged_bytes, here = [], 0, ""
            while staged:
                staged.pop().unlink()
    ext4.run_script(image, lines)


def main(arguments: list[str] | None = None) -> int:
    """Parse and run one command; 0, or 2 with one sentence on stderr."""
    options = _parser().parse_args(arguments)
    started = time.perf_counter()
    try:
        said = options.run(options)
    except (ValueError, ext4.ToolError, OSError) as error:
        print(f"data.py: {error}", file=sys.stderr)
        return 2
    print(f"{said} ({time.perf_counter() - started:.2f} s)")
    return 0


def _build(options: argparse.Namespace) -> str:
    build_image(
        options.image,
        content_mb=options.content_mb,
        image_mb=options.image_mb,
        seed=options.seed,
        gpt=not options.bare,
        database_mb=options.database_mb,
    )
    return f"{options.image}: {options.image_mb} MB, {nonzero_bytes(options.image)} bytes in non-zero pages"


def _upgrade(options: argparse.Namespace) -> str:
    return f"{package_upgrade(options.image, megabytes=options.mb, seed=options.seed)} bytes of new files"


def _database(options: argparse.Namespace) -> str:
    done = database_run(options.image, seconds=options.seconds, tps=options.tps, seed=options.seed)
    return f"{done} transactions"


def _scattered(options: argparse.Namespace) -> str:
    return f"{len(scattered(options.image, writes=options.writes, seed=options.seed))} writes of 8 KiB"


def _zero(options: argparse.Namespace) -> str:
    return f"{zero_files(options.image, megabytes=options.mb, seed=options.seed)} bytes became zeros"


def _copy(options: argparse.Namespace) -> str:
    return f"{copy_sparse(options.image, options.to)} bytes copied"


def _diff(options: argparse.Namespace) -> str:
    extents = changed_extents(options.before, options.image, options.granularity)
    if options.out:
        write_extents(options.out, extents)
    total = sum(length for _, length in extents)
    wire = changed_pages_zstd(options.before, options.image)
    return f"{len(extents)} extents, {total} bytes; zstd -3 of just the changed pages: {wire} bytes"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="data.py", description="Build real disk images and change them.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, text: str, run: object, *, seed: bool = True) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument("image", type=Path)
        if seed:
            sub.add_argument("--seed", type=int, default=1)
        sub.set_defaults(run=run)
        return sub

    build = command("build", "an ext4 full of this machine's files and a database", _build)
    build.add_argument("--content-mb", type=int, default=2048)
    build.add_argument("--image-mb", type=int, default=8192)
    build.add_argument("--database-mb", type=int, help="default: an eighth of the content")
    build.add_argument("--bare", action="store_true", help="no partition table")
    upgrade = command("upgrade", "packages upgraded as dpkg does", _upgrade)
    upgrade.add_argument("--mb", type=int, default=200)
    run = command("database", "a pgbench run, in place", _database)
    run.add_argument("--seconds", type=float, default=60)
    run.add_argument("--tps", type=float, default=20)
    command("scattered", "random 8 KiB page writes", _scattered).add_argument("--writes", type=int, default=4000)
    command("zero", "files removed and their blocks zeroed", _zero).add_argument("--mb", type=float, default=64)
    command("copy", "a copy whose holes stay holes", _copy, seed=False).add_argument("to", type=Path)
    diff = command("diff", "where an image differs from an earlier one", _diff, seed=False)
    diff.add_argument("before", type=Path)
    diff.add_argument("--granularity", type=int, default=65536)
    diff.add_argument("--out", type=Path, help="write the extents table here")
    return parser


if __name__ == "__main__":
    sys.exit(main())
