"""`warmspare stage`: a restore point to EBS snapshots, ready to be started from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from warmspare.cli import options
from warmspare.cli.command_parser import Option
from warmspare.cli.run import act


class StageOptions(options.RepositoryOptions):
    vm: options.Vm
    at: options.At = None
    follow: Annotated[bool, Option("--follow", help="Stay, and stage each new restore point.")] = False
    dry_run: Annotated[bool, Option("--dry-run", help="Say what would be put; change nothing in AWS.")] = False
    replica: Annotated[
        Path | None,
        Option(
            "--replica", metavar="PATH", help="Read from this replica, which must be at that point.", complete="file"
        ),
    ] = None
    replica_state: Annotated[
        Path | None,
        Option(
            "--replica-state", metavar="DIR", help="Where the replica's state is, if not beside it.", complete="folder"
        ),
    ] = None
    keep: Annotated[int, Option("--keep", metavar="N", help="How many staged points to keep.")] = 3
    keep_days: Annotated[
        float, Option("--keep-days", metavar="D", help="Keep those as well that were staged within so many days.")
    ] = 0.0
    puts: Annotated[float, Option("--puts", metavar="N", help="Blocks of 512 KiB a second; AWS's quota.")] = 1000.0
    encrypt: Annotated[bool, Option("--encrypt", help="Encrypt, with the account's own key.")] = False
    kms_key: Annotated[str | None, Option("--kms-key", metavar="ARN", help="Encrypt, with this key of KMS.")] = None
    tag: Annotated[list[str], Option("--tag", metavar="KEY=VALUE", help="Another tag for the snapshots.")] = []  # noqa: RUF012 (never changed)
    region: Annotated[str | None, Option("--region", metavar="REGION", help="Where the spare is to start.")] = None
    profile: Annotated[str | None, Option("--profile", metavar="NAME", help="Of AWS, for EC2 and EBS.")] = None
    state: Annotated[
        Path | None,
        Option("--state", metavar="DIR", help="Where staging keeps what it has put so far.", complete="folder"),
    ] = None


def stage(given: StageOptions) -> int:
    """Write a restore point to EBS snapshots: one a disk, each an increment on the last."""
    from warmspare.engine.requests.recovery_requests import StageRequest

    def request() -> StageRequest:
        return StageRequest(
            vm=given.vm,
            repository=given.repository(),
            at=given.at,
            follow=given.follow,
            dry_run=given.dry_run,
            replica=given.replica,
            replica_state=given.replica_state,
            keep=given.keep,
            keep_days=given.keep_days,
            puts=given.puts,
            encrypt=given.encrypt,
            kms_key=given.kms_key,
            tags=tuple(given.tag),
            region=given.region,
            profile=given.profile,
            state=given.state,
        )

    return act(request, given)
