"""The record that makes a prefix a repository: its identity and format; nothing else."""

from __future__ import annotations

import msgspec

from warmspare.errors import FormatError
from warmspare.format import flags


class RepositoryRecord(msgspec.Struct, frozen=True):
    """id: 32 hex digits, drawn when the repository was made."""

    format: int
    flags: int
    id: str
    created: str


def encode(record: RepositoryRecord) -> bytes:
    return msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n"


def decode(data: bytes, where: str) -> RepositoryRecord:
    try:
        record = msgspec.json.decode(data, type=RepositoryRecord)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"the repository's own record is damaged: {error}", where=where) from None
    flags.check("repository", record.format, record.flags, where)
    if len(record.id) != 32 or any(c not in "0123456789abcdef" for c in record.id):
        raise FormatError("the repository's own record is damaged: its id is malformed", where=where)
    return record
