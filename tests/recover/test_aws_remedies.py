"""What is said where AWS can't be asked, or refuses to answer: each is done as it is said, and AWS answers."""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from rigs.sites.simulator import Certificate
from suite.remedies import remedy
from warmspare.errors import WarmspareError
from warmspare.patience import Patience
from warmspare.recover.aws.client import Aws, AwsSettings

SETTINGS = AwsSettings(patience=Patience(pause_s=0.02, most_s=0.1, deadline_s=0.4, first_s=0.4))
KEYS = remedy("check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or the profile")
TOKEN = remedy("get new temporary credentials and run again")
NETWORK = remedy("check AWS_ENDPOINT_URL and the network path, and run again later")
GOOD = b"<DescribeRegionsResponse><regionInfo/></DescribeRegionsResponse>"


@dataclass
class Server:
    """Says yes to key `good` and to no session token but `new`. refused: the code for all others. answer: (status,
    body) to all, if given."""

    refused: str = "AuthFailure"
    answer: tuple[int, bytes] | None = None
    url: str = ""
    asked: list[str] = field(default_factory=list)

    def say(self, headers: Any) -> tuple[int, bytes]:
        if self.answer is not None:
            return self.answer
        good = "Credential=good/" in headers["Authorization"]
        if good and headers.get("X-Amz-Security-Token", "new") == "new":
            return 200, GOOD
        error = f"<Error><Code>{self.refused}</Code><Message>no</Message></Error>"
        return 403, f"<Response><Errors>{error}</Errors><RequestID>1</RequestID></Response>".encode()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(Server()) as made:
        yield made


class serving:
    def __init__(self, made: Server, tls: ssl.SSLContext | None = None) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, body = made.say(self.headers)
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "http://127.0.0.1:9/login")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_PUT = do_POST

            def log_message(self, *_: object) -> None:
                pass

        self.made, self.server = made, ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)

    def __enter__(self) -> Server:
        scheme = "https" if isinstance(self.server.socket, ssl.SSLSocket) else "http"
        self.made.url = f"{scheme}://127.0.0.1:{self.server.server_port}"
        Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self.made

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def env(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment in which AWS answers, and nothing of this host's own."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    (tmp_path / "config").write_text("[profile dr]\naws_access_key_id = good\naws_secret_access_key = s\n")
    for name, value in {
        "ENDPOINT_URL": server.url,
        "ACCESS_KEY_ID": "good",
        "SECRET_ACCESS_KEY": "s",
        "REGION": "eu-central-1",
        "EC2_METADATA_DISABLED": "true",
        "CONFIG_FILE": str(tmp_path / "config"),
        "SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
    }.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    return monkeypatch


async def ask(operation: str = "describe_regions", service: str = "ec2", **more: Any) -> None:
    async with Aws(SETTINGS) as aws:
        await aws.call(service, operation, about="this", **more)


Change = Callable[[pytest.MonkeyPatch, Server], None]


def put(**names: str | None) -> Change:
    """Set variables of AWS's, or take them away."""

    def work(env: pytest.MonkeyPatch, server: Server) -> None:
        for name, value in names.items():
            if value is None:
                env.delenv(f"AWS_{name}")
            else:
                env.setenv(f"AWS_{name}", value.replace("SERVER", server.url))

    return work


def wrong_key(code: str) -> Change:
    def work(env: pytest.MonkeyPatch, server: Server) -> None:
        server.refused = code
        env.setenv("AWS_ACCESS_KEY_ID", "bad")

    return work


def old_token(code: str) -> Change:
    def work(env: pytest.MonkeyPatch, server: Server) -> None:
        server.refused = code
        env.setenv("AWS_SESSION_TOKEN", "old")

    return work


def says(status: int = 200, body: bytes = b"") -> Change:
    """Whoever answers, for a while."""

    def work(env: pytest.MonkeyPatch, server: Server) -> None:
        server.answer = (status, body) if status else None

    return work


RIGHT_KEY, NEW_TOKEN, PASSED, ENDPOINT = (
    put(ACCESS_KEY_ID="good"),
    put(SESSION_TOKEN="new"),
    says(0),
    put(ENDPOINT_URL="SERVER"),
)


@pytest.mark.parametrize(
    ("breaks", "mends"),
    [
        pytest.param(wrong_key("UnrecognizedClientException"), RIGHT_KEY, marks=KEYS),
        pytest.param(wrong_key("InvalidClientTokenId"), RIGHT_KEY, marks=KEYS),
        pytest.param(wrong_key("SignatureDoesNotMatch"), RIGHT_KEY, marks=KEYS),
        pytest.param(wrong_key("InvalidSignatureException"), RIGHT_KEY, marks=KEYS),
        pytest.param(
            wrong_key("AuthFailure"),
            put(ACCESS_KEY_ID=None, SECRET_ACCESS_KEY=None, PROFILE="dr"),
            marks=remedy("check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or the profile, and this host's clock"),
        ),
        pytest.param(old_token("ExpiredToken"), NEW_TOKEN, marks=TOKEN),
        pytest.param(old_token("ExpiredTokenException"), NEW_TOKEN, marks=TOKEN),
        pytest.param(
            old_token("RequestExpired"),
            NEW_TOKEN,
            marks=remedy("get new temporary credentials, or set the clock, and run again"),
        ),
        pytest.param(
            put(ACCESS_KEY_ID=None, SECRET_ACCESS_KEY=None),
            put(ACCESS_KEY_ID="good", SECRET_ACCESS_KEY="s"),
            marks=remedy("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"),
        ),
        pytest.param(
            put(ACCESS_KEY_ID=None, SECRET_ACCESS_KEY=None),
            put(PROFILE="dr"),
            marks=remedy("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"),
        ),
        pytest.param(put(REGION=None), put(REGION="eu-west-1"), marks=remedy("give --region or set AWS_REGION")),
        pytest.param(
            put(PROFILE="gone"),
            put(PROFILE="dr"),
            marks=remedy("correct AWS_PROFILE, --profile, or profile in the recovery plan"),
        ),
        pytest.param(
            put(ENDPOINT_URL="nonsense"),
            ENDPOINT,
            marks=remedy(
                "correct AWS_REGION, AWS_ENDPOINT_URL or the service's own (AWS_ENDPOINT_URL_EC2, AWS_ENDPOINT_URL_EBS)"
            ),
        ),
        pytest.param(
            says(302),
            PASSED,
            marks=remedy(
                "check AWS_ENDPOINT_URL, the region, and what stands between here and AWS: a proxy, a login page"
            ),
        ),
        pytest.param(
            put(ENDPOINT_URL="http://127.0.0.1:9"),
            ENDPOINT,
            marks=remedy("check the network and the region and run again later"),
        ),
        pytest.param(says(503, b"<Response/>"), PASSED, marks=remedy("run again later")),
    ],
)
async def test_it_leads_on(server: Server, env: pytest.MonkeyPatch, breaks: Change, mends: Change) -> None:
    breaks(env, server)
    with pytest.raises(WarmspareError):
        await ask()
    mends(env, server)
    await ask()


@remedy("see whose it is; if it is one to trust, a proxy's, name its file by AWS_CA_BUNDLE")
async def test_a_certificate_that_nobody_vouches_for(env: pytest.MonkeyPatch, tmp_path: Path) -> None:
    certificate = Certificate.make(tmp_path, "127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.certificate, certificate.key)
    with serving(Server(), context) as server:
        env.setenv("AWS_ENDPOINT_URL", server.url)
        with pytest.raises(WarmspareError):
            await ask()
        env.setenv("AWS_CA_BUNDLE", str(certificate.certificate))
        await ask()


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(
            {"Blocks": [], "NextToken": "the same"},
            marks=remedy("run again; if it stays, tell AWS, or whoever runs the endpoint"),
        ),
        pytest.param({"Blocks": [5]}, marks=NETWORK),
    ],
)
async def test_a_listing_that_makes_no_sense(server: Server, env: pytest.MonkeyPatch, answer: Any) -> None:
    async def listed() -> list[dict[str, Any]]:
        async with Aws(SETTINGS) as aws:
            pages = aws.pages("ebs", "list_snapshot_blocks", "Blocks", about="x", SnapshotId="snap-0123456789abcdef0")
            return [each async for each in pages]

    server.answer = 200, json.dumps(answer).encode()
    with pytest.raises(WarmspareError):
        await listed()
    server.answer = 200, json.dumps({"Blocks": []}).encode()
    assert await listed() == []
