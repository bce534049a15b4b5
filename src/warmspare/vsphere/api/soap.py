"""What vCenter's answers mean: SOAP into pyVmomi's objects, by pyVmomi's tables of types; refuses to guess.

pyVmomi's own reader fails on the whole answer for one type, value or field that it does not know, and takes a page of a
proxy or the answer to another call for an answer of None. This one keeps what it does not know where it was met: an
unknown value of an enumeration stays a text, an unknown type becomes the type that was declared there, an unknown field
is laid aside, and whatever can't be read at all becomes an `UnreadValue`, which no use can take for a value. `oddities`
lists them, so that they can be told.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import Any, NoReturn
from xml.etree.ElementTree import Element, ParseError, fromstring

from pyVmomi import Iso8601, VmomiSupport, vmodl

from warmspare.errors import SourceError
from warmspare.vsphere.api import garbled
from warmspare.vsphere.api.garbled import DamagedError, GarbledError

_TYPE = "{http://www.w3.org/2001/XMLSchema-instance}type"
_NAMESPACES = ("urn:vim25", "http://www.w3.org/2001/XMLSchema")
_REFERENCE = "ManagedObjectReference"
_LAID_ASIDE = 200  # characters of a field that is not known
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ILLEGAL_REFERENCE = re.compile(r"&#(x[0-9a-fA-F]+|[0-9]+);")


class NotUnderstoodError(SourceError):
    """vCenter answered, and what it said can't be made sense of: asking again will not change that. said: what."""

    def __init__(self, what: str, where: str = "") -> None:
        self.said = what
        super().__init__(
            f"vCenter's answer can't be understood: {what}",
            where=where,
            hint="it may be newer than what this version of warmspare knows",
        )


class UnreadValue:
    """Stands where a value could not be read. Whoever uses it as one meets NotUnderstoodError."""

    __slots__ = ("what",)

    def __init__(self, what: str) -> None:
        self.what = what

    def __repr__(self) -> str:
        return f"<{self.what}>"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        self._refuse()

    def _refuse(self, *_: object) -> NoReturn:
        raise NotUnderstoodError(self.what)

    __bool__ = __int__ = __index__ = __float__ = __str__ = _refuse
    __iter__ = __len__ = __getitem__ = __contains__ = __call__ = _refuse
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __hash__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __floordiv__ = _refuse


@dataclass(frozen=True, slots=True)
class Oddity:
    """Something that is not known. path: from the object that was asked about to where it is. text: a clause."""

    path: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}: {self.text}" if self.path else self.text


def oddities(owner: Any) -> tuple[Oddity, ...]:
    """What was not known in an object and in what it holds."""
    name = unknown_type(owner)
    return (*((Oddity("", f"type {name}"),) if name else ()), *getattr(owner, "_odd", ()))


def type_name(owner: Any) -> str:
    """The name of an object's type as vCenter gave it, also where it is not known."""
    return str(getattr(owner, "_wsdl", "")) or type(owner).__name__.rpartition(".")[2]


def unknown_type(owner: Any) -> str:
    """The name of its type where that is not known and it was read as what it was declared to be; else ""."""
    return "" if isinstance(owner, UnreadValue) else str(getattr(owner, "_wsdl", ""))


def laid_aside(owner: Any) -> dict[str, str]:
    """The fields of an object that its type does not have: by name their text, "" for what is no text."""
    return {} if isinstance(owner, UnreadValue) else dict(getattr(owner, "_aside", {}))


def read(body: bytes, status: int, call: Any, stub: Any, secrets: tuple[str, ...] = ()) -> Any:
    """The result of a call out of an answer's body. Raises the fault that it tells of.

    call: pyVmomi's description of the method. stub: for managed objects. secrets: never to be repeated. GarbledError
    for what is no answer to this call, NotUnderstoodError for a result that can't be read.
    """
    envelope = _parsed(body, status, secrets)
    answer = next(iter(_child(envelope, "Body", status)), None)
    if answer is None:
        raise GarbledError(f"an answer without content (HTTP {status})")
    try:
        return _result(answer, status, call, stub, secrets)
    except RecursionError:
        raise NotUnderstoodError(f"the answer to {call.wsdlName} is nested too deeply") from None


def _result(answer: Element, status: int, call: Any, stub: Any, secrets: tuple[str, ...]) -> Any:
    reader = _AnswerReader(stub)
    if _local(answer.tag) == "Fault":
        raise reader.fault(answer, secrets)
    if _local(answer.tag) != f"{call.wsdlName}Response" or status != 200:
        came = garbled.clean(_local(answer.tag), 60)
        raise GarbledError(f"{came} (HTTP {status}) where the answer to {call.wsdlName} is due")
    return reader.result(answer, call)


def _parsed(body: bytes, status: int, secrets: tuple[str, ...]) -> Element:
    if b"<!DOCTYPE" in body or not body.strip():  # which SOAP forbids: a page, or an attack
        raise garbled.instead(status, body, secrets)
    if b"<" in body:  # else it is none, and is told as what it is
        garbled.demand_bounded(body)
    try:
        try:
            envelope = fromstring(body)  # noqa: S314
        except ParseError:
            # names and notes of VMs hold what XML can't, and it is sent all the same
            envelope = fromstring(_mended(body))  # noqa: S314
    except (ParseError, ValueError) as error:
        if b"Envelope" in body[:1024]:
            damaged = body.rstrip().endswith(b"Envelope>")
            kind, how = (DamagedError, "is damaged") if damaged else (GarbledError, "breaks off")
            raise kind(f"an answer that {how} ({garbled.clean(str(error), 80)})") from None
        raise garbled.instead(status, body, secrets) from None
    if _local(envelope.tag) != "Envelope":
        raise garbled.instead(status, body, secrets)
    return envelope


def _mended(body: bytes) -> str:
    """Without characters that XML does not know."""

    def reference(found: re.Match[str]) -> str:
        digits = found[1]
        code = int(digits[1:], 16) if digits[0] == "x" else int(digits)
        return found[0] if code < 0x110000 and not _ILLEGAL.match(chr(code)) else "\ufffd"

    text = body.decode("utf-8-sig", "replace")
    text = re.sub(r"^\s*<\?xml[^>]*\?>", "", text, count=1)  # what it declares is no longer so
    return _ILLEGAL_REFERENCE.sub(reference, _ILLEGAL.sub("\ufffd", text))


def _child(parent: Element, name: str, status: int) -> Element:
    for child in parent:
        if _local(child.tag) == name:
            return child
    raise GarbledError(f"an answer without {name} (HTTP {status})")


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


@dataclass(frozen=True, slots=True)
class _Fields:
    """Of a type of objects. defaults: (name, what makes its value) of all; types: by name."""

    defaults: tuple[tuple[str, Callable[[], Any]], ...]
    types: dict[str, Any]


@cache
def _fields(kind: Any) -> _Fields:
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
    return _Fields(tuple(defaults), types)


def _nothing() -> None:
    return None


def _lacking(name: str) -> Callable[[], Any]:
    """A field that must be there and is not: never zero, false or empty instead."""
    missing = UnreadValue(f"there is no {name}")
    return lambda: missing


@lru_cache(maxsize=4096)
def _known(name: str) -> Any:
    """The type that vCenter calls so, or None."""
    for namespace in _NAMESPACES:
        try:
            return VmomiSupport.GetWsdlType(namespace, name)
        except KeyError:
            continue
    return _known(name.removesuffix("Reference")) if name.endswith(_REFERENCE) else None


def _fits(told: Any, declared: Any) -> bool:
    """Whether a value of one type may stand where another is declared."""
    if declared is object:
        return True
    if issubclass(told, list):
        return issubclass(declared, list) and _fits(told.Item, declared.Item)
    if issubclass(declared, list):
        declared = declared.Item
    for family in (VmomiSupport.ManagedObject, VmomiSupport.DataObject):
        if issubclass(declared, family) or issubclass(told, family):
            return issubclass(told, declared if family is VmomiSupport.DataObject else family)
    return True


class _AnswerReader:
    """Of one answer."""

    def __init__(self, stub: Any) -> None:
        self._stub = stub
        self._odd: list[Oddity] = []  # of the object that is being read

    def result(self, answer: Element, call: Any) -> Any:
        kind = call.result
        values = [self._value(child, kind) for child in answer]
        if issubclass(kind, list):
            return _joined(kind(), values)
        if values:
            if isinstance(values[0], UnreadValue):
                raise NotUnderstoodError(values[0].what)
            objects = VmomiSupport.ManagedObject | VmomiSupport.DataObject
            if issubclass(kind, objects) and not isinstance(values[0], kind):
                raise GarbledError(f"{garbled.clean(type_name(values[0]), 60)} as the result of {call.wsdlName}")
            return values[0]
        if kind is type(None) or call.resultFlags & VmomiSupport.F_OPTIONAL:
            return None
        raise GarbledError(f"an answer to {call.wsdlName} without its result")

    def fault(self, element: Element, secrets: tuple[str, ...]) -> Any:
        """What a call ended with."""
        said, found = "", None
        for child in element:
            if _local(child.tag) in ("faultstring", "Reason"):
                said = garbled.clean("".join(child.itertext()), 1000, secrets)
            elif _local(child.tag).lower() == "detail" and len(child):
                found = self._fault(child[0], _local(child[0].tag).removesuffix("Fault"))
        if found is None:
            found = vmodl.RuntimeFault()
        found.msg = said or found.msg
        return found

    def _fault(self, element: Element, declared: str) -> Any:
        name = element.get(_TYPE, declared).rpartition(":")[2]
        kind = _known(name) or _known(declared)
        if kind is None or not issubclass(kind, vmodl.MethodFault):
            kind = vmodl.MethodFault
        return self._object(element, kind, "" if kind is _known(name) else name)

    def _localized(self, element: Element) -> Any:
        """A fault as objects hold it."""
        found, said = None, ""
        for child in element:
            if _local(child.tag) == "fault":
                found = self._fault(child, "MethodFault")
            elif _local(child.tag) == "localizedMessage":
                said = garbled.clean(child.text or "", 1000)
        if found is None:
            found = vmodl.MethodFault()
        found.msg = said or found.msg
        return found

    def _value(self, element: Element, declared: Any) -> Any:
        """The value of an element that is declared to be of a type; a list where it says that it holds one."""
        kind, name = declared.Item if issubclass(declared, list) else declared, ""
        told = element.get(_TYPE, "").rpartition(":")[2]
        if told and kind not in _NAMES:
            known = _known(told)
            if known is None:
                name = garbled.clean(told, 80)
                if not issubclass(kind, VmomiSupport.DataObject | VmomiSupport.ManagedObject):
                    return self._unreadable(f"type {name}")
                self._odd.append(Oddity("", f"type {name}"))
            elif _fits(known, declared):
                kind = known
            else:
                return self._unreadable(f"{told} where {kind.__name__} is due")
        if issubclass(kind, list):
            return _joined(kind(), [self._value(child, kind.Item) for child in element])
        if issubclass(kind, vmodl.MethodFault):
            return self._localized(element)
        if issubclass(kind, VmomiSupport.ManagedObject):
            return self._reference(element, kind)
        if issubclass(kind, VmomiSupport.DataObject):
            return self._object(element, kind, name)
        return self._plain(element, kind)

    def _reference(self, element: Element, declared: Any) -> Any:
        known = _known(element.get("type", "").rpartition(":")[2])
        fits = known is not None and issubclass(known, VmomiSupport.ManagedObject)
        if not element.text:
            return self._unreadable("a reference to nothing")
        return (known if fits else declared)(element.text, self._stub)

    def _object(self, element: Element, kind: Any, name: str = "") -> Any:
        """name: of its type, where that is not known and it is read as another."""
        outer, self._odd = self._odd, []
        made, fields = kind.__new__(kind), _fields(kind)
        for field, default in fields.defaults:
            object.__setattr__(made, field, default())
        aside: dict[str, str] = {}
        for child in element:
            field = _local(child.tag)
            declared = fields.types.get(field)
            if declared is None:
                field = garbled.clean(field, 80)
                aside[field] = garbled.clean(child.text or "", _LAID_ASIDE) if not len(child) else ""
                if not name:
                    self._odd.append(Oddity("", f"field {field} of {kind._wsdlName}"))
                continue
            before = len(self._odd)
            value = self._value(child, declared)
            self._odd[before:] = [Oddity(f"{field}.{odd.path}".rstrip("."), odd.text) for odd in self._odd[before:]]
            if issubclass(declared, list):
                _joined(getattr(made, field), [value])
            else:
                object.__setattr__(made, field, value)
        for attribute, value in (("_odd", tuple(self._odd)), ("_aside", aside), ("_wsdl", name)):
            if value:
                object.__setattr__(made, attribute, value)
        self._odd = outer + self._odd
        return made

    def _plain(self, element: Element, kind: Any) -> Any:
        text = element.text or ""
        if len(element):
            return self._unreadable(f"an object where {kind.__name__} is due")
        if issubclass(kind, VmomiSupport.Enum):
            if text not in kind.values:
                self._odd.append(Oddity("", f"value {garbled.clean(text, 80)!r}"))
                return text
            return kind(text)
        try:
            return _PLAIN.get(kind, kind)(text)
        except (ValueError, TypeError, OverflowError):
            return self._unreadable(f"{garbled.clean(text, 80)!r} where {kind.__name__} is due")

    def _unreadable(self, what: str) -> UnreadValue:
        self._odd.append(Oddity("", what))
        return UnreadValue(what)


def _joined(into: Any, values: list[Any]) -> Any:
    for value in values:
        if isinstance(value, list):
            into.extend(value)
        else:
            into.append(value)
    return into


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


_NAMES = (type, VmomiSupport.ManagedMethod, VmomiSupport.PropertyPath)
_PLAIN: dict[Any, Callable[[str], Any]] = {
    bool: _boolean,
    datetime: _moment,
    VmomiSupport.binary: _binary,
    object: str,
    type: str,
    type(None): str,
    VmomiSupport.ManagedMethod: str,
    VmomiSupport.Link: str,
}
