"""What of vCenter's answers is not known to us: values that stand for what can't be read, and what to tell of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

from warmspare.errors import SourceError


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
