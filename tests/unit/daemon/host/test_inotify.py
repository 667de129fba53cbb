"""Waiting for a path to be there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio

from hostlerd.host.inotify import appearances


async def test_a_file_that_is_made_or_moved_there(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.touch()
    for make in (Path.touch, other.rename):
        with appearances([str(tmp_path / "socket"), str(tmp_path / "elsewhere" / "socket")]) as seen:
            make(tmp_path / "socket")
            with trio.fail_after(20):
                await seen.wait()
        (tmp_path / "socket").unlink()


async def test_what_happened_before_the_wait_counts_and_other_files_do_not(tmp_path: Path) -> None:
    with appearances([str(tmp_path / "socket")]) as seen:
        (tmp_path / "other").touch()
        (tmp_path / "sockets").touch()
        with trio.move_on_after(0.05) as scope:
            await seen.wait()
        assert scope.cancelled_caught
        (tmp_path / "socket").touch()
        with trio.fail_after(20):
            await seen.wait()


async def test_folders_on_the_way_count(tmp_path: Path) -> None:
    path = tmp_path / "libvirt" / "deep" / "socket"
    for step in (path.parent.parent, path.parent):
        with appearances([str(path)]) as seen:
            step.mkdir()
            with trio.fail_after(20):
                await seen.wait()


async def test_a_folder_that_goes_away_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "libvirt"
    folder.mkdir()
    with appearances([str(folder / "socket")]) as seen:
        folder.rmdir()
        with trio.fail_after(20):
            await seen.wait()


def test_the_descriptor_is_closed(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with appearances([str(tmp_path / "socket")]):
        assert len(os.listdir("/proc/self/fd")) == before + 1
    with pytest.raises(KeyError), appearances([str(tmp_path / "socket")]):
        raise KeyError
    assert len(os.listdir("/proc/self/fd")) == before
