"""Which machine something is and where it lives, as restore points record it; a value, which asks nobody.

A repository knows a machine by its instance UUID. Copies that other products make, and machines that were restored
beside their originals, have the same one, so a chain notes of each point whose it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

IDENTITY = "identity"  # in a restore point's hardware
LEFT_MOST = 32


@dataclass(frozen=True, slots=True)
class HomePlace:
    """vcenter: its own instance UUID, or what it is reached by where it has none. moref: of the machine there, given
    anew whenever it is registered. server, path: for people."""

    vcenter: str
    moref: str
    server: str = ""
    path: str = ""

    def same(self, other: HomePlace) -> bool:
        return (self.vcenter, self.moref) == (other.vcenter, other.moref)

    def __str__(self) -> str:
        return f"{self.path or self.moref} in {self.server or self.vcenter} ({self.moref})"

    def as_json(self) -> dict[str, str]:
        return {"vcenter": self.vcenter, "moref": self.moref, "server": self.server, "path": self.path}

    @classmethod
    def parse(cls, value: Any) -> HomePlace | None:
        if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
            return None
        place = cls(*(value.get(name, "") for name in ("vcenter", "moref", "server", "path")))
        return place if place.vcenter and place.moref else None


@dataclass(frozen=True, slots=True)
class Identity:
    """disks: UUIDs of those that only this machine can write to. left: places that the chain has left, newest last."""

    instance_uuid: str
    bios_uuid: str
    disks: frozenset[str]
    place: HomePlace
    left: tuple[HomePlace, ...] = ()

    def after(self, before: Identity | None) -> Identity:
        """What a point of this machine records in a chain whose newest point records `before`."""
        if before is None:
            return self
        left = [one for one in before.left if not one.same(self.place)]
        if not before.place.same(self.place):
            left.append(before.place)
        return Identity(self.instance_uuid, self.bios_uuid, self.disks, self.place, tuple(left[-LEFT_MOST:]))

    def kindred(self, other: Identity) -> str:
        """What the two have in common though their instance UUIDs differ; "" for nothing."""
        if self.bios_uuid and self.bios_uuid == other.bios_uuid:
            return f"BIOS UUID {self.bios_uuid}"
        shared = sorted(self.disks & other.disks)
        return f"UUID of a disk, {shared[0]}" if shared else ""

    def as_json(self) -> dict[str, Any]:
        return self.place.as_json() | {
            "instance_uuid": self.instance_uuid,
            "bios_uuid": self.bios_uuid,
            "disks": sorted(self.disks),
            "left": [place.as_json() for place in self.left],
        }

    @classmethod
    def of(cls, hardware: Mapping[str, Any]) -> Identity | None:
        """Of a restore point's hardware; None where it records none: of given disks, or made by an earlier version."""
        value = hardware.get(IDENTITY)
        if not isinstance(value, dict):
            return None
        place = HomePlace.parse({name: value.get(name, "") for name in ("vcenter", "moref", "server", "path")})
        uuid, bios, disks = value.get("instance_uuid"), value.get("bios_uuid"), value.get("disks")
        if place is None or not isinstance(uuid, str) or not isinstance(bios, str) or not isinstance(disks, list):
            return None
        left = value.get("left")
        places = [HomePlace.parse(one) for one in left] if isinstance(left, list) else []
        return cls(
            uuid,
            bios,
            frozenset(each for each in disks if isinstance(each, str)),
            place,
            tuple(one for one in places if one is not None),
        )


def twins(known: Iterable[tuple[str, Identity]]) -> dict[tuple[str, str], list[HomePlace]]:
    """Of machines, each with what it must be alone in: where those live that share an instance UUID with another one
    there, by that and the UUID. One that is met twice is one."""
    met: dict[tuple[str, str], dict[tuple[str, str], HomePlace]] = {}
    for scope, identity in known:
        if identity.instance_uuid:
            place = identity.place
            met.setdefault((scope, identity.instance_uuid), {})[place.vcenter, place.moref] = place
    return {key: list(places.values()) for key, places in met.items() if len(places) > 1}
