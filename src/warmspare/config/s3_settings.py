"""What an S3 server's site demands of requests, as the configuration and `--s3` say it; knows no server."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar, get_args

from warmspare.config import values
from warmspare.errors import ConfigError

if TYPE_CHECKING:
    from warmspare.config.table import TomlTable

T = TypeVar("T")
D = TypeVar("D")

Encryption = Literal["AES256", "aws:kms", "aws:kms:dsse"]
Checksum = Literal["auto", "none", "md5", "crc32c", "sha256", "crc64nvme"]
Addressing = Literal["auto", "path", "virtual"]

KEYS = ("encryption", "kms_key", "bucket_key", "checksum", "addressing", "requester_pays", "sign_payload")

_ENCRYPTIONS: tuple[Encryption, ...] = get_args(Encryption)
_CHECKSUMS: tuple[Checksum, ...] = get_args(Checksum)
_ADDRESSINGS: tuple[Addressing, ...] = get_args(Addressing)
_KMS_KEY = re.compile(r"[A-Za-z0-9:/_-]{1,512}")
_SWITCHES = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class S3Settings:
    """See Site in store/s3/manner.py, which has the same fields."""

    encryption: Encryption | None = None
    kms_key: str | None = None
    bucket_key: bool | None = None
    checksum: Checksum = "auto"
    addressing: Addressing = "auto"
    requester_pays: bool = False
    sign_payload: bool | None = None

    @property
    def contradiction(self) -> tuple[str, str, str]:
        """A key that goes with none of the others, what is wrong, what to do; three times "" for none."""
        if self.kms_key is not None and self.encryption not in ("aws:kms", "aws:kms:dsse"):
            return "kms_key", "kms_key has a meaning with KMS only", 'set encryption = "aws:kms", or remove it'
        if self.bucket_key is not None and self.encryption != "aws:kms":
            return "bucket_key", "bucket_key has a meaning with KMS only", 'set encryption = "aws:kms", or remove it'
        return "", "", ""


@values.shaped(type="string", pattern=f"^{_KMS_KEY.pattern}$")
def kms_key(value: object) -> str:
    """A key of KMS: its ARN, its ID, or its alias."""
    text = values.text(value)
    if not _KMS_KEY.fullmatch(text):
        raise ConfigError("this is no key of KMS", hint="give its ARN, its ID, or alias/NAME")
    return text


class _Source(Protocol):
    """Where keys come from: a table of the file, or the pairs of an option."""

    def take(self, name: str, parse: Callable[[object], T], default: D) -> T | D: ...


class _Pairs:
    def __init__(self, found: dict[str, object]) -> None:
        self._found = found

    def take(self, name: str, parse: Callable[[object], T], default: D) -> T | D:
        return parse(self._found[name]) if name in self._found else default


def _read(source: _Source) -> S3Settings:
    return S3Settings(
        encryption=source.take("encryption", values.choice(_ENCRYPTIONS), None),
        kms_key=source.take("kms_key", kms_key, None),
        bucket_key=source.take("bucket_key", values.boolean, None),
        checksum=source.take("checksum", values.choice(_CHECKSUMS), "auto"),
        addressing=source.take("addressing", values.choice(_ADDRESSINGS), "auto"),
        requester_pays=source.take("requester_pays", values.boolean, False),
        sign_payload=source.take("sign_payload", values.boolean, None),
    )


def take(table: TomlTable) -> S3Settings:
    """The keys of a `[repository.NAME]`. What is wrong is noted there."""
    settings = _read(table)
    key, what, hint = settings.contradiction
    if key and ("encryption" not in table or settings.encryption is not None):  # else the value itself is noted
        table.wrong(what, hint, name=key)
    return settings


def parse(pairs: Sequence[str]) -> S3Settings:
    """Of KEY=VALUE each, as `--s3` has them; KEY alone is KEY=true. ConfigError for what is wrong."""
    found: dict[str, object] = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        name = name.strip().replace("-", "_")
        if name not in KEYS:
            raise ConfigError("--s3 names something unknown", hint=f"give KEY=VALUE, of {', '.join(KEYS)}")
        if name in found:
            raise ConfigError(f"--s3 gives {name} twice", hint="give it once")
        found[name] = _SWITCHES.get(value if sign else "true", value)
    try:
        settings = _read(_Pairs(found))
    except ConfigError as error:
        raise ConfigError(f"--s3: {error.what}", hint=error.hint) from None
    key, what, hint = settings.contradiction
    if key:
        raise ConfigError(f"--s3: {what}", hint=hint)
    return settings
