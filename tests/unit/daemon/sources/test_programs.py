"""Scopes of programs that come and go, told by folders."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from hostlerd.reconcile import Latch
from hostlerd.sources import programs

SOON, A_WHILE = 5.0, 0.1


@asynccontextmanager
async def listening(root: Path) -> AsyncIterator[Latch]:
    heard = Latch()
    async with trio.open_nursery() as nursery:
        await nursery.start(
            lambda task_status: programs.run(heard.kick, root=str(root), task_status=task_status)
        )
        yield heard
        nursery.cancel_scope.cancel()


async def told(heard: Latch, limit: float = SOON) -> bool:
    with trio.move_on_after(limit):
        await heard.wait()
        return True
    return False


async def test_a_scope_that_comes_and_goes_in_a_slice_that_was_not_there(tmp_path: Path) -> None:
    async with listening(tmp_path) as heard:
        (tmp_path / "user.slice").mkdir()
        assert not await told(heard, A_WHILE)
        (tmp_path / "hostler.slice").mkdir()
        assert await told(heard)
        scope = tmp_path / "hostler.slice" / "hostler-claim-1.scope"
        scope.mkdir()
        assert await told(heard)
        scope.rmdir()
        assert await told(heard)
        (tmp_path / "hostler.slice" / "else").mkdir()
        assert not await told(heard, A_WHILE)
