"""Properties of many objects in few calls, by vCenter's property collector; knows nothing of what they mean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pyVmomi import vmodl

AT_ONCE = 100  # objects a call: an answer stays within a few MB

Properties = dict[str, Any]


def collect(content: Any, objects: Sequence[Any], kind: Any, paths: Sequence[str]) -> dict[str, Properties]:
    """By moref the properties that are set and may be read. Objects that are gone meanwhile are left out. Blocks."""
    found: dict[str, Properties] = {}
    for start in range(0, len(objects), AT_ONCE):
        some = objects[start : start + AT_ONCE]
        try:
            found.update(_ask(content, some, kind, paths))
        except vmodl.fault.ManagedObjectNotFound:  # one of them; the others are asked for alone
            for one in some:
                try:
                    found.update(_ask(content, [one], kind, paths))
                except vmodl.fault.ManagedObjectNotFound:
                    continue
    return found


def _ask(content: Any, objects: Sequence[Any], kind: Any, paths: Sequence[str]) -> dict[str, Properties]:
    collector = vmodl.query.PropertyCollector
    spec = collector.FilterSpec(
        objectSet=[collector.ObjectSpec(obj=one) for one in objects],
        propSet=[collector.PropertySpec(type=kind, pathSet=list(paths))],
    )
    answer = content.propertyCollector.RetrieveContents([spec])
    return {each.obj._GetMoId(): {prop.name: prop.val for prop in each.propSet} for each in answer}


@contextmanager
def every(content: Any, below: Any, kind: Any) -> Iterator[list[Any]]:
    """All objects of a kind below a container, however deep. Blocks."""
    view = content.viewManager.CreateContainerView(below, [kind], True)
    try:
        yield list(view.view)
    finally:
        view.DestroyView()
