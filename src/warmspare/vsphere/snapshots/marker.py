"""How a snapshot of ours is known again: a marker in its description. Owns the wording; refuses to guess.

Only what names the same repository and the same VM is ours: another repository's snapshot belongs to another sender,
which may be at work with it now.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from dataclasses import dataclass

from warmspare.model.ids import VmId
from warmspare.outside import records
from warmspare.outside.records import UnfitError

_PRODUCT = "warmspare"
_TEXT = "Taken by warmspare to read a moment of this VM; it removes it by itself. Leave what follows as it is: "


@dataclass(frozen=True, slots=True)
class Marker:
    """repository: a hash of its URI, so that vCenter is not told where copies are kept. run: unique to
    the sync."""

    repository: str
    vm: VmId
    run: str

    @classmethod
    def of(cls, repository_uri: str, vm: VmId, run: str) -> Marker:
        uri = repository_uri.rstrip("/").encode(errors="surrogateescape")
        return cls(hashlib.sha256(uri).hexdigest()[:16], vm, run)

    def description(self) -> str:
        """For a snapshot taken now."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        fields = {"product": _PRODUCT, "repository": self.repository, "vm": self.vm, "run": self.run, "time": now}
        return _TEXT + json.dumps(fields)

    def ours(self, description: str) -> bool:
        """Whether some run of this VM into this repository took it."""
        other = parse(description)
        return other is not None and (other.repository, other.vm) == (self.repository, self.vm)

    def this_run(self, description: str) -> bool:
        """Whether this very run took it."""
        return parse(description) == self


def parse(description: str) -> Marker | None:
    """The marker in a description; None where there is none that is whole."""
    _, brace, rest = description.partition("{")
    try:
        fields = records.loose(f"{brace}{rest}".encode(errors="replace"))
    except UnfitError:
        return None
    if fields.get("product") != _PRODUCT:
        return None
    values = [fields.get(name) for name in ("repository", "vm", "run")]
    if not all(isinstance(value, str) and value for value in values):
        return None
    repository, vm, run = map(str, values)
    return Marker(repository, VmId(vm), run)
