"""What vCenter's answers mean: SOAP into pyVmomi's objects, by pyVmomi's tables of types; refuses to guess.

pyVmomi's own reader fails on the whole answer for one type, value or field that it does not know, and takes a page of a
proxy or the answer to another call for an answer of None. This one keeps what it does not know where it was met: an
unknown value of an enumeration stays a text, an unknown type becomes the type that was declared there, an unknown field
is laid aside, and whatever can't be read at all becomes an `UnreadValue`, which no use can take for a value. `oddities`
lists them, so that they can be told.
"""

from __future__ import annotations

import re
from typing import Any
from xml.etree.ElementTree import Element, ParseError, fromstring

from pyVmomi import VmomiSupport, vmodl

from warmspare.vsphere.api import garbled
from warmspare.vsphere.api.garbled import DamagedError, GarbledError
from warmspare.vsphere.api.oddities import NotUnderstoodError, Oddity, UnreadValue, type_name
from warmspare.vsphere.api.vmomi_types import NAMES, PLAIN, fields_of, may_stand_for, type_called

_TYPE = "{http://www.w3.org/2001/XMLSchema-instance}type"
_LAID_ASIDE = 200  # characters of a field that is not known
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ILLEGAL_REFERENCE = re.compile(r"&#(x[0-9a-fA-F]+|[0-9]+);")


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
        kind = type_called(name) or type_called(declared)
        if kind is None or not issubclass(kind, vmodl.MethodFault):
            kind = vmodl.MethodFault
        return self._object(element, kind, "" if kind is type_called(name) else name)

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
        if told and kind not in NAMES:
            known = type_called(told)
            if known is None:
                name = garbled.clean(told, 80)
                if not issubclass(kind, VmomiSupport.DataObject | VmomiSupport.ManagedObject):
                    return self._unreadable(f"type {name}")
                self._odd.append(Oddity("", f"type {name}"))
            elif may_stand_for(known, declared):
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
        known = type_called(element.get("type", "").rpartition(":")[2])
        fits = known is not None and issubclass(known, VmomiSupport.ManagedObject)
        if not element.text:
            return self._unreadable("a reference to nothing")
        return (known if fits else declared)(element.text, self._stub)

    def _object(self, element: Element, kind: Any, name: str = "") -> Any:
        """name: of its type, where that is not known and it is read as another."""
        outer, self._odd = self._odd, []
        made, fields = kind.__new__(kind), fields_of(kind)
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
            return PLAIN.get(kind, kind)(text)
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
