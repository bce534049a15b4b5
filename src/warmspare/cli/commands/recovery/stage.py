"""`warmspare stage`: a restore point to EBS snapshots, ready to be started from."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from warmspare.cli import options
from warmspare.errors import ConfigError

if TYPE_CHECKING:
    from warmspare.observe.events import Events, Meter
    from warmspare.recover.staging.stager import StageSettings

_KEY_ARN = re.compile(r"arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+")


def stage(
    vm: options.Vm,
    repo: options.Repo,
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="POINT", help="A restore point by number or label; the newest otherwise."),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Stay, and stage each new restore point.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be put; change nothing in AWS.")] = False,
    replica: Annotated[
        Path | None,
        typer.Option("--replica", metavar="PATH", help="Read from this replica, which must be at that point."),
    ] = None,
    replica_state: Annotated[
        Path | None,
        typer.Option("--replica-state", metavar="DIR", help="Where the replica's state is, if not beside it."),
    ] = None,
    keep: Annotated[int, typer.Option("--keep", metavar="N", help="How many staged points to keep.")] = 3,
    keep_days: Annotated[
        float, typer.Option("--keep-days", metavar="D", help="Keep those as well that were staged within so many days.")
    ] = 0.0,
    puts: Annotated[
        float, typer.Option("--puts", metavar="N", help="Blocks of 512 KiB a second; AWS's quota.")
    ] = 1000.0,
    encrypt: Annotated[bool, typer.Option("--encrypt", help="Encrypt, with the account's own key.")] = False,
    kms_key: Annotated[
        str | None, typer.Option("--kms-key", metavar="ARN", help="Encrypt, with this key of KMS.")
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", metavar="KEY=VALUE", help="Another tag for the snapshots.")
    ] = None,
    region: Annotated[
        str | None, typer.Option("--region", metavar="REGION", help="Where the spare is to start.")
    ] = None,
    profile: Annotated[str | None, typer.Option("--profile", metavar="NAME", help="Of AWS, for EC2 and EBS.")] = None,
    state: Annotated[
        Path | None, typer.Option("--state", metavar="DIR", help="Where staging keeps what it has put so far.")
    ] = None,
    endpoint_url: options.Endpoint = None,
    s3: options.S3 = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> int:
    """Write a restore point to EBS snapshots: one a disk, each an increment on the last."""
    from warmspare.cli.run import execute, retrying

    async def work(events: Events, meter: Meter) -> int:
        from warmspare.recover.aws.client import Aws, AwsSettings
        from warmspare.recover.staging.filling import PUTS_UNDER_WAY
        from warmspare.recover.staging.stager import Stage
        from warmspare.store.opening import open_store

        if follow and (at is not None or dry_run):
            raise ConfigError("--follow stands against --at and --dry-run", hint="leave out --follow, or the other")
        settings = _settings(replica, replica_state, keep, keep_days, puts, encrypt, kms_key, tag or [])
        store = open_store(
            repo, endpoint_url=options.check_endpoint(endpoint_url), site=options.site(s3), on_retry=retrying(events)
        )
        try:
            account = AwsSettings(region, profile, connections=PUTS_UNDER_WAY)
            async with Aws(account, on_retry=retrying(events)) as aws:
                home = options.state_folder("stage", root=state)
                run = Stage(store, vm, events, aws, state=home, settings=settings, meter=meter)
                if dry_run:
                    await run.plan(at)
                else:
                    await (run.follow() if follow else run.run(at))
        finally:
            await store.close()
        return 0

    return execute(work, as_json=json, debug=debug, names=("read", "sent"))


def _settings(
    replica: Path | None,
    replica_state: Path | None,
    keep: int,
    keep_days: float,
    puts: float,
    encrypt: bool,
    kms_key: str | None,
    tags: list[str],
) -> StageSettings:
    from warmspare.recover.staging.ebs import Encryption
    from warmspare.recover.staging.expiry import Keep
    from warmspare.recover.staging.stager import StageSettings

    if keep < 1 or keep_days < 0:
        raise ConfigError("--keep must be at least 1, and --keep-days not below 0", hint="give at least that")
    if not 1 <= puts <= 100_000:
        hint = "leave it out for AWS's 1000"
        raise ConfigError("--puts must be from 1 to 100000 a second", where=str(puts), hint=hint)
    if kms_key is not None and not _KEY_ARN.fullmatch(kms_key):
        hint = "it looks like arn:aws:kms:REGION:ACCOUNT:key/ID"
        raise ConfigError("--kms-key wants the ARN of a key", where=kms_key[:80], hint=hint)
    if replica_state is not None and replica is None:
        raise ConfigError("--replica-state needs --replica", hint="name the replica by --replica")
    pairs = {}
    for given in tags:
        key, found, value = given.partition("=")
        reserved = key.lower().startswith(("aws:", "warmspare:")) or key == "Name"
        if not found or not 1 <= len(key) <= 127 or len(value) > 255 or reserved:
            hint = "write KEY=VALUE; keys beginning with aws: or warmspare:, and Name, are taken"
            raise ConfigError("not a tag that can be given", where=given[:80], hint=hint)
        pairs[key] = value
    if len(pairs) > 30:
        raise ConfigError("--tag may be given 30 times", where=str(len(pairs)), hint="give at most 30")
    encryption = Encryption(encrypt or kms_key is not None, kms_key or "")
    return StageSettings(replica, replica_state, encryption, pairs, Keep(keep, keep_days), puts)
