"""Fixtures of the end-to-end tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from rigs.images import samples as images


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real file system; built once, copied by each test."""
    return images.build(tmp_path_factory.mktemp("image") / "base.raw")
