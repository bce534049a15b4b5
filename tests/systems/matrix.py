"""All cases of the matrix, by their names, which are unique."""

from __future__ import annotations

from systems import archives, boxes, debian, fedora, mounts, others, rebuilds, redhat, strangers, suse, tables, ubuntu
from systems.cases import Case

_ALL = [
    case
    for each in (debian, ubuntu, redhat, rebuilds, fedora, suse, others, strangers, boxes, mounts, tables, archives)
    for case in each.CASES
]
CASES: dict[str, Case] = {case.name: case for case in _ALL}
assert len(CASES) == len(_ALL), "two cases have one name"
