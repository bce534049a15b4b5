"""Properties of many objects in few calls, by vCenter's property collector; knows nothing of what they mean.

What can't be read, or can't be understood, is kept beside what can, by property: it concerns one object, and the others
of the same answer are as good as without it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pyVmomi import vmodl

from warmspare.vsphere.api import faults
from warmspare.vsphere.api.garbled import DamagedError
from warmspare.vsphere.api.oddities import UnreadValue, oddities

AT_ONCE = 100  # objects a call: an answer stays within a few MB


class Properties(dict[str, Any]):
    """Of one object those that are set and can be read, by path. unread: (path, why) of what was asked for and can't
    be read. odd: (path, what) of values that hold something unknown."""

    def __init__(self) -> None:
        super().__init__()
        self.unread: dict[str, str] = {}
        self.odd: dict[str, list[str]] = {}

    def text(self, path: str) -> str:
        """A text, "" where there is none."""
        value = self.get(path)
        return str(value) if isinstance(value, str) else ""


def collect(content: Any, objects: Sequence[Any], kind: Any, paths: Sequence[str]) -> dict[str, Properties]:
    """By moref the properties. Objects that are gone meanwhile are left out. Blocks."""
    found: dict[str, Properties] = {}
    for start in range(0, len(objects), AT_ONCE):
        some = objects[start : start + AT_ONCE]
        try:
            found.update(_ask(content, some, kind, paths))
        except (vmodl.fault.ManagedObjectNotFound, DamagedError) as error:  # it is one of them: each is asked for alone
            if len(objects) == 1 and isinstance(error, DamagedError):
                raise
            for one in some:
                try:
                    found.update(_ask(content, [one], kind, paths))
                except vmodl.fault.ManagedObjectNotFound:
                    continue
                except DamagedError as alone:
                    found[one._GetMoId()] = _unread(paths, str(alone))
    return found


def _ask(content: Any, objects: Sequence[Any], kind: Any, paths: Sequence[str]) -> dict[str, Properties]:
    collector = vmodl.query.PropertyCollector
    spec = collector.FilterSpec(
        objectSet=[collector.ObjectSpec(obj=one) for one in objects],
        propSet=[collector.PropertySpec(type=kind, pathSet=list(paths))],
    )
    answer = content.propertyCollector.RetrieveContents([spec])
    found = {one._GetMoId(): _unread(paths, "vCenter leaves it out of its answer") for one in objects}
    return found | {each.obj._GetMoId(): _properties(each) for each in answer}


def _unread(paths: Sequence[str], why: str) -> Properties:
    made = Properties()
    made.unread.update(dict.fromkeys(paths, why))
    return made


def _properties(told: Any) -> Properties:
    """Of one object of an answer."""
    made = Properties()
    for each in told.propSet:
        path = str(each.name)
        if isinstance(each.val, UnreadValue):
            made.unread[path] = each.val.what
            continue
        made[path] = each.val
        if odd := oddities(each):
            made.odd[path] = [f"{path}{one.path.removeprefix('val')}: {one.text}" for one in odd]
    for each in told.missingSet:
        fault = each.fault
        made.unread[str(each.path)] = "it can't be read: " + (
            faults.text(fault) if isinstance(fault, vmodl.MethodFault) else "vCenter does not say why"
        )
    return made


@contextmanager
def every(content: Any, below: Any, kind: Any) -> Iterator[list[Any]]:
    """All objects of a kind below a container, however deep. Blocks."""
    view = content.viewManager.CreateContainerView(below, [kind], True)
    try:
        yield list(view.view)
    finally:
        view.DestroyView()
