"""All cases of the matrix, by their names, which are unique."""

from __future__ import annotations

from systems import boxes, debian, others, redhat, suse
from systems.cases import Case

CASES: dict[str, Case] = {
    case.name: case for each in (debian, redhat, suse, others, boxes) for case in each.CASES
}
assert len(CASES) == sum(len(each.CASES) for each in (debian, redhat, suse, others, boxes))
