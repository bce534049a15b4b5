"""`warmspare points`: what a repository holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from warmspare.cli import options

if TYPE_CHECKING:
    from warmspare.observe.events import Events, Meter
    from warmspare.observe.kinds.repository_events import PointListed
    from warmspare.repository.chain import Point


def points(
    repo: options.Repo,
    vm: options.OneVm = None,
    endpoint_url: options.Endpoint = None,
    s3: options.S3 = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> int:
    """List restore points."""
    from warmspare.cli.run import execute, retrying

    async def work(events: Events, meter: Meter) -> int:
        from warmspare.cli.telling.output import write_line
        from warmspare.errors import ConfigError, IntegrityError, NotFoundError
        from warmspare.observe.kinds.repository_events import PointsDone
        from warmspare.repository.chain import open_repository
        from warmspare.repository.vm_lookup import vm_called
        from warmspare.store.opening import open_store

        store = open_store(
            repo, endpoint_url=options.check_endpoint(endpoint_url), site=options.site(s3), on_retry=retrying(events)
        )
        try:
            repository = await open_repository(store)
            count, damaged = 0, []
            names = [await vm_called(repository, vm)] if vm is not None else await repository.vms()
            for name in names:
                numbers = await repository.sequences(name)
                heading = ""
                for number in numbers:
                    try:
                        point = await repository.load(name, number)
                    except (IntegrityError, NotFoundError) as error:
                        damaged.append(error)
                        continue
                    count += 1
                    if json:
                        events.emit(listed(point))
                        continue
                    if _heading(point) != heading:
                        heading = _heading(point)
                        write_line(heading)
                    write_line(line(point))
            if vm is not None and not count and not damaged:
                raise ConfigError(f"VM {vm!r} has no restore point in this repository", where=repo, hint="check --vm")
            if damaged:
                raise damaged[0]
            events.emit(PointsDone(count=count))
            if not json and not count:
                write_line("no restore points")
        finally:
            await store.close()
        return 0

    return execute(work, as_json=json, debug=debug)


def listed(point: Point) -> PointListed:
    """A restore point as an event."""
    from warmspare.observe.kinds.repository_events import ListedDisk, NamedReason, PointListed

    record = point.record
    return PointListed(
        vm=record.vm_id,
        vm_name=record.vm_name,
        point=point.id.label,
        sequence=record.sequence,
        sha256=point.id.sha256,
        parent=record.parent,
        created=record.created,
        disks=[
            ListedDisk(
                id=disk.id,
                name=disk.name,
                capacity_bytes=disk.capacity_bytes,
                changed_blocks=disk.changed_blocks,
                change_id=disk.change_id,
                reason=disk.reason,
            )
            for disk in record.disks
        ],
        unprotected=[NamedReason(name=disk.name, reason=disk.reason) for disk in record.unprotected],
        bytes_read=record.bytes_read,
        bytes_changed=record.bytes_changed,
        bytes_sent=record.bytes_sent,
    )


def _heading(point: Point) -> str:
    """Which VM: its name, and its ID where that is another."""
    record = point.record
    return f"VM {record.vm_name}" + (f" ({record.vm_id})" if record.vm_id != record.vm_name else "")


def line(point: Point) -> str:
    """A restore point in a line."""
    from warmspare.observe.quantities import size

    record = point.record
    disks = ", ".join(f"{disk.name} {size(disk.capacity_bytes)}" for disk in record.disks)
    tail = f"  UNPROTECTED: {', '.join(u.name for u in record.unprotected)}" if record.unprotected else ""
    return (
        f"  {point.id.label:<14} {record.created}  {size(record.bytes_changed):>10} changed  "
        f"{size(record.bytes_sent):>10} sent  {disks}{tail}"
    )
