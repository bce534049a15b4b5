"""VMs by tag, over the part of vCenter's REST API that the simulator has."""

from __future__ import annotations

import base64
import json
import ssl
import urllib.error
import urllib.request
from typing import Any

import pytest

from fakesite import Site
from rig import MIB


def test_vms_by_tag(site: Site) -> None:
    """As the REST API tells: a session of its own, categories, tags, and what they are attached to."""
    vms = [site.add_vm(f"vm{number}", [MIB], tags=["dr/gold"] if number else ["dr/silver"]) for number in range(3)]
    trusting = ssl.create_default_context(cafile=str(site.certificate.certificate))
    base = f"https://{site.host}:{site.port}/api"

    def ask(path: str, headers: dict[str, str], body: object = None, method: str = "") -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(base + path, data, headers, method=method or ("POST" if data else "GET"))
        with urllib.request.urlopen(request, context=trusting) as answer:
            return json.loads(answer.read() or "null")

    def refused(status: int, path: str, headers: dict[str, str], method: str = "") -> None:
        with pytest.raises(urllib.error.HTTPError) as caught:
            ask(path, headers, method=method)
        assert caught.value.code == status

    def basic(password: str) -> dict[str, str]:
        return {"Authorization": "Basic " + base64.b64encode(f"{site.user}:{password}".encode()).decode()}

    refused(401, "/session", basic("wrong"), "POST")
    session = {"vmware-api-session-id": ask("/session", basic(site.password), method="POST")}
    found = [ask(f"/cis/tagging/tag/{tag_id}", session) for tag_id in ask("/cis/tagging/tag", session)]
    tags = {tag["name"]: tag for tag in found}
    assert set(tags) == {"gold", "silver"}
    assert ask(f"/cis/tagging/category/{tags['gold']['category_id']}", session)["name"] == "dr"
    assert len(ask("/cis/tagging/category", session)) == 1
    association = f"/cis/tagging/tag-association/{tags['gold']['id']}?action=list-attached-objects"
    gold = [{"type": "VirtualMachine", "id": vm.moref} for vm in vms[1:]]
    assert ask(association, session, method="POST") == gold
    both = {"tag_ids": [tag["id"] for tag in tags.values()]}
    on_tags = ask("/cis/tagging/tag-association?action=list-attached-objects-on-tags", session, both)
    assert {"tag_id": tags["gold"]["id"], "object_ids": gold} in on_tags and len(on_tags) == 2
    refused(404, "/cis/tagging/tag/urn:none", session)
    ask("/session", session, method="DELETE")
    refused(401, "/cis/tagging/tag", session)
