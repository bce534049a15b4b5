"""What all findings have: a kind, and of each kind how grave it is, what it means and what to do; owns no kinds.

An audit's kinds are in audit/reports/findings.py, those of a look into a VM's disks in recover/readiness; their
severities are others, since a sound block and a disk that starts are other questions.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

Grave = TypeVar("Grave", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class About(Generic[Grave]):
    """What is always true of a kind."""

    severity: Grave
    meaning: str
    remedy: str
