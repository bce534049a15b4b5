"""VMs by tag. Tags are not in SOAP but in vCenter's REST API (/api, vCenter 7.0 U2 and later), which has sessions of
its own; one lives for one search."""

from __future__ import annotations

import base64
import http.client
import json
from typing import Any
from urllib.parse import quote

from warmspare.errors import ConfigError, SourceError
from warmspare.vsphere.api import faults, garbled
from warmspare.vsphere.api.oddities import NotUnderstoodError
from warmspare.vsphere.api.session import VsphereSession

SESSION = "/api/session"
TAGGING = "/api/cis/tagging"


async def tagged(session: VsphereSession, tag: str) -> list[str]:
    """The morefs of VMs that have a tag themselves. tag: NAME or CATEGORY/NAME. ConfigError where there is no such
    tag, or several categories have it. Folders and hosts that have it do not count."""
    what = f"looking for VMs with tag {tag}"
    password = await session.password()
    return await session.call(what, lambda: _search(session, tag, password))


def _search(session: VsphereSession, tag: str, password: str) -> list[str]:
    rest = _Rest(session)
    rest.log_in(password)
    try:
        found = [one for one in _tags(rest) if tag in (one[0], one[1])]
        if len(found) != 1:
            names = ", ".join(sorted(full for _, full, _ in found)[:5])
            raise ConfigError(
                f"several tags are called {tag!r}: {names}" if found else f"there is no tag {tag!r}",
                where=session.where,
                hint="write it as CATEGORY/NAME, as vCenter shows it",
            )
        path = f"{TAGGING}/tag-association/{quote(found[0][2], safe='')}?action=list-attached-objects"
        attached = [(_text(each, "type"), _text(each, "id")) for each in _list(rest.ask("POST", path))]
        return [moref for kind, moref in attached if kind == "VirtualMachine"]
    finally:
        rest.log_out()


def _tags(rest: _Rest) -> list[tuple[str, str, str]]:
    """(name, category/name, ID) of every tag."""
    categories: dict[str, str] = {}
    found = []
    for tag_id in map(_string, _list(rest.ask("GET", f"{TAGGING}/tag"))):
        tag = rest.ask("GET", f"{TAGGING}/tag/{quote(tag_id, safe='')}")
        name, category = _text(tag, "name"), _text(tag, "category_id")
        if category not in categories:
            told = rest.ask("GET", f"{TAGGING}/category/{quote(category, safe='')}")
            categories[category] = _text(told, "name")
        found.append((name, f"{categories[category]}/{name}", tag_id))
    return found


def _list(told: Any) -> list[Any]:
    if not isinstance(told, list):
        raise NotUnderstoodError(f"{type(told).__name__} where a list of tags is due")
    return told


def _text(told: Any, name: str) -> str:
    """A text of a JSON object."""
    if not isinstance(told, dict) or name not in told:
        raise NotUnderstoodError(f"a tag, or what has one, without {name}")
    return _string(told[name])


def _string(told: Any) -> str:
    if not isinstance(told, str):
        raise NotUnderstoodError(f"{type(told).__name__} where a text is due")
    return told


class _Rest:
    """The REST API in one connection. Blocks; trouble is raised as it came, to be retried by the session."""

    def __init__(self, session: VsphereSession) -> None:
        server = session.server
        self._user, self._where = server.user, session.where
        self._connection = http.client.HTTPSConnection(
            server.host, server.port, timeout=session.patience.call_s, context=session.context
        )
        self._answer_s = session.patience.answer_s
        self._headers: dict[str, str] = {}
        self._secrets: tuple[str, ...] = ()

    def log_in(self, password: str) -> None:
        pair = base64.b64encode(f"{self._user}:{password}".encode()).decode()
        self._secrets = (password, pair)
        token = _string(self.ask("POST", SESSION, {"Authorization": f"Basic {pair}"}))
        self._secrets = (password, pair, token)
        self._headers = {"vmware-api-session-id": token}

    def log_out(self) -> None:
        try:
            if self._headers:
                self.ask("DELETE", SESSION)
        except faults.TROUBLE + (ConfigError, SourceError):  # noqa: RUF005
            pass  # it ends by itself
        finally:
            self._connection.close()

    def ask(self, method: str, path: str, headers: dict[str, str] | None = None) -> Any:
        try:
            self._connection.request(method, path, headers=self._headers if headers is None else headers)
            with garbled.within(self._connection, self._answer_s):
                answer = self._connection.getresponse()
                data = garbled.whole(answer)
        except faults.TROUBLE:
            self._connection.close()
            raise
        if answer.status in (401, 403):
            raise ConfigError(
                f"vCenter's REST API refuses {self._user} (HTTP {answer.status})",
                where=self._where,
                hint="the user must be able to read tags; or find VMs by folder or name",
            )
        if answer.status >= 500 or 300 <= answer.status < 400:
            self._connection.close()
            raise garbled.refused(answer, data, self._secrets)
        if answer.status >= 400:
            raise ConfigError(
                f"vCenter has no tags at {path.partition('?')[0]} (HTTP {answer.status})",
                where=self._where,
                hint="tags need vCenter 7.0 U2 or later; find VMs by folder or name",
            )
        if answer.status == 204 and not data:
            return None
        garbled.demand_bounded(data)
        try:
            return json.loads(data)
        except (ValueError, RecursionError):
            self._connection.close()
            raise garbled.instead(answer.status, data, self._secrets) from None
