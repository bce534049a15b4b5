"""EC2's query requests back into the parameters that made them, and held against AWS's own model; for tests."""

from __future__ import annotations

import functools
from typing import Any
from urllib.parse import parse_qsl

from botocore.session import get_session
from botocore.validate import ParamValidator

Json = dict[str, Any]


@functools.cache
def model() -> Any:
    return get_session().get_service_model("ec2")


def decode(body: bytes) -> tuple[str, Json]:
    """(action, parameters) of a request. ValueError for what the model does not know, or what breaks its rules."""
    fields = dict(parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=True))
    action = fields.pop("Action")
    fields.pop("Version")
    tree: Json = {}
    for key, value in fields.items():
        at = tree
        *above, last = key.split(".")
        for part in above:
            at = at.setdefault(part, {})
        at[last] = value
    shape = model().operation_model(action).input_shape
    parameters = _structure(tree, shape, action)
    report = ParamValidator().validate(parameters, shape)
    if report.has_errors():
        raise ValueError(f"{action}: {report.generate_report()}")
    return action, parameters


def _structure(tree: Json, shape: Any, where: str) -> Json:
    names = {}
    for member, inner in shape.members.items():
        wire = inner.serialization.get("queryName") or inner.serialization.get("name", member)
        names[wire[0].upper() + wire[1:]] = (member, inner)
    out = {}
    for wire, value in tree.items():
        if wire not in names:
            raise ValueError(f"{where}: AWS knows no {wire}")
        member, inner = names[wire]
        out[member] = _value(value, inner, f"{where}.{member}")
    return out


def _value(value: Any, shape: Any, where: str) -> Any:
    match shape.type_name:
        case "structure":
            return _structure(value, shape, where)
        case "list":
            numbers = sorted(map(int, value))
            if numbers != list(range(1, len(numbers) + 1)):
                raise ValueError(f"{where}: its entries are numbered {numbers}")
            return [_value(value[str(number)], shape.member, f"{where}[{number}]") for number in numbers]
        case "integer" | "long":
            return int(value)
        case "boolean":
            return {"true": True, "false": False}[value]
        case "string":
            if shape.enum and value not in shape.enum:
                raise ValueError(f"{where}: {value!r} is none of {shape.enum}")
            return value
    raise ValueError(f"{where}: this decoder knows no {shape.type_name}")
