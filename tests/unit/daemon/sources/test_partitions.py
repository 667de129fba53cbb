"""Partitions that become invalid are told by their files."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from hostlerd.reconcile import Latch
from hostlerd.sources import partitions
from hostlerd.sources.quiet import QUIET

SCOPE = "machine-qemu\\x2d1\\x2dwin11.scope"
KIND = "cpuset.cpus.partition"


@asynccontextmanager
async def listening(root: Path) -> AsyncIterator[Latch]:
    heard = Latch()
    async with trio.open_nursery() as nursery:
        await nursery.start(
            lambda task_status: partitions.run(heard.kick, root=str(root), task_status=task_status)
        )
        yield heard
        nursery.cancel_scope.cancel()


async def told(heard: Latch, limit: float = 5.0) -> bool:
    with trio.move_on_after(limit):
        await heard.wait()
        return True
    return False


def group(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    (path / KIND).write_text("isolated\n")
    return path / KIND


async def test_a_file_that_says_something_else(tmp_path: Path) -> None:
    slice_, scope = group(tmp_path / "machine.slice"), group(tmp_path / "machine.slice" / SCOPE)
    async with listening(tmp_path) as heard:
        for file in (slice_, scope):
            file.write_text("isolated invalid (No cpu available due to hotplug)\n")
            assert await told(heard)


async def test_a_domain_that_starts_later_is_watched(tmp_path: Path) -> None:
    async with listening(tmp_path) as heard:
        scope = group(tmp_path / "machine.slice" / SCOPE)
        with trio.move_on_after(5):
            while not await told(heard, 2 * QUIET):
                scope.write_text("member\n")
            return
        raise AssertionError("never told")


async def test_others_files_are_not_ours(tmp_path: Path) -> None:
    file = group(tmp_path / "system.slice")
    group(tmp_path / "machine.slice")
    async with listening(tmp_path) as heard:
        file.write_text("member\n")
        (tmp_path / "machine.slice" / "cpuset.cpus").write_text("0-3\n")
        assert not await told(heard, 2 * QUIET)
