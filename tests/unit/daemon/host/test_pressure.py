"""The kernel's word that somebody waits for a CPU. Priority data on a socket stands in for a trigger's."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from hostlerd.host.pressure import LivePressure, wait_priority


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
        with near, far:
            yield near, far


async def test_priority_data_is_told_and_other_data_is_not(pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    far.send(b"x")
    with trio.move_on_after(0.05) as scope:
        await wait_priority(near.fileno())
    assert scope.cancelled_caught
    far.send(b"!", socket.MSG_OOB)
    with trio.fail_after(20):
        assert await wait_priority(near.fileno())


async def test_what_came_while_it_waited_is_told(pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    async with trio.open_nursery() as nursery:

        async def later() -> None:
            await trio.sleep(0.01)
            far.send(b"!", socket.MSG_OOB)

        nursery.start_soon(later)
        with trio.fail_after(20):
            assert await wait_priority(near.fileno())


async def test_the_end_is_told(pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    far.close()
    with trio.fail_after(20):
        assert not await wait_priority(near.fileno())


async def test_no_group_and_no_psi_are_no_errors_and_no_busy_loop(tmp_path: Path) -> None:
    """A plain file is no trigger: epoll refuses it, as the kernel refuses the write without PSI."""
    opened: list[int] = []
    async with trio.open_nursery() as nursery:

        async def wait() -> None:
            await LivePressure(str(tmp_path)).wait_starved("machine.slice")
            opened.append(1)

        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked(0.02)
        (tmp_path / "machine.slice").mkdir()
        (tmp_path / "machine.slice" / "cpu.pressure").write_text("")
        await trio.testing.wait_all_tasks_blocked(0.1)
        assert not opened
        assert (tmp_path / "machine.slice" / "cpu.pressure").read_bytes() == b"some 300000 2000000\0"
        nursery.cancel_scope.cancel()
