"""All cases of the matrix, by their names, which are unique."""

from __future__ import annotations

from systems.cases import Case
from systems.distributions import debian, fedora, others, rebuilds, redhat, strangers, suse, ubuntu
from systems.variations import archives, boxes, further, mounts, tables, variants, words

_MODULES = (
    debian,
    ubuntu,
    redhat,
    rebuilds,
    fedora,
    suse,
    others,
    strangers,
    boxes,
    mounts,
    tables,
    archives,
    variants,
    further,
    words,
)
_ALL = [case for module in _MODULES for case in module.CASES]
CASES: dict[str, Case] = {case.name: case for case in _ALL}
assert len(CASES) == len(_ALL), "two cases have one name"
