"""A JSON Schema of the configuration, for editors, out of what the reading of a file asks for; owns no key of it.

Which keys there are, and what each takes, is heard while an empty file is read; what they mean stands in example.toml.
A schema can't know all: that names exist, that values go together. `warmspare config check` does.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

from warmspare.config import s3_settings
from warmspare.config.lines import Key
from warmspare.config.problems import Problems
from warmspare.config.reading import FIND, KEYS, VARIABLE, ConfigReading
from warmspare.config.values import TEXT_CHARS, name, shape_of

Shape = dict[str, Any]
NAMED, BELOW = ("vcenter", "repository", "vm"), ("disks", "limit")
_PLAIN = {"properties": {"allow_plain_secrets": {"const": True}}, "required": ["allow_plain_secrets"]}


class _AskedKeys(Problems):
    """Of each kind of table, what its keys take, and which it must have."""

    def __init__(self) -> None:
        super().__init__("", "")
        self.shapes: dict[str, dict[str, Shape]] = {kind: {} for kind in KEYS}
        self.must: dict[str, list[str]] = {kind: [] for kind in KEYS}

    def asked(self, key: Key, name: str, parse: Callable[[object], object]) -> None:
        self.shapes[_kind(key)][name] = dict(shape_of(parse))

    def needed(self, key: Key, name: str) -> None:
        if name not in self.must[_kind(key)]:
            self.must[_kind(key)].append(name)


def _kind(key: Key) -> str:
    """Of a table, as KEYS has it."""
    below = [part for part in key if part in BELOW]
    return str(below[-1] if below else key[0] if key else "")


def _heard() -> _AskedKeys:
    """What is asked of a file that has one table of each kind, and in them nothing but tables."""
    asked = _AskedKeys()
    inner: Shape = {"disks": {}, "limit": [{}]}
    document: Shape = {"defaults": inner, "limits": {}, "vcenter": {"x": {}}, "repository": {"x": {"limit": [{}]}}}
    document["vm"] = {"x": {"disks": {}} | dict.fromkeys(FIND, "")}
    ConfigReading(document, asked).settings(Path())
    return asked


def schema() -> Shape:
    """Of a whole file."""
    asked, said = _heard(), explained()
    defined = {kind: _table(kind, asked, said) for kind in KEYS if kind not in ("", "secret")}
    top = _table("", asked, said)
    for kind in NAMED:
        tables = {"type": "object", "propertyNames": dict(shape_of(name)), "additionalProperties": _ref(kind)}
        top["properties"][kind] = tables | {"description": f"Each [{kind}.NAME]; NAME is of your choice."}
    top["properties"] |= {kind: _ref(kind) for kind in ("defaults", "limits")}
    defined["vm"] |= {"oneOf": [{"required": [by]} for by in FIND]}
    defined["vcenter"] |= {"not": {"required": ["thumbprint", "ca_file"]}}
    defined["limit"] |= {"dependentRequired": {"from": ["to"], "to": ["from"]}}
    only_s3 = dict.fromkeys(("endpoint_url", "region", "profile", *s3_settings.KEYS), False)
    directory = {"properties": {"uri": {"pattern": "^(file://|/)"}}, "required": ["uri"]}
    kms = {"properties": {"encryption": {"pattern": "^aws:kms"}}, "required": ["encryption"]}
    defined["repository"] |= {
        "allOf": [
            {"if": directory, "then": {"properties": only_s3}},
            {"if": {"required": ["kms_key"]}, "then": kms},
            {"if": {"required": ["bucket_key"]}, "then": {**kms, "properties": {"encryption": {"const": "aws:kms"}}}},
        ]
    }
    secrets = {"additionalProperties": {"properties": {"password": {"type": "object"}}}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "The configuration of warmspare",
        **top,
        "if": {"not": _PLAIN},
        "then": {"properties": {"vcenter": secrets}},
        "$defs": defined | {"secret": _secret()},
    }


def _table(kind: str, asked: _AskedKeys, said: dict[str, dict[str, Shape]]) -> Shape:
    """The object of a kind of table: every key of it, and no other."""
    known: dict[str, Shape] = {}
    for key in KEYS[kind]:
        below = {"disks": _ref("disks"), "limit": {"type": "array", "items": _ref("limit")}}
        shape = asked.shapes[kind].get(key) or below.get(key, {})
        usual = said["defaults"].get(key, {}) if kind in NAMED else {}
        known[key] = shape | usual | said[kind].get(key, {})
    must = {"required": asked.must[kind]} if asked.must[kind] else {}
    return {"type": "object", "additionalProperties": False, "properties": known, **must}


def _ref(kind: str) -> Shape:
    return {"$ref": f"#/$defs/{kind}"}


def _secret() -> Shape:
    """A text where that is allowed, or one way to come by it."""
    text = {"type": "string", "minLength": 1}
    ways: dict[str, Shape] = {
        "file": {"type": "string", "maxLength": TEXT_CHARS, "pattern": "^/"},
        "env": {"type": "string", "pattern": f"^{VARIABLE.pattern}$"},
        "command": {"type": "array", "items": {"type": "string"}, "minItems": 1},
    }
    assert tuple(ways) == KEYS["secret"]
    table = {"type": "object", "additionalProperties": False, "properties": ways, "minProperties": 1}
    return {"anyOf": [text, {**table, "maxProperties": 1}]}


def explained() -> dict[str, dict[str, Shape]]:
    """By kind of table and key, what example.toml says of it, and what it shows."""
    found: dict[str, dict[str, Shape]] = {kind: {} for kind in KEYS}
    kind, words = "", list[str]()
    spoken = False  # a key follows its explanation, and others may follow that
    for line in files("warmspare.config").joinpath("example.toml").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            kind = line.strip("[]").partition(".")[0]
            words = []
        elif not line:
            words = []
        elif line.startswith(("# ", "#  ")) or line == "#":
            words = [] if spoken else words
            words.append(line[1:].strip())
            spoken = False
            continue
        else:
            key, _, value = line.lstrip("#").partition(" = ")
            about = {"description": " ".join(words)} if words else {}
            shown = {"examples": [tomllib.loads(f"x = {value}")["x"]]}
            found[kind].setdefault(key, about | shown)
        spoken = True
    return found


def schema_text() -> str:
    """Indented, with a line feed at its end."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"
