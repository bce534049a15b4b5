"""Holds held against the restore points that they name; removes none.

A hold remembers its point's SHA-256, so one tells of a record that was replaced, and of one that is gone, though no
record or report does.
"""

from __future__ import annotations

from warmspare.audit.reports.collect import Findings
from warmspare.audit.reports.findings import FindingKind
from warmspare.audit.repository.contents import VmContents
from warmspare.audit.repository.descent import Chain
from warmspare.errors import IntegrityError
from warmspare.model.ids import VmId
from warmspare.repository.chain import Repository
from warmspare.repository.holds import PlacedHold, holds_of, standing
from warmspare.store import layout

REMEDY = "remove it by `warmspare hold remove --id`, and hold the restore point anew"


async def check_holds(
    repository: Repository, vm: VmId, inventory: VmContents, chain: Chain, findings: Findings
) -> None:
    """Of one VM. A point that was published since counts as there. StoreError."""
    try:
        stand = await standing(repository, await holds_of(repository, vm))
    except IntegrityError as error:
        prefix = layout.holds_prefix(inventory.vm)
        findings.add(FindingKind.OBJECT_FOREIGN, point="", key=prefix, expected="holds of ours", actual=error.what)
        return
    for one in stand:
        if one.hold is None:
            findings.add(
                FindingKind.OBJECT_MALFORMED,
                point=_label(chain, one),
                key=one.key,
                expected=f"a hold on restore point {one.sequence}",
                actual=one.damage,
                meaning="a hold can't be read; it holds its restore point all the same",
                remedy=REMEDY,
            )
        elif chain.folds.drops(one.sequence):
            findings.add(
                FindingKind.POINT_ROLLED_BACK,
                point=one.hold.point.label,
                key=one.key,
                expected="the restore point that is held",
                actual=f"it was let go, as {chain.folds.key} says",
                meaning="a restore point is held, and was let go all the same",
                remedy="find out who let it go; a copy of the repository may have it: hold it there, and remove this "
                "hold by `warmspare hold remove --id`",
            )
        elif (link := chain.links.get(one.sequence)) is not None:
            if link.sha256 != one.hold.sha256:
                findings.add(
                    FindingKind.POINT_FORKED,
                    point=link.label,
                    key=one.key,
                    expected=f"SHA-256 {one.hold.sha256}",
                    actual=f"SHA-256 {link.sha256}",
                    meaning="a restore point is not the one that was held under its number",
                )
        elif one.sequence not in inventory.points and not await _stands(repository, inventory, one):
            findings.add(
                FindingKind.POINT_ROLLED_BACK,
                point=one.hold.point.label,
                key=one.key,
                expected="the restore point that is held",
                actual="nothing",
                meaning="a restore point is held, and is not there",
            )


def _label(chain: Chain, one: PlacedHold) -> str:
    link = chain.links.get(one.sequence)
    return link.label if link is not None else str(one.sequence)


async def _stands(repository: Repository, inventory: VmContents, one: PlacedHold) -> bool:
    return await repository.store.head(layout.point_key(inventory.vm, one.sequence)) is not None
