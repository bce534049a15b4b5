"""The record that makes a prefix a repository: its identity and format; nothing else."""

from __future__ import annotations

import msgspec

from warmspare.errors import FormatError
from warmspare.format import flags
from warmspare.outside.records import Count, Hex32, Line, UnfitError


class RepositoryRecord(msgspec.Struct, frozen=True):
    """id: 32 hex digits, drawn when the repository was made."""

    format: int
    flags: Count
    id: Hex32
    created: Line


def encode(record: RepositoryRecord) -> bytes:
    return msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n"


def decode(data: bytes, where: str) -> RepositoryRecord:
    try:
        return flags.decode(data, RepositoryRecord, "repository", where)
    except UnfitError as error:
        raise FormatError(f"the repository's own record is damaged: {error}", where=where) from None
