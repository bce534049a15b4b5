"""Events of findings: what was noticed and is not as it should be, by who noticed it."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, UnsetType

from warmspare.observe.event import Event, FleetEvent, Weight, note

_MOST_BLOCKS = 8  # in the sentence


def _blocks(numbers: list[int]) -> str:
    shown = ", ".join(str(block) for block in numbers[:_MOST_BLOCKS])
    return f"blocks {shown}{' and more' if len(numbers) > _MOST_BLOCKS else ''}: "


class UntrackedChange(FleetEvent, frozen=True, kw_only=True, tag="finding"):
    """What changed and was not reported as changed was found and sent."""

    use = "sync"
    usual = Weight.WARNING

    kind: Literal["untracked-change"] = "untracked-change"
    vm: str
    disk: str
    offset: int
    length: int
    message: str = (
        "changed though the extents do not report it; it was sent, but the tracker that made the extents misses changes"
    )

    def words(self) -> str:
        return f"FINDING on disk {self.disk}: {self.length} bytes at offset {self.offset} {self.message}"


class DamagedObject(FleetEvent, frozen=True, kw_only=True, tag="finding"):
    """An object of the repository is not what its hash says."""

    use = "sync, copy"
    usual = Weight.WARNING

    kind: Literal["damaged-object"] = "damaged-object"
    vm: Annotated[str | UnsetType, note(description="not in a copy")] = UNSET
    key: str
    message: str

    def words(self) -> str:
        return f"FINDING on {self.key}: {self.message}"


class DamagedFrame(Event, frozen=True, kw_only=True, tag="finding"):
    """What was fetched for a disk did not verify."""

    use = "apply"
    usual = Weight.WARNING

    kind: Literal["damaged-object"] = "damaged-object"
    vm: str
    disk: str
    message: str

    def words(self) -> str:
        return f"FINDING on disk {self.disk}: {self.message}"


class BlockRebuilt(Event, frozen=True, kw_only=True, tag="finding"):
    """Blocks that did not verify were rebuilt from the chain."""

    use = "apply, rebuilt"
    usual = Weight.WARNING

    kind: Literal["block-rebuilt"] = "block-rebuilt"
    vm: str
    disk: str
    blocks: list[int]
    message: str = "these blocks did not verify and were rebuilt from the chain"

    def words(self) -> str:
        return f"FINDING on disk {self.disk}: {_blocks(self.blocks)}{self.message}"


class ReplicaBlock(Event, frozen=True, kw_only=True, tag="finding"):
    """Blocks of the replica are wrong, and were taken from the chain."""

    use = "stage"
    usual = Weight.WARNING

    kind: Literal["replica-block"] = "replica-block"
    disk: str
    blocks: list[int]
    message: str = "these blocks of the replica are not what they should be; they were taken from the chain"

    def words(self) -> str:
        return f"FINDING on disk {self.disk}: {_blocks(self.blocks)}{self.message}"


class AuditFinding(Event, frozen=True, kw_only=True, tag="finding"):
    """All that the report of an audit lists, before `audit.done`."""

    use = "audits"

    kind: str
    severity: Annotated[str, note(description="error, warning, note")]
    vm: str
    disk: str | UnsetType = UNSET
    key: str | UnsetType = UNSET
    offset: int | UnsetType = UNSET
    length: int | UnsetType | None = UNSET
    expected: str
    actual: str
    point: str
    repaired: bool
    message: str
    remedy: str

    def weight(self) -> Weight:
        return Weight.ALARM if self.severity == "error" else Weight.WARNING

    def words(self) -> str:
        subject = f"disk {self.disk}" if self.disk is not UNSET else "" if self.key is UNSET else self.key
        place = ""
        if self.offset is not UNSET and self.length is not UNSET:
            place = f"{self.length} bytes at offset {self.offset} "
        return f"FINDING{f' on {subject}' if subject else ''}: {place}{self.message}"


class ReadinessFinding(Event, frozen=True, kw_only=True, tag="finding"):
    """Of [Readiness](operations.md#readiness); 20 of a kind, then one that counts the others."""

    use = "`recover check`"

    kind: str
    severity: Annotated[str, note(description="stops, warning, note")]
    known: Annotated[bool, note(description="false: it says that something is not known")]
    vm: str
    disk: str
    place: Annotated[str, note(description="up to 200 characters")]
    found: Annotated[str, note(description="up to 200 characters")]
    point: str
    message: str
    remedy: str

    def weight(self) -> Weight:
        return {"note": Weight.PLAIN, "warning": Weight.WARNING}.get(self.severity, Weight.ALARM)

    def words(self) -> str:
        return f"FINDING on disk {self.disk}: {self.message}"
