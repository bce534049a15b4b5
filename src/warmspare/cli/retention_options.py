"""The options that say which restore points are kept: the keys of the configuration, in its words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from warmspare.cli.command_parser import Option
from warmspare.errors import ConfigError

if TYPE_CHECKING:
    from warmspare.engine.retention_rules import RetentionRules

MOST = 1_000_000  # as the configuration takes


def _newest(period: str) -> str:
    return f"Keep the newest point of each {period}, of the newest N that have any."


class RetentionOptions:
    """A base beside those of a command. What is not given is as the configuration has it for the VM."""

    keep_last: Annotated[
        int | None, Option("--keep-last", metavar="N", help="Keep the newest N.", least=0, most=MOST)
    ] = None
    keep_within: Annotated[
        str | None,
        Option("--keep-within", metavar="TIME", help="Keep all that are no older than the newest less this: 2d, 12h."),
    ] = None
    keep_hourly: Annotated[
        int | None, Option("--keep-hourly", metavar="N", help=_newest("hour"), least=0, most=MOST)
    ] = None
    keep_daily: Annotated[int | None, Option("--keep-daily", metavar="N", help=_newest("day"), least=0, most=MOST)] = (
        None
    )
    keep_weekly: Annotated[
        int | None, Option("--keep-weekly", metavar="N", help=_newest("week"), least=0, most=MOST)
    ] = None
    keep_monthly: Annotated[
        int | None, Option("--keep-monthly", metavar="N", help=_newest("month"), least=0, most=MOST)
    ] = None
    keep_yearly: Annotated[
        int | None, Option("--keep-yearly", metavar="N", help=_newest("year"), least=0, most=MOST)
    ] = None
    time_zone: Annotated[
        str | None,
        Option("--time-zone", metavar="NAME", help="Whose hours, days and weeks count: Europe/Berlin (default: UTC)."),
    ] = None
    trust_created: Annotated[
        bool,
        Option("--trust-created", help="Believe the points' own times, though the store's differ: of a copy."),
    ] = False

    def rules(self) -> RetentionRules:
        """What is said. ConfigError, which names the option."""
        from warmspare.config.retention_settings import RetentionSettings
        from warmspare.engine.retention_rules import RetentionRules

        said = RetentionRules(
            keep_last=self.keep_last,
            keep_within=self.keep_within,
            keep_hourly=self.keep_hourly,
            keep_daily=self.keep_daily,
            keep_weekly=self.keep_weekly,
            keep_monthly=self.keep_monthly,
            keep_yearly=self.keep_yearly,
            time_zone=self.time_zone,
            trust_created=self.trust_created or None,
        )
        try:
            said.over(RetentionSettings())
        except ConfigError as error:
            option = f"--{(error.where or '').replace('_', '-')}"
            raise ConfigError(error.what, where=option, hint=error.hint) from None
        return said
