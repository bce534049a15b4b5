"""`warmspare prune`: remove what no restore point names."""

from __future__ import annotations

from typing import Annotated

from warmspare.cli import options
from warmspare.cli.command_parser import Option
from warmspare.cli.run import act
from warmspare.errors import ConfigError


class PruneOptions(options.RepositoryOptions):
    vm: Annotated[
        str | None, Option("--vm", metavar="ID", help="Only this VM; otherwise all there are.", complete="vm")
    ] = None
    older_than: Annotated[
        str, Option("--older-than", metavar="TIME", help="Only what the store has had for longer: 7d, 36h.")
    ] = "7d"
    yes: Annotated[bool, Option("--yes", help="Remove it; otherwise only say what would be removed.")] = False
    dry_run: Annotated[bool, Option("--dry-run", help="Change nothing (the default).")] = False
    against: options.Against = []  # noqa: RUF012 (never changed)
    reports: options.Reports = None


def prune(given: PruneOptions) -> int:
    """Remove objects and uploads that no restore point names and no sync can use any more."""
    from warmspare.engine.requests.repository_requests import PruneRequest

    def request() -> PruneRequest:
        from warmspare.config.values import duration

        if given.yes and given.dry_run:
            raise ConfigError("--yes and --dry-run exclude each other", hint="give one of them")
        return PruneRequest(
            repository=given.repository(),
            vm=given.vm,
            older_s=duration(given.older_than),
            remove=given.yes,
            against=tuple(given.against),
            reports=given.reports,
        )

    return act(request, given)
