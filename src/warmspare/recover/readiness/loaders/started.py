"""What comes of following a boot loader: one entry, or why there is none, and what that rests on."""

from __future__ import annotations

from dataclasses import dataclass

from warmspare.recover.readiness.answers import Answer
from warmspare.recover.readiness.guest.entries import Entry, FilePlace


@dataclass(frozen=True, slots=True)
class Started:
    """What a boot loader starts by itself.

    entry: Unknown where it can't be told; ABSENT where it starts no kernel, and `how` says why. config: the file
    whose menu it is; None where there is none. how: by which rule it is the default, as a clause. later: what is
    started after the next start, where that is another (GRUB's next_entry). waits: why somebody must come to the keys,
    as a clause, "" if nobody. program: the loader that is started instead. fallbacks: what is tried if that fails.
    looked: what was read on the way, and "" or why it was not. unfound: the devices that were searched for and are
    nowhere.
    """

    entry: Answer[Entry]
    how: str
    config: FilePlace | None = None
    later: Answer[Entry] | None = None
    waits: str = ""
    program: FilePlace | None = None
    fallbacks: tuple[Answer[Entry], ...] = ()
    looked: tuple[tuple[FilePlace, str], ...] = ()
    unfound: tuple[str, ...] = ()
