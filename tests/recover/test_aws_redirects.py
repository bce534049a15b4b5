"""A redirect in place of an answer of EC2 or EBS: named, and not followed with a signature that is made for another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from warmspare.recover.aws.aws_errors import AwsError
from warmspare.recover.aws.client import Aws, AwsSettings

PAGE = b"<html><head><title>Sign in</title></head><body><p>elsewhere<br></body></html>"


@contextmanager
def answering(status: int, location: str = "", body: bytes = b"") -> Iterator[tuple[str, list[str]]]:
    """A server that answers everything so: its URL, and what it was asked."""
    asked: list[str] = []

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.path)
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            if location:
                self.send_header("Location", location)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = do_POST

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()


@pytest.mark.parametrize("body", [PAGE, b""], ids=["page", "nothing"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("service", ["ec2", "ebs"])
async def test_a_redirect(service: str, status: int, body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(200) as (there, followed), answering(status, there + "/login", body) as (url, asked):
        for name, value in {"ENDPOINT_URL": url, "ACCESS_KEY_ID": "k", "SECRET_ACCESS_KEY": "s"}.items():
            monkeypatch.setenv(f"AWS_{name}", value)
        operation, more = {
            "ec2": ("describe_regions", {}),
            "ebs": ("list_snapshot_blocks", {"SnapshotId": "snap-0123456789abcdef0"}),
        }[service]
        async with Aws(AwsSettings(region="eu-central-1")) as aws:
            with pytest.raises(AwsError) as told:
                await aws.call(service, operation, about="this", **more)
        assert f"redirect ({status})" in told.value.sentence and "AWS_ENDPOINT_URL" in told.value.sentence
        assert not followed and len(asked) == 1 and not told.value.retryable
