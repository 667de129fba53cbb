"""The live writer on real files: what the kernel answers, and what does not answer at all.

A FIFO that nobody reads is the hang: opening it for writing does not return.
"""

# ruff: noqa: ASYNC110, ASYNC222, ASYNC240 - real processes: nothing tells that they are gone, and files are small

from __future__ import annotations

import errno
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from hostler.errors import HostFailed, Wedged
from hostlerd.host.writer import LiveWriter


@pytest.fixture
async def writer(tmp_path: Path) -> AsyncIterator[LiveWriter]:
    writer = writer_for(tmp_path)
    yield writer
    await writer.aclose()
    await wait_nothing_left(writer)


def writer_for(root: Path, **options: object) -> LiveWriter:
    return LiveWriter(kernel_files=(f"{root}/", "/dev/full", "/proc/"), files=(f"{root}/",), **options)  # type: ignore[arg-type]


async def wait_nothing_left(writer: LiveWriter) -> None:
    with trio.fail_after(20):
        while writer.stuck():
            await trio.sleep(0.01)


@pytest.fixture
def hanging(tmp_path: Path) -> str:
    path = tmp_path / "hanging"
    os.mkfifo(path)
    return str(path)


def children() -> set[int]:
    tasks = Path("/proc/self/task").glob("*/children")
    return {int(pid) for task in tasks for pid in task.read_text().split()}


async def test_the_text_is_in_the_file(writer: LiveWriter, tmp_path: Path) -> None:
    path = tmp_path / "unbind"
    path.write_text("something longer than what comes")
    await writer.write(str(path), "0000:01:00.0 ü \\ \n", limit=5)
    assert path.read_text() == "0000:01:00.0 ü \\ \n"


async def test_writes_of_a_pass_share_a_process_and_aclose_ends_it(
    writer: LiveWriter, tmp_path: Path
) -> None:
    before = children()
    for name in ("a", "b", "c"):
        (tmp_path / name).touch()
        await writer.write(str(tmp_path / name), "1", limit=5)
        assert len(children() - before) == 1
    await writer.aclose()
    assert children() == before
    await writer.write(str(tmp_path / "a"), "2", limit=5)
    assert (tmp_path / "a").read_text() == "2"


async def test_the_writer_is_in_a_session_of_its_own(tmp_path: Path) -> None:
    adopted: list[int] = []

    async def adopt(pid: int) -> None:
        await trio.lowlevel.checkpoint()
        adopted.append(pid)

    writer = writer_for(tmp_path, adopt=adopt)
    (tmp_path / "a").touch()
    await writer.write(str(tmp_path / "a"), "1", limit=5)
    await writer.write(str(tmp_path / "a"), "2", limit=5)
    assert len(adopted) == 1
    assert os.getsid(adopted[0]) == adopted[0]
    await writer.aclose()


@pytest.mark.parametrize("error", [HostFailed("no such unit"), OSError(errno.ENOENT, "no bus")])
async def test_a_writer_that_systemd_does_not_take_writes_all_the_same(
    tmp_path: Path, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async def adopt(_: int) -> None:
        await trio.lowlevel.checkpoint()
        raise error

    writer = writer_for(tmp_path, adopt=adopt)
    (tmp_path / "a").touch()
    await writer.write(str(tmp_path / "a"), "1", limit=5)
    assert (tmp_path / "a").read_text() == "1"
    assert "stays in our own unit" in caplog.text
    await writer.aclose()


async def test_the_kernels_answer_is_an_os_error(writer: LiveWriter, tmp_path: Path) -> None:
    answers = {str(tmp_path / "none"): errno.ENOENT, str(tmp_path): errno.EPERM, "/dev/full": errno.ENOSPC}
    (tmp_path / "folder").mkdir()
    answers[str(tmp_path / "folder")] = errno.EISDIR
    for path, code in answers.items():
        with pytest.raises(OSError, match=r".") as caught:
            await writer.write(path, "1", limit=5)
        assert (caught.value.errno, caught.value.filename) == (code, path)


async def test_a_refused_write_keeps_the_process(writer: LiveWriter) -> None:
    before = children()
    for _ in range(2):
        with pytest.raises(OSError, match="No space left"):
            await writer.write("/dev/full", "1", limit=5)
    assert len(children() - before) == 1


async def test_a_write_that_hangs_is_left_behind_and_the_next_one_goes_on(
    writer: LiveWriter, hanging: str, tmp_path: Path
) -> None:
    (tmp_path / "a").touch()
    await writer.write(str(tmp_path / "a"), "1", limit=5)
    with pytest.raises(Wedged) as caught:
        await writer.write(hanging, "1", limit=0.2)
    assert caught.value.data["object"] == hanging
    assert "within 0.2 s" in caught.value.message
    await writer.write(str(tmp_path / "a"), "2", limit=5)
    assert (tmp_path / "a").read_text() == "2"
    await wait_nothing_left(writer)


async def test_a_hanging_write_delays_no_other(writer: LiveWriter, hanging: str, tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(expect_wedged, writer, hanging)
        with trio.fail_after(20):
            await writer.write(str(tmp_path / "a"), "1", limit=5)
        assert (tmp_path / "a").read_text() == "1"


async def expect_wedged(writer: LiveWriter, path: str) -> None:
    with pytest.raises(Wedged):
        await writer.write(path, "1", limit=0.5)


async def test_a_process_that_ends_half_way_is_no_success(writer: LiveWriter, hanging: str) -> None:
    before = children()

    async def kill() -> None:
        while not children() - before:
            await trio.sleep(0.01)
        for pid in children() - before:
            os.kill(pid, signal.SIGKILL)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(kill)
        with pytest.raises(BrokenPipeError, match="before it had answered"):
            await writer.write(hanging, "1", limit=30)


async def test_a_process_that_ended_between_two_writes_is_replaced(
    writer: LiveWriter, tmp_path: Path
) -> None:
    before = children()
    (tmp_path / "a").touch()
    await writer.write(str(tmp_path / "a"), "1", limit=5)
    (pid,) = children() - before
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    await writer.write(str(tmp_path / "a"), "2", limit=5)
    assert (tmp_path / "a").read_text() == "2"


async def test_a_cancelled_write_is_finished_by_the_process(writer: LiveWriter, hanging: str) -> None:
    with trio.move_on_after(0.3):
        await writer.write(hanging, "in the end", limit=30)
    assert list(writer.stuck().values()) == [hanging]
    reader = os.open(hanging, os.O_RDONLY | os.O_NONBLOCK)
    with trio.fail_after(20):
        await trio.lowlevel.wait_readable(reader)
    assert os.read(reader, 100) == b"in the end"
    os.close(reader)
    await wait_nothing_left(writer)


async def test_the_end_of_a_process_that_was_left_behind_is_told(writer: LiveWriter, hanging: str) -> None:
    pid = await writer.start()
    with trio.move_on_after(0.3):
        await writer.write(hanging, "in the end", limit=30)
    with trio.move_on_after(0.3) as scope:
        await writer.wait_ended(pid)
    assert scope.cancelled_caught
    # Another daemon, after a restart, waits for it, too.
    later = writer_for(Path(hanging).parent)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.wait_ended, pid)
        nursery.start_soon(later.wait_ended, pid)
        reader = os.open(hanging, os.O_RDONLY | os.O_NONBLOCK)
        nursery.cancel_scope.deadline = trio.current_time() + 20
    assert not nursery.cancel_scope.cancelled_caught
    os.close(reader)
    assert writer.stuck() == {}
    await writer.wait_ended(pid)


async def test_a_number_that_is_no_writers_has_ended(writer: LiveWriter) -> None:
    with trio.fail_after(20):
        await writer.wait_ended(os.getpid())


async def test_who_runs_a_program_is_there_as_long_as_that(writer: LiveWriter, hanging: str) -> None:
    """modprobe can hang as well: then it is what must be waited for, not the process that started it."""
    pid = await writer.start()
    with trio.move_on_after(0.5):
        await writer.run(["/bin/sh", "-c", f"read x < {hanging}"], limit=30)
    with trio.move_on_after(0.3) as scope:
        await writer.wait_ended(pid)
    assert scope.cancelled_caught
    Path(hanging).write_text("x\n")
    with trio.fail_after(20):
        await writer.wait_ended(pid)


async def test_a_program_is_killed_and_who_runs_it_ends_by_itself(writer: LiveWriter) -> None:
    pid = await writer.start()
    with pytest.raises(Wedged) as caught:
        await writer.run(["/bin/sleep", "60"], limit=0.3)
    assert caught.value.data["pid"] == pid
    status = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert status is not None
    assert (status.si_code, status.si_status) == (os.CLD_EXITED, 0)


async def test_a_program_and_its_exit_status(writer: LiveWriter) -> None:
    assert await writer.run(["/bin/true"], limit=5) == 0
    assert await writer.run(["/bin/sh", "-c", 'echo "$0" out; exit 3', "a b"], limit=5) == 3
    assert await writer.run(["/bin/sh", "-c", "kill -9 $$"], limit=5) == -signal.SIGKILL
    with pytest.raises(FileNotFoundError):
        await writer.run(["/bin/no-such-program"], limit=5)


async def test_a_program_that_hangs_is_killed_with_its_children(writer: LiveWriter) -> None:
    with pytest.raises(Wedged, match="sleep 60"):
        await writer.run(["/bin/sleep", "60"], limit=0.3)
    await wait_nothing_left(writer)


@pytest.mark.parametrize("path", ["/etc/passwd", "sys/x", "/proc/../etc/passwd", "//proc/x", ""])
async def test_other_files_are_not_touched(writer: LiveWriter, path: str) -> None:
    with pytest.raises(PermissionError, match="not among what hostler may touch"):
        await writer.write(path, "1", limit=5)
    with pytest.raises(PermissionError, match="not among"):
        await writer.replace_file(path, "1")
    with pytest.raises(PermissionError, match="not among"):
        await writer.run([path], limit=5)


async def test_a_file_is_put_in_place_and_removed(writer: LiveWriter, tmp_path: Path) -> None:
    path = tmp_path / "new" / "folders" / "90-hostler.rules"
    await writer.replace_file(str(path), "one")
    await writer.replace_file(str(path), "two")
    assert path.read_text() == "two"
    assert path.stat().st_mode & 0o777 == 0o644
    await writer.replace_file(str(path), None)
    await writer.replace_file(str(path), None)
    assert list(path.parent.iterdir()) == []


async def test_a_file_that_cannot_be_put_in_place_leaves_nothing(writer: LiveWriter, tmp_path: Path) -> None:
    (tmp_path / "folder" / "in the way").mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        await writer.replace_file(str(tmp_path / "folder"), "text")
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


async def test_nothing_of_ours_is_inherited(writer: LiveWriter, tmp_path: Path) -> None:
    secret = os.open(tmp_path, os.O_RDONLY)
    (tmp_path / "a").touch()
    before = children()
    await writer.write(str(tmp_path / "a"), "1", limit=5)
    (pid,) = children() - before
    links = {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
    os.close(secret)
    assert not any(link.startswith(str(tmp_path)) for link in links)
    assert b"HOME=" not in Path(f"/proc/{pid}/environ").read_bytes()


async def test_a_write_cancelled_while_systemd_is_asked_leaves_no_process(tmp_path: Path) -> None:
    async def adopt(_: int) -> None:
        await trio.sleep_forever()

    writer = writer_for(tmp_path, adopt=adopt)
    (tmp_path / "a").write_text("before")
    with trio.move_on_after(0.1):
        await writer.write(str(tmp_path / "a"), "1", limit=5)
    await wait_nothing_left(writer)
    assert (tmp_path / "a").read_text() == "before"


async def test_no_process_can_be_started(
    writer: LiveWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / "no-python"))
    (tmp_path / "a").touch()
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(FileNotFoundError):
        await writer.write(str(tmp_path / "a"), "1", limit=5)
    assert len(os.listdir("/proc/self/fd")) == before


async def test_a_text_longer_than_a_pipe_holds(writer: LiveWriter, tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    await writer.write(str(tmp_path / "a"), "x" * 300_000, limit=5)
    assert (tmp_path / "a").stat().st_size == 300_000


async def test_a_process_started_ahead_does_the_next_write(writer: LiveWriter, hanging: str) -> None:
    pid = await writer.start()
    assert pid == await writer.start()
    with pytest.raises(Wedged) as caught:
        await writer.write(hanging, "1", limit=0.1)
    assert caught.value.data["pid"] == pid


async def test_what_wakes_a_device_is_read_by_the_process(writer: LiveWriter, tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_bytes(bytes(range(256)) * 16)
    assert await writer.read(str(path), size=4, limit=5) == b"\0\1\2\3"
    assert await writer.read(str(path), size=4096, limit=5) == path.read_bytes()
    path.write_bytes(b"")
    assert await writer.read(str(path), size=4, limit=5) == b""


async def test_a_read_that_does_not_return_is_left_behind(writer: LiveWriter, hanging: str) -> None:
    with pytest.raises(Wedged, match="did not return"):
        await writer.read(hanging, size=4, limit=0.2)


async def test_reading_what_is_not_there_or_not_ours(writer: LiveWriter, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await writer.read(f"{tmp_path}/none", size=4, limit=5)
    with pytest.raises(PermissionError):
        await writer.read("/etc/shadow", size=4, limit=5)
