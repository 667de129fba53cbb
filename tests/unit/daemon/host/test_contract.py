"""The makers of the seam agree: what the simulated one answers, the live and the recorded ones answer too.

The same host is simulated, a folder and a tar file. Where the real kernel must be asked, the lab does it.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from hostlerd.host import Files, Writer
from hostlerd.host.files import RootFiles, TarFiles
from hostlerd.host.simulated.host import SimulatedHost
from hostlerd.host.simulated.tree import Tree
from hostlerd.host.writer import LiveWriter

DEVICE = "/sys/bus/pci/devices/0000:01:00.0"
MAKERS = ("simulated", "folder", "tar")


@pytest.fixture(scope="module")
def makers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Files]:
    host = SimulatedHost("desktop")
    folder = tmp_path_factory.mktemp("recorded")
    host.files.save(str(folder / "host"))
    with tarfile.open(folder / "host.tar.gz", "w:gz") as tar:
        tar.add(folder / "host", "host")
    return {
        "simulated": host.files,
        "folder": RootFiles(str(folder / "host")),
        "tar": TarFiles(str(folder / "host.tar.gz")),
    }


@pytest.fixture(params=MAKERS)
def files(makers: dict[str, Files], request: pytest.FixtureRequest) -> Files:
    return makers[request.param]


def test_files_are_read_through_links(files: Files) -> None:
    assert files.read(f"{DEVICE}/vendor") == "0x1002\n"
    assert files.read(f"{DEVICE}/driver_override") == "(null)\n"
    assert files.read(f"{DEVICE}/iommu_group/devices/0000:01:00.1/class") == "0x040300\n"


def test_links_are_told_as_they_are_stored(files: Files) -> None:
    assert files.readlink(DEVICE) == "../../../devices/pci0000:00/0000:00:01.0/0000:01:00.0"
    assert files.readlink(f"{DEVICE}/driver").endswith("bus/pci/drivers/amdgpu")
    assert files.readlink(f"{DEVICE}/iommu_group").endswith("kernel/iommu_groups/14")


def test_folders_are_listed(files: Files) -> None:
    assert set(files.listdir("/sys/kernel/iommu_groups/14/devices")) == {
        "0000:00:01.0",
        *(f"0000:01:00.{n}" for n in range(4)),
    }
    assert {"vendor", "driver", "iommu_group"} <= set(files.listdir(DEVICE))


def test_folders_and_links_of_a_folder(files: Files) -> None:
    assert {"power", "drm"} <= set(files.folders(DEVICE))
    assert not {"driver", "iommu_group", "vendor"} & set(files.folders(DEVICE))
    assert {"driver", "iommu_group", "subsystem"} == set(files.links(DEVICE))
    assert files.links(DEVICE)["driver"] == files.readlink(f"{DEVICE}/driver")
    for call in (files.folders, files.links):
        with pytest.raises(FileNotFoundError):
            call("/none")
        with pytest.raises(NotADirectoryError):
            call(f"{DEVICE}/vendor")


def test_lines_with_words(files: Files) -> None:
    assert files.lines_with(f"{DEVICE}/uevent", ["PCI_ID", "DRIVER"]) == ["DRIVER=amdgpu", "PCI_ID=1002:73BF"]
    assert files.lines_with(f"{DEVICE}/uevent", ["no such word"]) == []
    with pytest.raises(FileNotFoundError):
        files.lines_with("/none", ["x"])


def test_a_recording_has_no_devices(makers: dict[str, Files]) -> None:
    found = {name: files.device("/dev/dri/card0") for name, files in makers.items()}
    assert found == {"simulated": ("c", 226, 0), "folder": None, "tar": None}
    assert {files.device(path) for files in makers.values() for path in ("/none", f"{DEVICE}/vendor")} == {
        None
    }


@pytest.mark.parametrize("path", [f"{DEVICE}/vendor", f"{DEVICE}/driver", DEVICE, "/sys", "/"])
def test_what_exists(files: Files, path: str) -> None:
    assert files.exists(path)


@pytest.mark.parametrize(
    "path", ["/none", f"{DEVICE}/none", f"{DEVICE}/vendor/none", f"{DEVICE}/none/vendor"]
)
def test_what_does_not_exist(files: Files, path: str) -> None:
    assert not files.exists(path)
    for call in (files.read, files.listdir, files.readlink):
        with pytest.raises((FileNotFoundError, NotADirectoryError)):
            call(path)


def test_wrong_kinds(files: Files) -> None:
    with pytest.raises(NotADirectoryError):
        files.listdir(f"{DEVICE}/vendor")
    with pytest.raises(OSError, match=r".*"):
        files.read(DEVICE)
    with pytest.raises(OSError, match=r".*"):
        files.readlink(f"{DEVICE}/vendor")


def test_all_makers_show_the_same_host(makers: dict[str, Files]) -> None:
    recorded = dict[str, dict[str, str]]()
    for name, files in makers.items():
        tree = Tree()
        tree.record(files, "/")
        # What can only be written has no text; in a recording it is an empty file.
        recorded[name] = {path: text for path, text in tree.flat("/").items() if text}
    assert recorded["folder"] == recorded["simulated"]
    assert recorded["tar"] == recorded["simulated"]


# --- writers


@pytest.fixture(params=["simulated", "live"])
async def written(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[tuple[Writer, str, Callable[[str], str]]]:
    """A writer, the path of a file that takes what is written, and a reader of it."""
    if request.param == "simulated":
        host = SimulatedHost("desktop")
        yield host.writer, f"{DEVICE}/power/control", host.files.read
        return
    path = tmp_path / "control"
    path.write_text("on\n")
    writer = LiveWriter(kernel_files=(f"{tmp_path}/",), files=(f"{tmp_path}/",))
    yield writer, str(path), lambda path: Path(path).read_text()
    await writer.aclose()


async def test_a_write_is_there_when_it_returns(written: tuple[Writer, str, Callable[[str], str]]) -> None:
    writer, path, read = written
    await writer.write(path, "auto\n", limit=10)
    assert read(path) == "auto\n"


async def test_a_file_that_is_not_there(written: tuple[Writer, str, Callable[[str], str]]) -> None:
    writer, path, _ = written
    with pytest.raises(FileNotFoundError):
        await writer.write(f"{os.path.dirname(path)}/none", "x", limit=10)


async def test_what_is_read_is_what_is_there(written: tuple[Writer, str, Callable[[str], str]]) -> None:
    writer, path, read = written
    assert await writer.read(path, size=4096, limit=10) == read(path).encode()
    assert await writer.read(path, size=1, limit=10) == read(path).encode()[:1]
    with pytest.raises(FileNotFoundError):
        await writer.read(f"{os.path.dirname(path)}/none", size=4, limit=10)


async def test_a_folder_is_not_written(written: tuple[Writer, str, Callable[[str], str]]) -> None:
    writer, path, _ = written
    with pytest.raises(OSError, match=r".*"):
        await writer.write(os.path.dirname(path) + "/", "x", limit=10)


async def test_a_program_that_is_not_there(written: tuple[Writer, str, Callable[[str], str]]) -> None:
    with pytest.raises(FileNotFoundError):
        await written[0].run(["/sbin/no-such-program"], limit=10)


@pytest.mark.parametrize("maker", ["simulated", "live"])
async def test_files_of_our_own_are_put_and_removed(maker: str, tmp_path: Path) -> None:
    host = SimulatedHost("desktop")
    writer: Writer = host.writer if maker == "simulated" else LiveWriter(files=(f"{tmp_path}/",))
    files: Files = host.files if maker == "simulated" else RootFiles("/")
    path = f"{'/run' if maker == 'simulated' else tmp_path}/udev/rules.d/70-hostler.rules"
    for text in ("one\n", "two ü\n"):
        await writer.replace_file(path, text)
        assert files.read(path) == text
    await writer.replace_file(path, None)
    assert not files.exists(path)
    await writer.replace_file(path, None)
