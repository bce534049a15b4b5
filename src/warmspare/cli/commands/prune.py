"""`warmspare prune`: let restore points go that a policy does not keep, and remove what nothing needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from warmspare.cli import options
from warmspare.cli.command_parser import Option
from warmspare.cli.run import act
from warmspare.errors import ConfigError

if TYPE_CHECKING:
    from warmspare.engine.requests.repository_requests import PruneRequest


def _kept(name: str, what: str) -> object:
    return Option(f"--keep-{name}", metavar="N", help=f"Keep the newest point of each of the last N {what}.")


class PruneOptions(options.RepositoryOptions):
    vm: Annotated[
        str | None, Option("--vm", metavar="ID", help="Only this VM; otherwise all there are.", complete="vm")
    ] = None
    keep_last: Annotated[int | None, Option("--keep-last", metavar="N", help="Keep the newest N points.")] = None
    keep_within: Annotated[
        str | None,
        Option("--keep-within", metavar="TIME", help="Keep all that are at most so much older than the newest."),
    ] = None
    keep_hourly: Annotated[int | None, _kept("hourly", "hours that have any")] = None
    keep_daily: Annotated[int | None, _kept("daily", "days")] = None
    keep_weekly: Annotated[int | None, _kept("weekly", "weeks")] = None
    keep_monthly: Annotated[int | None, _kept("monthly", "months")] = None
    keep_yearly: Annotated[int | None, _kept("yearly", "years")] = None
    time_zone: Annotated[
        str | None, Option("--time-zone", metavar="NAME", help="Whose days and weeks: Europe/Berlin; UTC by default.")
    ] = None
    trust_created: Annotated[
        bool, Option("--trust-created", help="Believe the records' times: of a repository that `copy` made.")
    ] = False
    grace: Annotated[
        str, Option("--grace", metavar="TIME", help="How long whoever reads has to end: 24h; at least 1h.")
    ] = "24h"
    older_than: Annotated[
        str | None,
        Option("--older-than", metavar="TIME", help="Remove only what was of no use for longer: 7d; by a policy, 24h."),
    ] = None
    yes: Annotated[bool, Option("--yes", help="Do it; otherwise only say what would be done.")] = False
    dry_run: Annotated[bool, Option("--dry-run", help="Change nothing (the default).")] = False
    against: options.Against = []  # noqa: RUF012 (never changed)
    reports: options.Reports = None


def prune(given: PruneOptions) -> int:
    """Let restore points go that the policy does not keep, and remove what nothing needs any more."""

    def request() -> PruneRequest:
        from warmspare.config.values import duration
        from warmspare.engine.requests.repository_requests import PruneRequest
        from warmspare.engine.retention_rules import RetentionRules

        if given.yes and given.dry_run:
            raise ConfigError("--yes and --dry-run exclude each other", hint="give one of them")
        return PruneRequest(
            repository=given.repository(),
            vm=given.vm,
            rules=RetentionRules(
                keep_last=given.keep_last,
                keep_within=given.keep_within,
                keep_hourly=given.keep_hourly,
                keep_daily=given.keep_daily,
                keep_weekly=given.keep_weekly,
                keep_monthly=given.keep_monthly,
                keep_yearly=given.keep_yearly,
                time_zone=given.time_zone,
                trust_created=given.trust_created or None,
            ),
            grace_s=duration(given.grace),
            older_s=None if given.older_than is None else duration(given.older_than),
            remove=given.yes,
            against=tuple(given.against),
            reports=given.reports,
        )

    return act(request, given)
