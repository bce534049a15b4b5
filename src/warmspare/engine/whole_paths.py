"""A request that means the same from every directory: what is named in it by a relative path, by a whole one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

import msgspec
from msgspec.structs import replace

from warmspare.engine.given_disks import VDDK_SCHEME, NamedDisk
from warmspare.engine.repository_place import RepositoryPlace
from warmspare.store.opening import has_scheme

T = TypeVar("T")


def whole(request: T, folder: Path) -> T:
    """The same with whole paths. folder: where relative ones begin."""
    return cast(T, _changed(request, lambda path: os.path.join(folder, path)))  # noqa: PTH118 (keeps what a Path drops)


def paths_of(request: object) -> list[str]:
    """Every path that it names."""
    found: list[str] = []

    def heard(path: str) -> str:
        found.append(path)
        return path

    _changed(request, heard)
    return found


def _changed(value: object, change: Callable[[str], str]) -> object:
    """The same with other paths."""
    if isinstance(value, Path):
        return Path(change(str(value)))
    if isinstance(value, tuple):
        return tuple(_changed(one, change) for one in value)
    if not isinstance(value, msgspec.Struct):
        return value
    if isinstance(value, RepositoryPlace) and value.uri and not has_scheme(value.uri):
        value = replace(value, uri=change(value.uri))
    if isinstance(value, NamedDisk) and value.place and not value.place.startswith(VDDK_SCHEME):
        value = replace(value, place=change(value.place), name=value.id)
    fields = {name: getattr(value, name) for name in value.__struct_fields__}
    return replace(value, **{name: _changed(old, change) for name, old in fields.items()})
