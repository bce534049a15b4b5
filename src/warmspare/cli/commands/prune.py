"""`warmspare prune`: let restore points go that a policy does not keep, and remove what nothing needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from warmspare.cli import options
from warmspare.cli.command_parser import Option
from warmspare.cli.retention_options import RetentionOptions
from warmspare.cli.run import act
from warmspare.errors import ConfigError

if TYPE_CHECKING:
    from warmspare.engine.requests.repository_requests import PruneRequest


class PruneOptions(RetentionOptions, options.RepositoryOptions):
    vm: Annotated[
        str | None, Option("--vm", metavar="ID", help="Only this VM; otherwise all there are.", complete="vm")
    ] = None
    grace: Annotated[
        str, Option("--grace", metavar="TIME", help="How long whoever reads has to end: 24h; at least 1h.")
    ] = "24h"
    older_than: Annotated[
        str | None,
        Option(
            "--older-than",
            metavar="TIME",
            help="Remove only what the store has had for longer (default: 7d; the grace time where points are let go).",
        ),
    ] = None
    staged: Annotated[
        bool,
        Option(
            "--staged",
            help="Ask EC2 what is staged, and keep those points, too.",
        ),
    ] = False
    region: options.Region = None
    profile: options.Profile = None
    yes: Annotated[bool, Option("--yes", help="Do it; otherwise only say what would be done.")] = False
    dry_run: Annotated[bool, Option("--dry-run", help="Change nothing (the default).")] = False
    against: options.Against = []  # noqa: RUF012 (never changed)
    reports: options.Reports = None


def prune(given: PruneOptions) -> int:
    """Let restore points go that the policy does not keep, and remove what nothing needs any more."""

    def request() -> PruneRequest:
        from warmspare.config.values import duration
        from warmspare.engine.requests.repository_requests import PruneRequest

        if given.yes and given.dry_run:
            raise ConfigError("--yes and --dry-run exclude each other", hint="give one of them")
        return PruneRequest(
            repository=given.repository(),
            vm=given.vm,
            rules=given.rules(),
            grace_s=duration(given.grace),
            older_s=None if given.older_than is None else duration(given.older_than),
            staged=given.staged,
            region=given.region,
            profile=given.profile,
            remove=given.yes,
            against=tuple(given.against),
            reports=given.reports,
        )

    return act(request, given)
