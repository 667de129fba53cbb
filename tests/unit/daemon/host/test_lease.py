"""The descriptor that a claim hangs on: real pipes."""

from __future__ import annotations

import contextlib
import os

import trio
import trio.testing

from hostlerd.host.lease import Lease

SOON = 10.0


async def test_it_ends_with_its_last_copy_whatever_is_written() -> None:
    lease = Lease()
    copy = os.dup(lease.theirs)
    ended = trio.Event()

    async def wait() -> None:
        await lease.wait_ended()
        ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        os.write(copy, b"x" * 10_000)
        os.close(lease.theirs)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert not ended.is_set()
        os.close(copy)
        with trio.fail_after(SOON):
            await ended.wait()
    lease.close()


async def test_who_writes_into_it_for_ever_keeps_nobody_busy(autojump_clock: trio.testing.MockClock) -> None:
    lease, began = Lease(), trio.current_time()
    reads = 40

    async def write() -> None:
        for _ in range(reads):
            await trio.lowlevel.wait_writable(lease.theirs)
            with contextlib.suppress(BlockingIOError):
                while True:
                    os.write(lease.theirs, b"x" * 4096)
            await trio.testing.wait_all_tasks_blocked()
        os.close(lease.theirs)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        await lease.wait_ended()
    assert trio.current_time() - began >= 5
    lease.close()


async def test_it_ends_with_a_process_that_is_killed() -> None:
    lease = Lease()
    process = await trio.lowlevel.open_process(["sleep", "100"], pass_fds=[lease.theirs])
    os.close(lease.theirs)
    process.kill()
    with trio.fail_after(SOON):
        await lease.wait_ended()
    await process.wait()
    lease.close()


def test_neither_end_is_for_children() -> None:
    lease = Lease()
    assert not os.get_inheritable(lease.theirs)
    assert not os.get_inheritable(lease._ours)
    os.close(lease.theirs)
    lease.close()
