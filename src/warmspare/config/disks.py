"""Which disks of a VM are meant; owns the matching and refuses to know where disks come from."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass

from warmspare.config.values import shaped
from warmspare.errors import ConfigError


@dataclass(frozen=True, slots=True)
class DiskPattern:
    """One entry of a list of disks, as the user wrote it.

    written: a whole number is the device's key (2001); a text that begins with `[` or ends in `.vmdk` is a glob
    over the datastore path (`[*] web1/scratch*`), in which `*` and `?` are wild and brackets are not; any other
    text is the label ("Hard disk 2"), in upper or lower case.
    """

    written: int | str

    @property
    def of_path(self) -> bool:
        return isinstance(self.written, str) and (self.written.startswith("[") or self.written.endswith(".vmdk"))

    def matches(self, *, key: int, label: str, path: str) -> bool:
        """Whether it means this disk. path: of the base disk, `[datastore] folder/name.vmdk`, not of a delta."""
        if isinstance(self.written, int):
            return self.written == key
        if self.of_path:
            return fnmatch.fnmatchcase(path, self.written.replace("[", "[[]"))
        return self.written.casefold() == label.casefold()

    def __str__(self) -> str:
        return str(self.written)


@dataclass(frozen=True, slots=True)
class DiskSelection:
    """The disks of a VM that are wanted: all that `include` means (None: every disk) but those of `exclude`."""

    include: tuple[DiskPattern, ...] | None = None
    exclude: tuple[DiskPattern, ...] = ()

    def takes(self, *, key: int, label: str, path: str) -> bool:
        """Whether a disk is wanted."""
        wanted = self.include is None or any(p.matches(key=key, label=label, path=path) for p in self.include)
        return wanted and not any(p.matches(key=key, label=label, path=path) for p in self.exclude)

    @property
    def patterns(self) -> tuple[DiskPattern, ...]:
        """All entries; one that matches no disk of the VM is worth a word to the user."""
        return (self.include or ()) + self.exclude


@shaped(
    type="array",
    minItems=1,
    items={
        "anyOf": [
            {"type": "integer", "minimum": 0, "maximum": (1 << 31) - 1},
            {"type": "string", "minLength": 1, "maxLength": 1024},
        ]
    },
)
def disk_patterns(value: object) -> tuple[DiskPattern, ...]:
    """A list of disks. ConfigError, without a place, if it is none."""
    if not isinstance(value, list) or not value:
        raise ConfigError(
            "a list of disks was expected",
            hint='name them by label, key or datastore path: ["Hard disk 2", 2001, "[ds1] web1/scratch*.vmdk"]',
        )
    return tuple(_disk_pattern(entry) for entry in value)


def _disk_pattern(entry: object) -> DiskPattern:
    if isinstance(entry, int) and not isinstance(entry, bool) and 0 <= entry < 1 << 31:
        return DiskPattern(entry)
    if not isinstance(entry, str) or not entry.strip() or not entry.isprintable() or len(entry) > 1024:
        raise ConfigError("a disk is named by its label, its key or its datastore path", hint='like "Hard disk 2"')
    pattern = DiskPattern(entry)
    if not pattern.of_path and any(c in entry for c in "*?/"):
        raise ConfigError(
            f"{entry[:80]!r} is neither a label nor a datastore path",
            hint="a path begins with [DATASTORE], where [*] is any, or ends in .vmdk",
        )
    return pattern
