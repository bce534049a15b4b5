"""Traits of S3 servers that nothing here may rest on: see docs/s3-servers.md."""

from __future__ import annotations

import ast
import itertools
import random
import re
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

import warmspare
from rig import MIB, Rig, random_disk, scribble
from warmspare.model.ids import PackId, RunId
from warmspare.model.keyparts import encode_name
from warmspare.store import layout
from warmspare.store.contract import Upload
from warmspare.store.directory.directory_store import DirectoryStore

SOURCE = Path(warmspare.__file__).parent


@pytest.fixture
def uploaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of uploads in parts, as they begin."""
    keys: list[str] = []
    real = DirectoryStore.upload

    def upload(store: DirectoryStore, key: str) -> AbstractAsyncContextManager[Upload]:
        keys.append(key)
        return real(store, key)

    monkeypatch.setattr(DirectoryStore, "upload", upload)
    return keys


def test_no_two_runs_complete_an_upload_under_one_key(tmp_path: Path, uploaded: list[str]) -> None:
    """Servers ignore conditions on it, or let several win. So no key may ever be wanted by two: not by syncs one after
    the other, nor by one that lost its state, nor by one of another host whose state is older."""
    rig, rng = Rig(tmp_path), random.Random(1)
    random_disk(rig.disk, 8 * MIB, rng)
    rig.sync()
    for state in (rig.state, tmp_path / "other", rig.state, tmp_path / "lost"):
        scribble(rig.disk, rng)
        rig.sync(state=state)
    kinds = {key.split("/")[2] for key in uploaded}
    assert {"packs", "manifests", "tables"} >= kinds >= {"packs"}
    assert len(uploaded) == len(set(uploaded)) >= 5
    runs = {key.split("/")[3] for key in uploaded}
    assert len(runs) == 5 and all(re.fullmatch(r"[0-9a-f]{32}", run) for run in runs)


def keys() -> Iterator[str]:
    """A key of each kind that the layout knows, of VMs and runs that look alike."""
    for vm, run in itertools.product(("a", "points", "repository.json", "a.json"), ("0" * 32, "f" * 32)):
        makers = [getattr(layout, name) for name in dir(layout) if re.fullmatch(r"[a-z]+_key", name)]
        for make in makers:
            if make.__annotations__["return"] == "str" and make not in (layout.check_key, layout.repository_key):
                yield make(*_arguments(make, encode_name(vm), run))
    yield layout.repository_key()


def _arguments(make: Any, vm: str, run: str) -> list[Any]:
    names = make.__code__.co_varnames[: make.__code__.co_argcount]
    known = {"vm": vm, "run": run, "pack": PackId(RunId(run), 7), "token": run}
    return [known.get(name, run if make.__annotations__[name] == "str" else 7) for name in names]


def test_no_key_lies_below_another() -> None:
    """There are servers where a key below which others lie, or once lay, can be neither created nor read."""
    every = set(keys())
    assert len(every) > 20
    for key in every:
        above = key
        while "/" in above:
            above = above.rpartition("/")[0]
            assert above not in every, f"{key} lies below {above}"


def test_what_is_asked_of_s3() -> None:
    """Nothing is copied within a server, which may lose its retention; and no bytes are asked for that count from the
    end, for which a server may give the first ones."""
    asked: set[str] = set()
    for path in (SOURCE / "store").rglob("*.py"):
        text = path.read_text()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                if re.fullmatch(r"(put|get|head|list|delete|copy|create|complete|abort|upload)_[a-z_0-9]+", node.value):
                    asked.add(node.value)
                assert not node.value.startswith("bytes=-"), path
    assert {"put_object", "complete_multipart_upload", "list_objects_v2"} <= asked
    assert not {name for name in asked if "copy" in name}
