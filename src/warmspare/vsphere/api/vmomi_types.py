"""pyVmomi's tables of types, as an answer is read by them: fields, names, and what a plain text must be; no answers."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import Any

from pyVmomi import Iso8601, VmomiSupport

from warmspare.vsphere.api.oddities import UnreadValue

_NAMESPACES = ("urn:vim25", "http://www.w3.org/2001/XMLSchema")
_REFERENCE = "ManagedObjectReference"


@dataclass(frozen=True, slots=True)
class TypeFields:
    """Of a type of objects. defaults: (name, what makes its value) of all; types: by name."""

    defaults: tuple[tuple[str, Callable[[], Any]], ...]
    types: dict[str, Any]


@cache
def fields_of(kind: Any) -> TypeFields:
    defaults: list[tuple[str, Callable[[], Any]]] = []
    types: dict[str, Any] = {}
    for info in kind._GetPropertyList():
        types[info.name] = info.type
        if issubclass(info.type, list):
            defaults.append((info.name, info.type))
        elif info.flags & VmomiSupport.F_OPTIONAL:
            defaults.append((info.name, _nothing))
        else:
            defaults.append((info.name, _lacking(info.name)))
    return TypeFields(tuple(defaults), types)


def _nothing() -> None:
    return None


def _lacking(name: str) -> Callable[[], Any]:
    """A field that must be there and is not: never zero, false or empty instead."""
    missing = UnreadValue(f"there is no {name}")
    return lambda: missing


@lru_cache(maxsize=4096)
def type_called(name: str) -> Any:
    """The type that vCenter calls so, or None."""
    for namespace in _NAMESPACES:
        try:
            return VmomiSupport.GetWsdlType(namespace, name)
        except KeyError:
            continue
    return type_called(name.removesuffix("Reference")) if name.endswith(_REFERENCE) else None


def may_stand_for(told: Any, declared: Any) -> bool:
    """Whether a value of one type may stand where another is declared."""
    if declared is object:
        return True
    if issubclass(told, list):
        return issubclass(declared, list) and may_stand_for(told.Item, declared.Item)
    if issubclass(declared, list):
        declared = declared.Item
    for family in (VmomiSupport.ManagedObject, VmomiSupport.DataObject):
        if issubclass(declared, family) or issubclass(told, family):
            return issubclass(told, declared if family is VmomiSupport.DataObject else family)
    return True


def _boolean(text: str) -> bool:
    word = text.strip().lower()
    if word not in ("true", "false", "1", "0"):
        raise ValueError(text)
    return word in ("true", "1")


def _moment(text: str) -> datetime:
    """XML Schema's dateTime; 24:00 is the next day's 0:00. vSphere's times without a zone are UTC."""
    moment: datetime | None = Iso8601.ParseISO8601(text.strip())
    if moment is None or "T" not in text:
        raise ValueError(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _binary(text: str) -> Any:
    try:
        return VmomiSupport.binary(base64.b64decode(text))
    except binascii.Error as error:
        raise ValueError(text) from error


NAMES = (type, VmomiSupport.ManagedMethod, VmomiSupport.PropertyPath)
PLAIN: dict[Any, Callable[[str], Any]] = {
    bool: _boolean,
    datetime: _moment,
    VmomiSupport.binary: _binary,
    object: str,
    type: str,
    type(None): str,
    VmomiSupport.ManagedMethod: str,
    VmomiSupport.Link: str,
}
