"""A headless Chromium over its debugging protocol: opens a page, asks it, takes pictures, notes every request."""

from __future__ import annotations

import asyncio
import base64
import itertools
import os
import shutil
import signal
import struct
import subprocess
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
START_S = 60.0


def program() -> str:
    """The browser. Fails with the package to install where there is none."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    assert found, "no Chromium: install the Debian package chromium-headless-shell (.ci/setup-system does)"
    return found


class Page:
    """One page. requests: every URL that it asked for. problems: what the browser complained of."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket, self._numbers = socket, itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._loaded = asyncio.Event()
        self.requests: list[str] = []
        self.problems: list[str] = []

    async def listen(self) -> None:
        async for message in self._socket:
            event = message.json()
            if "id" in event:
                self._answers.pop(event["id"]).set_result(event)
            elif event["method"] == "Network.requestWillBeSent":
                self.requests.append(event["params"]["request"]["url"])
            elif event["method"] == "Page.loadEventFired":
                self._loaded.set()
            elif event["method"] == "Log.entryAdded":
                self.problems.append(event["params"]["entry"]["text"])

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": params})
        answer = await asyncio.wait_for(self._answers[number], START_S)
        assert "error" not in answer, (method, answer)
        return dict(answer["result"])

    async def open(self, url: str) -> None:
        for domain in ("Network", "Page", "Log", "Runtime"):
            await self.call(f"{domain}.enable")
        self._loaded.clear()
        await self.call("Page.navigate", url=url)
        await asyncio.wait_for(self._loaded.wait(), START_S)

    async def evaluate(self, script: str) -> Any:
        """The value of an expression in the page."""
        done = await self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    async def picture(self, path: Path | None = None, **clip: float) -> bytes:
        """A PNG of the whole page, or of x, y, width, height of it at a scale; kept at `path`, if given."""
        more: dict[str, Any] = {"clip": clip} if clip else {}
        done = await self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, **more)
        data = base64.b64decode(done["data"])
        if path:
            path.write_bytes(data)
        return data

    async def colour(self, x: float, y: float) -> tuple[int, int, int]:
        """What a person sees at a point of the page."""
        return first_pixel(await self.picture(x=x, y=y, width=0.25, height=0.25, scale=8))


def first_pixel(png: bytes) -> tuple[int, int, int]:
    """The top left pixel of a PNG of 8 bits a channel."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    at, packed, channels = 8, b"", 3
    while at < len(png):
        length, kind = struct.unpack_from(">I4s", png, at)
        body = png[at + 8 : at + 8 + length]
        if kind == b"IHDR":
            depth, colour = body[8], body[9]
            assert depth == 8 and colour in (2, 6)
            channels = 3 if colour == 2 else 4
        elif kind == b"IDAT":
            packed += body
        at += 12 + length
    raw = zlib.decompress(packed)
    # Whatever the filter, the first pixel of the first row is predicted from nothing.
    red, green, blue = raw[1 : 1 + channels][:3]
    return red, green, blue


@asynccontextmanager
async def browser(home: Path) -> AsyncIterator[Page]:
    """A browser with one empty page, its profile below `home`."""
    profile = home / "profile"
    child = subprocess.Popen(  # noqa: ASYNC220
        [
            program(),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--hide-scrollbars",
            "--window-size=1280,1600",
            "--force-color-profile=srgb",
            "--remote-debugging-port=0",
            f"--user-data-dir={profile}",
            "about:blank",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        port = await _port(profile / "DevToolsActivePort", child)
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json") as answer:
                pages = [each for each in await answer.json() if each["type"] == "page"]
            async with session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                page = Page(socket)
                listener = asyncio.create_task(page.listen())
                try:
                    yield page
                finally:
                    listener.cancel()
                    await asyncio.gather(listener, return_exceptions=True)
    finally:
        os.killpg(child.pid, signal.SIGKILL)  # Debian's command may be a script, which does not pass on a signal
        child.wait(timeout=30)


async def _port(path: Path, child: subprocess.Popen[bytes]) -> int:
    for _ in range(int(START_S / 0.05)):
        assert child.poll() is None, f"the browser ended with {child.returncode}"
        if path.exists() and (text := path.read_text()).count("\n"):
            return int(text.splitlines()[0])
        await asyncio.sleep(0.05)
    raise AssertionError("the browser did not start")
