"""Recorded data of other projects: `shared` beside the checkout, or where HOSTLER_SHARED says."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from hostlerd.host.simulated.tree import Tree

BESIDE = Path(__file__).resolve().parents[5] / "shared"


def shared(*parts: str) -> Path:
    """A folder or file of the shared data; without it the test says what it misses."""
    path = Path(os.environ.get("HOSTLER_SHARED", BESIDE)).joinpath("data", *parts)
    if not path.exists():
        pytest.skip(
            f"{path} is missing: put the shared folder beside the checkout, or name it in HOSTLER_SHARED"
        )
    return path


def tree(files: Mapping[str, str], links: Mapping[str, str] | None = None) -> Tree:
    """A host with these files and links."""
    made = Tree()
    for path, content in files.items():
        if path.endswith("/"):
            made.folder(path.rstrip("/"))
        else:
            made.put(path, content)
    for path, target in (links or {}).items():
        made.link_as_is(path, target)
    return made
