"""What can't be cleared up never stops the work: a warning that says what to grant, and the next run tries again."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.session import get_session

import warmspare.sync.sender
import warmspare.sync.stages.pack_writer
from e2e.s3refusals import DELETES, Refusals, refusing
from rig import KIB, MIB, Event, Outcome, Rig, command, losing_the_store, made, overwrite, same, scribble
from rigs.host import media
from rigs.host.nobody import as_nobody
from servers import S3Place
from warmspare.format.manifest import ManifestReader
from warmspare.model.ids import PackId
from warmspare.store import layout
from warmspare.sync.publishing.publication import publish


@pytest.fixture
def small_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warmspare.sync.stages.pack_writer, "PACK_BYTES", MIB)


@pytest.fixture
def rig(tmp_path: Path, small_packs: None) -> Rig:
    """In a directory; a disk that does not compress."""
    rig = Rig(tmp_path)
    fill(rig, 1)
    return rig


@pytest.fixture
def far(moto_place: S3Place, tmp_path: Path, small_packs: None) -> Rig:
    """In S3."""
    rig = Rig(tmp_path, repo=moto_place.uri)
    fill(rig, 1)
    return rig


@pytest.fixture
def client(moto_place: S3Place) -> Iterator[Any]:
    made = get_session().create_client("s3", endpoint_url=moto_place.server.endpoint_url, region_name="us-east-1")
    yield made
    made.close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Refusals:
    return refusing(monkeypatch)


def fill(rig: Rig, seed: int, mib: int = 3) -> None:
    rig.disk.write_bytes(random.Random(seed).randbytes(mib * MIB))


def warnings(done: Outcome, action: str = "") -> list[Event]:
    """Without those of what was tried of the store, at a host's first use of it."""
    found = [each for each in done.all("housekeeping.warning") if not each["object"].endswith("/probes/")]
    return [each for each in found if each["action"] == action or not action]


def break_off(rig: Rig, server: Refusals, seed: int, mib: int = 3) -> None:
    """A run that ends with the last of its packs; some of the others are sent."""
    fill(rig, seed, mib)
    last = f"/{mib - 1:06d}.pack"
    server.refuse("PutObject", "CreateMultipartUpload", code="QuotaExceeded", keys=lambda key: last in key)
    rig.sync(code=4)
    server.allow()


def in_bucket(client: Any, place: S3Place, kind: str) -> dict[str, bytes]:
    found = client.list_objects_v2(Bucket=place.bucket, Prefix=f"{place.prefix}/vms/vm/{kind}/").get("Contents", [])
    keys = [each["Key"] for each in found]
    return {key: client.get_object(Bucket=place.bucket, Key=key)["Body"].read() for key in keys}


def unnamed(client: Any, place: S3Place) -> set[str]:
    """Packs that no restore point names."""
    packs = set(in_bucket(client, place, "packs"))
    for data in in_bucket(client, place, "manifests").values():
        reader = ManifestReader(lambda at, size, data=data: data[at : at + size], len(data), "here")
        packs -= {f"{place.prefix}/{layout.pack_key('vm', pack.id)}" for pack in reader.packs}
    return packs


def test_ten_runs_on_a_server_that_lets_nothing_be_deleted(
    far: Rig, client: Any, moto_place: S3Place, server: Refusals
) -> None:
    """Some of them after one that broke off. Each publishes, asks a few times more than usual at most, and what is left
    of the dead runs is gone with the first one that may remove it."""
    far.sync()
    server.asked.clear()
    scribble(far.disk, random.Random(99))
    far.sync()
    usual = server.asked.total()
    for number in range(10):
        if number in (0, 5):
            break_off(far, server, 10 + number)
        server.refuse(*DELETES)
        fill(far, 50 + number)
        server.asked.clear()
        done = far.sync()
        # Many in a request, the same with a checksum, and a few one by one.
        assert sum(server.asked[each] for each in DELETES) <= 16, server.asked
        assert number in (0, 5) or server.asked.total() <= usual + 20, server.asked
        [warning] = warnings(done)
        assert warning["action"] == warning["right"] == "s3:DeleteObject" and "/packs/" in warning["object"]
        assert warning["vm"] == "vm" and warning["count"] >= 1 and "grant s3:DeleteObject" in warning["message"]
    assert unnamed(client, moto_place)
    far.apply()
    assert same(far.disk, far.replica)
    assert command("audit", "repository", "--repo", far.repo).code == 0
    server.allow()
    done = far.sync()
    assert not warnings(done) and not unnamed(client, moto_place)
    assert not list(far.state.rglob("leftovers.json"))
    assert command("audit", "repository", "--repo", far.repo, "--deep").code == 0


@pytest.mark.parametrize(
    ("code", "status", "right"),
    [("AccessDenied", 200, "s3:DeleteObject"), ("NotImplemented", 501, ""), ("ObjectLocked", 409, "")],
)
def test_other_ways_to_refuse(far: Rig, server: Refusals, code: str, status: int, right: str) -> None:
    break_off(far, server, 2)
    server.refuse(*DELETES, code=code, status=status)
    fill(far, 3)
    [warning] = warnings(far.sync())
    assert warning["action"] == "s3:DeleteObject" and warning["right"] == right
    far.apply()
    assert same(far.disk, far.replica)


def test_packs_of_a_dead_run_are_used_again_all_the_same(far: Rig, server: Refusals) -> None:
    """What of it can't be removed is left; what it had sent need not be sent again."""
    break_off(far, server, 4, mib=8)
    server.refuse(*DELETES)
    done = far.sync()
    assert done.last("sync.recovered")["packs_kept"] >= 1 and done.last("sync.resumed")["bytes_reused"] > 0
    for seed in (5, 6):
        fill(far, seed, mib=8)
        assert not far.sync().all("sync.resumed")  # they are of a sequence that is taken
    far.apply("--at", 1)
    for sequence in (2, 3):
        far.apply("--at", sequence)
    assert same(far.disk, far.replica)


@pytest.mark.parametrize(("code", "status", "right"), [("AccessDenied", 403, True), ("NotImplemented", 501, False)])
def test_uploads_that_can_not_be_listed(far: Rig, server: Refusals, code: str, status: int, right: bool) -> None:
    """Warned once a run, by a copy's destination and `prune` too."""
    break_off(far, server, 2)
    server.refuse("ListMultipartUploads", code=code, status=status)
    for _ in range(2):
        server.asked.clear()
        [warning] = warnings(far.sync())
        assert warning["action"] == "s3:ListBucketMultipartUploads"
        assert warning["right"] == ("s3:ListBucketMultipartUploads" if right else "")
        assert server.asked["ListMultipartUploads"] == 1
    pruned = command("prune", "--repo", far.repo, "--yes", "--older-than", "1s")
    assert pruned.code == 0 and len(warnings(pruned, "s3:ListBucketMultipartUploads")) == 1
    made(f"{far.repo}-copy")
    copied = command("copy", "--from", far.repo, "--to", f"{far.repo}-copy")
    assert copied.code == 0 and len(warnings(copied, "s3:ListBucketMultipartUploads")) == 1


def test_an_old_upload_that_can_not_be_aborted(
    far: Rig, client: Any, moto_place: S3Place, server: Refusals, monkeypatch: pytest.MonkeyPatch
) -> None:
    far.sync()
    for run in "de":
        key = f"{moto_place.prefix}/{layout.pack_key('vm', PackId(run * 32, 0))}"
        client.create_multipart_upload(Bucket=moto_place.bucket, Key=key)
    monkeypatch.setattr(warmspare.sync.sender, "ABANDONED_S", -60.0)
    server.refuse("AbortMultipartUpload")
    server.asked.clear()
    [warning] = warnings(far.sync())
    assert warning["action"] == warning["right"] == "s3:AbortMultipartUpload" and warning["count"] == 2
    assert server.asked["AbortMultipartUpload"] == 1
    server.allow()
    assert not warnings(far.sync())
    uploads = client.list_multipart_uploads(Bucket=moto_place.bucket).get("Uploads", [])
    assert not [each for each in uploads if each["Key"].startswith(moto_place.prefix)]


def test_a_mark_that_can_not_be_removed(far: Rig, client: Any, moto_place: S3Place, server: Refusals) -> None:
    """Its blocks are sent once, not by each sync from then on; and it does not hide what is lost later."""
    far.sync()

    def lose() -> None:
        for key, data in in_bucket(client, moto_place, "packs").items():
            rotten = bytearray(data)
            rotten[len(data) // 2] ^= 1
            client.put_object(Bucket=moto_place.bucket, Key=key, Body=bytes(rotten))
        assert command("audit", "repository", "--repo", far.repo, "--deep", "--repair").code == 5

    lose()
    server.refuse(*DELETES)
    healed = far.sync()
    assert healed.all("sync.anew") and [each["action"] for each in warnings(healed)] == ["s3:DeleteObject"]
    for _ in range(2):
        again = far.sync()
        assert not again.all("sync.anew") and again.last("sync.done")["bytes_sent"] < 64 * KIB
        assert "/marks/" in warnings(again)[0]["object"]
    assert len(in_bucket(client, moto_place, "marks")) == 1
    lose()
    assert len(in_bucket(client, moto_place, "marks")) == 2
    assert far.sync().all("sync.anew")
    far.apply()
    assert same(far.disk, far.replica)
    server.allow()
    far.sync()
    assert not in_bucket(client, moto_place, "marks") and not list(far.state.rglob("marks.json"))


def test_the_store_goes_away_once_the_point_is_published(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Published is published: only what belongs to this host can still make it an error."""
    losing_the_store(rig, monkeypatch, 1)
    fill(rig, 2)
    with contextlib.ExitStack() as stack:

        async def published(*arguments: Any) -> None:
            await publish(*arguments)
            stack.enter_context(media.read_only(Path(rig.repo)))

        with monkeypatch.context() as patch:
            patch.setattr(warmspare.sync.sender, "publish", published)
            done = rig.sync()
    assert done.last("sync.done")["point"].startswith("1-")
    assert "the file system is read-only" in warnings(done)[0]["message"]
    forget_lease(rig)
    rig.sync()
    rig.apply()
    assert same(rig.disk, rig.replica)
    assert {path.parent.name for path in rig.objects("packs")} == {rig.point(1).run}


def forget_lease(rig: Rig) -> None:
    """It could not be given back, and this process, whose it is, lives on."""
    (Path(rig.repo) / layout.lease_key(rig.vm)).unlink()


def test_what_is_in_the_way_of_a_sealed_point_and_can_not_be_removed(rig: Rig) -> None:
    """Its manifest's key holds something else. It is given up, and the disk is read again."""
    made(rig.repo)
    rig.root.mkdir(parents=True)
    (rig.root / "points").write_text("a file in the place of the records")
    rig.sync(code=4)
    (rig.root / "points").unlink()
    [manifest] = rig.objects("manifests")
    overwrite(manifest, b"something else")
    with media.read_only(manifest.parent):
        done = rig.sync()
        assert done.all("sync.completing") and done.last("sync.done")["point"].startswith("1-")
        assert done.last("sync.resumed")["bytes_reused"] == 3 * MIB
    rig.apply()
    assert same(rig.disk, rig.replica) and manifest.exists()
    rig.sync()
    assert not manifest.exists()


def test_a_lost_race_says_so_whatever_can_be_removed(
    far: Rig, server: Refusals, monkeypatch: pytest.MonkeyPatch
) -> None:
    from warmspare.repository.chain import Repository

    publish = Repository.publish

    async def beaten(self: Repository, vm: str, sequence: int, data: bytes) -> bool:
        return sequence == 1 and await publish(self, vm, sequence, data)

    far.sync()
    fill(far, 2)
    server.refuse(*DELETES)
    with monkeypatch.context() as patch:
        patch.setattr(Repository, "publish", beaten)
        done = far.sync(code=6)
    assert warnings(done, "s3:DeleteObject")
    server.allow()
    assert not warnings(far.sync())
    far.apply()
    assert same(far.disk, far.replica)


def test_an_old_copy_of_the_state_removes_nothing_that_a_point_names(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has a dead run whose packs were used since. Whose they are is told by the point of that run's sequence."""
    fill(rig, 1, mib=12)
    losing_the_store(rig, monkeypatch, 7)
    losing_the_store(rig, monkeypatch, 2)  # the first is on the shelf now
    shutil.copytree(rig.state, rig.home / "old", symlinks=True)
    assert rig.sync().all("sync.resumed")
    rig.apply("--at", 1, to=rig.home / "first.raw")
    scribble(rig.disk, random.Random(3))
    shutil.rmtree(rig.state)
    (rig.home / "old").rename(rig.state)
    rig.sync()
    rig.apply("--at", 1, to=rig.home / "again.raw")
    assert same(rig.home / "first.raw", rig.home / "again.raw")
    rig.apply()
    assert same(rig.disk, rig.replica)


def test_one_of_many_that_prune_can_not_remove(
    far: Rig, client: Any, moto_place: S3Place, server: Refusals, monkeypatch: pytest.MonkeyPatch
) -> None:
    import warmspare.retain.removal

    removal = warmspare.retain.removal
    monkeypatch.setattr(removal, "_BATCH", 2)
    monkeypatch.setattr(removal, "CLOCK_GRAIN_S", -3600.0)  # the orphans are as young as the point
    far.sync()
    for number in range(5):
        key = f"{moto_place.prefix}/{layout.pack_key('vm', PackId('d' * 32, number))}"
        client.put_object(Bucket=moto_place.bucket, Key=key, Body=b"left")
    server.refuse("DeleteObjects", status=200, keys=lambda key: key.endswith("/000001.pack"))
    server.refuse("DeleteObject", keys=lambda key: key.endswith("/000001.pack"))
    asked = ("prune", "--repo", far.repo, "--yes", "--older-than", "-1s")
    monkeypatch.setattr("warmspare.config.values.duration", lambda text: -60.0 if text == "-1s" else 86400.0)
    done = command(*asked)
    assert done.code == 4 and "1 objects and 0 uploads" in done.last("error")["message"]
    assert done.last("prune.done")["objects"] == 4 and done.last("prune.done")["objects_left"] == 1
    assert [each["key"][-11:] for each in done.all("prune.object") if not each["removed"]] == ["000001.pack"]
    [warning] = warnings(done)
    assert warning["right"] == "s3:DeleteObject" and "000001.pack" in warning["object"] and warning["count"] == 1
    assert {key[-11:] for key in unnamed(client, moto_place)} == {"000001.pack"}
    server.allow()
    assert command(*asked).code == 0 and not unnamed(client, moto_place)


# what lies on this host; as a user who may not remove it all, since root may


@pytest.fixture
def open_home() -> Iterator[Path]:
    """A place that any user can write to."""
    with tempfile.TemporaryDirectory(prefix="warmspare-test-") as home:
        Path(home).chmod(0o777)
        yield Path(home)


def plant(place: Path, name: str) -> Path:
    """A directory of ours, with a file that nobody else can remove."""
    (place / name).mkdir(parents=True)
    (place / name / "odd").write_bytes(b"left")
    os.utime(place / name / "odd", (0, 0))
    return place / name


def give_away(home: Path, *but: Path) -> None:
    """All of it is nobody's then, except these and what is in them."""
    for path in [home, *home.rglob("*")]:
        if not any(path == one or one in path.parents for one in but):
            os.chown(path, 65534, 65534)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can leave what another user can't remove")
def test_leavings_on_this_host_that_can_not_be_removed(open_home: Path) -> None:
    """In the state directory, in the spool, and among a repository's unfinished files. None of it is met again."""
    disk, spool, state, repo = (open_home / name for name in ("disk.raw", "spool", "state", "repo"))
    disk.write_bytes(random.Random(1).randbytes(2 * MIB))
    disk.chmod(0o666)

    def sync(*more: object) -> Outcome:
        done = as_nobody("sync", disk, "--vm", "vm", "--repo", repo, "--state", state, "--spool", spool, *more)
        assert done.code == 0, done
        return done

    made(repo)
    give_away(open_home)
    assert not warnings(sync("--new"))
    [home] = (state / "vm").iterdir()
    planted = [plant(home / name, "odd") for name in ("run", "unfinished", "carried")]
    run = "d" * 32
    planted += [plant(spool / "vm" / home.name / "vms" / "vm" / "packs", run)]
    planted += [plant(repo / ".tmp~" / "uploads" / "vms" / "vm" / "packs" / run, "000000.pack")]
    (planted[-1] / "odd").rename(planted[-1] / ("0" * 16))  # as the name of an unfinished file is
    give_away(open_home, *planted)
    for number in range(2):
        with disk.open("r+b") as file:
            file.seek(number * 100 * KIB)
            file.write(b"changed" * 999)
        done = sync()
        assert {each["action"]: each["right"] for each in warnings(done)} == {
            "file:delete": "write access",
            "unlink": "write access",
        }, done.events
        assert warnings(done, "unlink")[0]["count"] == 2
        found = sorted(path.name for path in home.glob("trash-*"))
        assert found == ["trash-000001", "trash-000002", "trash-000003"] and not (home / "run" / "odd").exists()
    give_away(open_home)
    assert not warnings(sync()) and not list(home.glob("trash-*"))
    assert not [path for path in [*spool.rglob("*"), *repo.rglob("*")] if run in str(path)]
    rig = Rig(open_home)
    rig.apply()
    assert same(disk, rig.replica)
