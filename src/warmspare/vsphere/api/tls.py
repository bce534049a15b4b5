"""How a vCenter's certificate is trusted: pinned by its SHA-256, or signed by a CA; refuses everything else.

pyVmomi's own check of thumbprints is not used: with a wrong one it leaves a context that verifies nothing, so that
the second connection succeeds. Here the certificate is fetched and compared first, and the context that comes of it
trusts that one certificate and never anything else.
"""

from __future__ import annotations

import hashlib
import hmac
import socket
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from warmspare.errors import ConfigError

NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME of OpenSSL, which the ssl module has no name for


@dataclass(frozen=True, slots=True)
class TlsTrust:
    """context: for every connection to that server. sha1: of its certificate, AA:BB:…, as VDDK wants it."""

    context: ssl.SSLContext = field(repr=False)
    sha1: str


def establish(host: str, port: int, thumbprint: str | None, ca_file: Path | None, timeout_s: float) -> TlsTrust:
    """Fetch the server's certificate and see whether it is to be trusted. Blocks.

    thumbprint: SHA-256, 64 hex digits with or without colons. ConfigError for a certificate that is not trusted;
    OSError where there is no connection.
    """
    if thumbprint:
        return _pinned(host, port, thumbprint.replace(":", "").lower(), timeout_s)
    where = f"{host}:{port}"
    try:
        context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"the CA file can't be used: {getattr(error, 'strerror', None) or error}", where=str(ca_file)
        ) from None
    try:
        certificate = _certificate(host, port, context, timeout_s)
    except ssl.SSLCertVerificationError as error:
        raise untrusted(error, where) from None
    return TlsTrust(context, _hex("sha1", certificate))


def untrusted(error: ssl.SSLCertVerificationError, where: str) -> ConfigError:
    """What to say when verification failed."""
    return ConfigError(
        f"vCenter's certificate is not trusted: {error.verify_message or error.reason}",
        where=where,
        hint="if it was renewed, check the new one and configure its SHA-256 thumbprint or its CA",
    )


def _pinned(host: str, port: int, thumbprint: str, timeout_s: float) -> TlsTrust:
    unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # used to look at the certificate, and for nothing else
    unverified.check_hostname = False
    unverified.verify_mode = ssl.CERT_NONE
    certificate = _certificate(host, port, unverified, timeout_s)
    seen = hashlib.sha256(certificate).hexdigest()
    if not hmac.compare_digest(seen, thumbprint):
        raise ConfigError(
            f"vCenter's certificate has the SHA-256 thumbprint {_colons(seen)}, not the configured one",
            where=f"{host}:{port}",
            hint="if it was renewed, check that on the server and configure the new thumbprint; if not, "
            "somebody stands between",
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # the very certificate is known, whatever name it bears
    context.load_verify_locations(cadata=ssl.DER_cert_to_PEM_cert(certificate))
    # It need not be a root, nor in date: a vCenter's often is not, and it is the very one that was configured.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VerifyFlags(NO_CHECK_TIME)
    return TlsTrust(context, _hex("sha1", certificate))


def _certificate(host: str, port: int, context: ssl.SSLContext, timeout_s: float) -> bytes:
    with (
        socket.create_connection((host, port), timeout_s) as plain,
        context.wrap_socket(plain, server_hostname=host) as secure,
    ):
        certificate = secure.getpeercert(binary_form=True)
    if not certificate:
        raise ssl.SSLError("the server showed no certificate")
    return certificate


def _hex(algorithm: str, certificate: bytes) -> str:
    return _colons(hashlib.new(algorithm, certificate, usedforsecurity=False).hexdigest())


def _colons(digits: str) -> str:
    return bytes.fromhex(digits).hex(":").upper()
