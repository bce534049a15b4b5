"""How an audit is shown to a person: a table of what it came to; findings are in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from warmspare.cli.telling.output import Show

if TYPE_CHECKING:
    from warmspare.engine.requests.source_audit_requests import SourceAudits
    from warmspare.engine.wiring.audit_end import AuditEnd
    from warmspare.observe.event import Event


class AuditShow(Show):
    """Of one audit, or of several."""

    def event(self, event: Event) -> bool:
        from warmspare.observe.kinds.finding_events import AuditFinding

        return isinstance(event, AuditFinding)

    def end(self, result: AuditEnd | SourceAudits) -> None:
        from warmspare.cli.telling.audit_table import show
        from warmspare.engine.requests.source_audit_requests import SourceAudits
        from warmspare.engine.wiring.audit_end import AuditEnd

        for end in result.vms if isinstance(result, SourceAudits) else (result,):
            if isinstance(end, AuditEnd):
                show(end)
