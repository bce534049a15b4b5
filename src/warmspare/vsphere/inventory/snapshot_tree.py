"""The tree of a VM's snapshots as plain values; judges nothing."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Node:
    """A snapshot. parent: its moref, "" at the root. created: RFC 3339, by the host's clock."""

    moref: str
    name: str
    description: str
    created: str
    parent: str
    quiesced: bool


@dataclass(frozen=True, slots=True)
class SnapshotTree:
    """nodes: parents before their children. current: the snapshot that the VM runs on, "" for none."""

    nodes: tuple[Node, ...] = ()
    current: str = ""

    @classmethod
    def of(cls, info: Any) -> SnapshotTree:
        """Of a VM's `snapshot` property; None where it has none."""
        if info is None:
            return cls()
        current = info.currentSnapshot
        return cls(tuple(_nodes(info.rootSnapshotList, "")), current._GetMoId() if current else "")

    def node(self, moref: str) -> Node | None:
        return next((node for node in self.nodes if node.moref == moref), None)

    def chain(self, moref: str | None = None) -> list[str]:
        """From a snapshot (the current one) to the root."""
        found: list[str] = []
        at = self.node(self.current if moref is None else moref)
        while at is not None and at.moref not in found:
            found.append(at.moref)
            at = self.node(at.parent)
        return found

    def without(self, gone: set[str]) -> SnapshotTree:
        """The tree as it is once these are removed: their children hang on what they hung on."""
        kept = []
        for node in self.nodes:
            if node.moref not in gone:
                parent = next((moref for moref in self.chain(node.moref)[1:] if moref not in gone), "")
                kept.append(Node(node.moref, node.name, node.description, node.created, parent, node.quiesced))
        return SnapshotTree(tuple(kept), next((moref for moref in self.chain() if moref not in gone), ""))

    def as_json(self) -> dict[str, Any]:
        """What `parse` reads again; names and descriptions are others' business and stay out."""
        nodes = [{"id": node.moref, "parent": node.parent, "created": node.created} for node in self.nodes]
        return {"current": self.current, "nodes": nodes}

    @classmethod
    def parse(cls, data: Any) -> SnapshotTree | None:
        """None for what is no tree."""
        try:
            nodes = [Node(str(n["id"]), "", "", str(n["created"]), str(n["parent"]), False) for n in data["nodes"]]
            return cls(tuple(nodes), str(data["current"]))
        except (KeyError, TypeError):
            return None


def _nodes(items: Any, parent: str) -> Iterator[Node]:
    for item in items or ():
        moref = item.snapshot._GetMoId()
        created = item.createTime.astimezone(datetime.UTC).isoformat(timespec="milliseconds")
        yield Node(moref, item.name, item.description or "", created, parent, bool(item.quiesced))
        yield from _nodes(item.childSnapshotList, moref)
