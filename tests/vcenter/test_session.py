"""The session at vCenter: what it trusts, how it logs in, and what it lives through."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import threading
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from pyVmomi import vim

from fakesite import Site
from rig import MIB
from vcenter.vspheretools import PATIENCE, Record, server, session_at
from warmspare.errors import ConfigError, SourceError
from warmspare.vsphere.api.faults import AnswerLostError
from warmspare.vsphere.api.session import SessionPatience, VsphereSession

SECRET = "s3cret-for-tests"


async def test_a_pinned_certificate_is_trusted(site: Site) -> None:
    record = Record()
    async with session_at(site, record) as session:
        assert session.thumbprint_sha1 == site.thumbprint_sha1
        assert await session.password() == site.password
    assert [event["again"] for event in record.of("vsphere.login")] == [False]
    assert site.journal("call", "Logout")
    assert SECRET not in repr(session.server) and SECRET not in str(record.list)


async def test_an_expired_certificate_is_the_same_certificate(site: Site, tmp_path: Path) -> None:
    """Pinned, it is known, in date or not; by its CA it is refused."""
    expire(site, tmp_path)
    async with session_at(site, thumbprint=site.thumbprint) as session:
        assert session.thumbprint_sha1 == site.thumbprint_sha1
    with pytest.raises(ConfigError, match="expired"):
        async with session_at(site, thumbprint=None, ca_file=site.certificate.certificate):
            pass


def expire(site: Site, folder: Path) -> None:
    """vCenter has a certificate from now on that was good until yesterday."""
    now, name = datetime.datetime.now(datetime.UTC), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "vcenter")])
    key = ec.generate_private_key(ec.SECP256R1())
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(now - datetime.timedelta(days=9))
        .not_valid_after(now - datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(site.host))]), False)
        .sign(key, hashes.SHA256())
    )
    plain = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "key").write_bytes(key.private_bytes(*plain))
    (folder / "certificate").write_bytes(made.public_bytes(Encoding.PEM))
    with site.lock:
        (folder / "key").replace(site.certificate.key)
        (folder / "certificate").replace(site.certificate.certificate)


async def test_a_wrong_thumbprint_is_refused_every_time(site: Site) -> None:
    """Also the second time in one object, and for a host name that pyVmomi would not check."""
    wrong = "00" * 32
    for _ in range(2):
        with pytest.raises(ConfigError, match="not the configured one"):
            async with session_at(site, thumbprint=wrong):
                pass
    session = VsphereSession(server(site, thumbprint=wrong), Record().events, PATIENCE)
    for _ in range(2):
        with pytest.raises(ConfigError, match="thumbprint"):
            await session.call("x", lambda: None)
    await session.close()
    assert not site.journal("call", "Login")


async def test_a_certificate_that_changes_is_refused(site: Site) -> None:
    async with session_at(site) as session:
        site.replace_certificate()
        session._stub.DropConnections()  # type: ignore[union-attr]
        for _ in range(2):
            with pytest.raises(ConfigError, match="not trusted"):
                await session.call("asking", lambda: session.content.rootFolder.name)


async def test_a_ca_file_decides_otherwise(site: Site, tmp_path: Path) -> None:
    async with session_at(site, thumbprint=None, ca_file=site.certificate.certificate) as session:
        assert session.thumbprint_sha1 == site.thumbprint_sha1
    with pytest.raises(ConfigError, match="not trusted"):
        async with session_at(site, thumbprint=None):
            pass
    with pytest.raises(ConfigError, match="CA file"):
        async with session_at(site, thumbprint=None, ca_file=tmp_path / "none.pem"):
            pass


async def test_a_wrong_login_is_tried_once(site: Site) -> None:
    with pytest.raises(ConfigError, match="refuses the login of replicator") as caught:
        async with session_at(site, password=lambda: "wr0ng-pass"):
            pass
    assert "wr0ng-pass" not in str(caught.value) and caught.value.exit_code == 2
    assert len(site.journal("call", "Login")) == 1


async def test_sessions_that_expire_are_renewed(site: Site) -> None:
    """With the password asked for anew: it may have been changed."""
    vm = site.add_vm("db", [MIB])
    record, asked = Record(), []

    def password() -> str:
        asked.append(1)
        return site.password

    async with session_at(site, record, password=password) as session:
        machine = session.bound(vim.VirtualMachine, vm.moref)
        for _ in range(3):
            assert site.expire_sessions() == 1
            assert await session.call("reading", lambda: machine.name) == "db"
        site.expire_sessions()
        names = await asyncio.gather(*(session.call("reading", lambda: machine.name) for _ in range(6)))
        assert names == ["db"] * 6
    assert len(asked) == 5 and [event["again"] for event in record.of("vsphere.login")] == [False] + [True] * 4


async def test_a_session_that_never_holds_is_given_up(site: Site) -> None:
    site.rule("RetrievePropertiesEx", fault="NotAuthenticated")
    site.rule("RetrieveProperties", fault="NotAuthenticated")
    site.rule("Fetch", fault="NotAuthenticated")
    async with session_at(site) as session:
        with pytest.raises(SourceError, match="forgets the session"):
            await session.call("reading", lambda: session.content.rootFolder.name)
    assert len(site.journal("call", "Login")) < 8


@pytest.mark.parametrize("status", [0, 503])
async def test_vcenter_is_gone_for_a_while(site: Site, status: int) -> None:
    vm = site.add_vm("db", [MIB])
    record = Record()
    async with session_at(site, record) as session:
        machine = session.bound(vim.VirtualMachine, vm.moref)
        site.gone(1.0, status)
        began = time.monotonic()
        assert await session.call("reading", lambda: machine.name) == "db"
        assert time.monotonic() - began > 0.8
        assert len(record.of("source.retry")) > 3
        impatient = SessionPatience(deadline_s=0.3, backoff_s=0.05, backoff_most_s=0.1)
        site.gone(1.5, status)
        with pytest.raises(SourceError, match="can't be reached") as caught:
            async with session_at(site, patience=impatient):
                pass
        assert caught.value.retryable and caught.value.exit_code == 3


async def test_no_such_host_fails_at_once(site: Site) -> None:
    record = Record()
    with pytest.raises(SourceError, match="can't be reached"):
        async with session_at(site, record, host="vcenter.invalid"):
            pass
    assert not record.of("source.retry")


async def test_garbage_is_tried_again(site: Site) -> None:
    async with session_at(site) as session:
        site.rule("CurrentTime", http=502, times=1)
        site.rule("CurrentTime", drop="after", times=1)
        clock = session.bound(vim.ServiceInstance, "ServiceInstance")
        assert await session.call("asking the time", clock.CurrentTime)
        site.rule("CurrentTime", drop="before", times=1)
        with pytest.raises(AnswerLostError):
            await session.once("asking the time", clock.CurrentTime)
        with pytest.raises(SourceError, match="404"):
            site.rule("CurrentTime", http=404)
            await session.call("asking the time", clock.CurrentTime)


async def test_a_cancel_leaves_no_thread_at_work(site: Site) -> None:
    site.rule("CurrentTime", delay_s=30.0)
    patience = SessionPatience(cancel_s=0.1, keep_alive_s=300.0)
    async with session_at(site, patience=patience) as session:
        clock = session.bound(vim.ServiceInstance, "ServiceInstance")
        task = asyncio.create_task(session.call("asking the time", clock.CurrentTime))
        while not site.rules()[0]["used"]:  # noqa: ASYNC110  (the journal tells of a call when it is over)
            await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    until = time.monotonic() + 25  # the answer would come after 30
    for thread in threading.enumerate():
        if thread.name.startswith("vsphere"):
            await asyncio.to_thread(thread.join, until - time.monotonic())
            assert not thread.is_alive()


async def test_an_idle_session_is_kept_alive(site: Site) -> None:
    async with session_at(site, patience=SessionPatience(keep_alive_s=0.05)):
        async with asyncio.timeout(60):
            while len(site.journal("call", "CurrentTime")) < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
