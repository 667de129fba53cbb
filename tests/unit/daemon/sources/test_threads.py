"""vCPUs that come and go, told by the folders of their control groups."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from hostlerd.reconcile import Latch
from hostlerd.sources import threads
from hostlerd.sources.quiet import QUIET

SCOPE = "machine-qemu\\x2d1\\x2dwin11.scope"


@asynccontextmanager
async def listening(root: Path) -> AsyncIterator[Latch]:
    heard = Latch()
    async with trio.open_nursery() as nursery:
        await nursery.start(
            lambda task_status: threads.run(heard.kick, roots=(str(root),), task_status=task_status)
        )
        yield heard
        nursery.cancel_scope.cancel()


async def told(heard: Latch) -> bool:
    with trio.move_on_after(5):
        await heard.wait()
        return True
    return False


async def untold(heard: Latch) -> bool:
    with trio.move_on_after(2 * QUIET):
        await heard.wait()
        return False
    return True


def running(root: Path) -> Path:
    folder = root / "machine.slice" / SCOPE / "libvirt"
    (folder / "vcpu0").mkdir(parents=True)
    return folder


async def test_a_vcpu_comes_and_goes(tmp_path: Path) -> None:
    folder = running(tmp_path)
    async with listening(tmp_path) as heard:
        (folder / "vcpu1").mkdir()
        assert await told(heard)
        (folder / "vcpu1").rmdir()
        assert await told(heard)
        (folder / "iothread1").mkdir()
        assert await told(heard)


async def test_what_is_no_thread_is_not_told(tmp_path: Path) -> None:
    folder = running(tmp_path)
    async with listening(tmp_path) as heard:
        (folder / "emulator").mkdir()
        (tmp_path / "system.slice" / "x.service").mkdir(parents=True)
        assert await untold(heard)


async def test_a_domain_that_starts_later_is_watched_wherever_it_is(tmp_path: Path) -> None:
    async with listening(tmp_path) as heard:
        folder = running(tmp_path)
        assert await told(heard)
        (folder / "vcpu1").mkdir()
        assert await told(heard)
        other = tmp_path / "gaming.slice" / "gaming-deep.slice" / SCOPE / "libvirt"
        (other / "vcpu0").mkdir(parents=True)
        assert await told(heard)
        (other / "vcpu1").mkdir()
        assert await told(heard)


async def test_a_domain_that_stops_and_starts_again(tmp_path: Path) -> None:
    folder = running(tmp_path)
    async with listening(tmp_path) as heard:
        (folder / "vcpu0").rmdir()
        folder.rmdir()
        folder.parent.rmdir()
        assert await told(heard)
        again = running(tmp_path)
        assert await told(heard)
        (again / "vcpu1").mkdir()
        assert await told(heard)


async def test_many_at_once_are_told_once(tmp_path: Path) -> None:
    folder = running(tmp_path)
    async with listening(tmp_path) as heard:
        for vcpu in range(1, 200):
            (folder / f"vcpu{vcpu}").mkdir()
        assert await told(heard)
        assert await untold(heard)
