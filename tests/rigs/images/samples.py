"""A real file system for tests, and real changes to it; how they are made is data.py's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rigs.images import data

CHANGES: dict[str, Callable[[Path], object]] = {
    "upgrade": lambda disk: data.package_upgrade(disk, megabytes=10, seed=3),
    "database": lambda disk: data.database_run(disk, seconds=20, tps=10, seed=3),
    "scattered": lambda disk: data.scattered(disk, writes=300, seed=3),
    "zeroed": lambda disk: data.zero_files(disk, megabytes=8, seed=3),
}


def build(path: Path) -> Path:
    """An ext4 with files and a database, 100 MB of content in 192 MiB."""
    data.build_image(path, content_mb=100, image_mb=192)
    return path
