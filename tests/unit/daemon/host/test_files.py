"""Reading under a root: folders, tar files, hostile ones."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from hostler.errors import BadInput
from hostlerd.host import Files
from hostlerd.host.files import MAX_TEXT, RootFiles, TarFiles, open_files

LAYOUT = {
    "sys/devices/pci0000:00/0000:00:01.0/vendor": "0x8086\n",
    "sys/devices/pci0000:00/0000:00:01.0/driver": "->../../../bus/pci/drivers/pcieport",
    "sys/bus/pci/devices/0000:00:01.0": "->../../../devices/pci0000:00/0000:00:01.0",
    "sys/bus/pci/drivers/pcieport/bind": "",
    "sys/absolute": "->/sys/devices/pci0000:00",
    "sys/out": "->/etc/passwd",
    "sys/climb": "->../../../../../../../../etc/passwd",
    "sys/top": "->../../../sys/bus",
    "sys/loop": "->loop",
    "sys/loop1": "->loop2",
    "sys/loop2": "->loop1",
    "sys/broken": "->nowhere",
    "proc/cpuinfo": "processor\t: 0\n",
    "proc/bytes": "a\udcffb",
    "proc/long": "x" * (MAX_TEXT + 100),
}


def as_folder(tmp_path: Path) -> Files:
    for name, content in LAYOUT.items():
        path = tmp_path / "host" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content.startswith("->"):
            path.symlink_to(content[2:])
        else:
            path.write_bytes(content.encode(errors="surrogateescape"))
    return open_files(str(tmp_path / "host"))


def written(path: Path, members: dict[str, str], mode: str = "w", folder: str = "host/") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in members.items():
            member = tarfile.TarInfo(folder + name)
            data = content.encode(errors="surrogateescape")
            if content.startswith("->"):
                member.type, member.linkname, data = tarfile.SYMTYPE, content[2:], b""
            elif content.startswith("=>"):
                member.type, member.linkname, data = tarfile.LNKTYPE, content[2:], b""
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def as_tar(tmp_path: Path) -> Files:
    return open_files(str(written(tmp_path / "host.tar.bz2", LAYOUT, "w:bz2")))


@pytest.fixture(params=[as_folder, as_tar])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    make: Callable[[Path], Files] = request.param
    return make(tmp_path)


def test_reading(files: Files) -> None:
    assert files.read("/proc/cpuinfo") == "processor\t: 0\n"
    assert files.read("/sys/bus/pci/devices/0000:00:01.0/vendor") == "0x8086\n"
    assert files.read("/sys/absolute/0000:00:01.0/vendor") == "0x8086\n"
    assert files.read("/proc/../sys//bus/pci/drivers/./pcieport/bind") == ""
    assert files.read("/../../proc/cpuinfo") == "processor\t: 0\n"


def test_listing_and_links(files: Files) -> None:
    assert sorted(files.listdir("/")) == ["proc", "sys"]
    assert files.listdir("/sys/bus/pci/devices") == ["0000:00:01.0"]
    assert sorted(files.listdir("/sys/bus/pci/devices/0000:00:01.0")) == ["driver", "vendor"]
    assert sorted(files.listdir("/sys/top")) == ["pci"]
    assert files.readlink("/sys/bus/pci/devices/0000:00:01.0/driver") == "../../../bus/pci/drivers/pcieport"
    assert files.exists("/sys/bus/pci/devices/0000:00:01.0/driver/bind")


def test_bytes_that_are_no_text_are_replaced(files: Files) -> None:
    assert files.read("/proc/bytes") == "a\ufffdb"


def test_a_long_file_is_cut(files: Files) -> None:
    assert len(files.read("/proc/long")) == MAX_TEXT


@pytest.mark.parametrize(
    "path", ["/sys/out", "/sys/climb", "/sys/broken", "/nowhere", "/sys/loop", "/sys/loop1/x"]
)
def test_nothing_outside_is_reached(files: Files, path: str) -> None:
    assert os.path.exists("/etc/passwd")
    assert not files.exists(path)
    with pytest.raises(OSError):
        files.read(path)


def test_the_wrong_kind_is_an_error(files: Files) -> None:
    for call, path in [
        (files.read, "/sys/bus"),
        (files.read, "/proc/cpuinfo/x"),
        (files.listdir, "/proc/cpuinfo"),
        (files.listdir, "/nowhere"),
        (files.readlink, "/proc/cpuinfo"),
        (files.readlink, "/sys/nowhere"),
    ]:
        with pytest.raises(OSError):
            call(path)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_any_compression(tmp_path: Path, mode: str) -> None:
    path = written(tmp_path / "host.tar", {"proc/version": "Linux\n"}, mode)
    assert open_files(str(path)).read("/proc/version") == "Linux\n"


@pytest.mark.parametrize("folder", ["", "./", "./host/"])
def test_the_root_may_be_the_top(tmp_path: Path, folder: str) -> None:
    path = written(tmp_path / "host.tar", {"proc/version": "Linux\n"}, folder=folder)
    assert open_files(str(path)).read("/proc/version") == "Linux\n"


def test_hard_links_are_the_file(tmp_path: Path) -> None:
    path = written(tmp_path / "host.tar", {"proc/b": "=>host/proc/a", "proc/a": "text"})
    assert open_files(str(path)).read("/proc/b") == "text"


def test_members_that_climb_or_go_through_links_are_left_out(tmp_path: Path) -> None:
    members = {
        "host/proc/version": "Linux\n",
        "../evil": "x",
        "host/../../evil": "x",
        "/etc/shadow": "x",
        "host/link": "->/tmp",
        "host/link/evil": "x",
        "host/proc/version/below": "x",
        "host/proc/hard": "=>../../etc/passwd",
        ".": "x",
    }
    files = open_files(str(written(tmp_path / "host.tar", members, folder="")))
    assert sorted(files.listdir("/")) == ["link", "proc"]
    assert files.read("/proc/version") == "Linux\n"
    assert not files.exists("/proc/hard")


def test_devices_in_a_tar_are_left_out(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "host.tar", "w") as tar:
        for name, kind in [
            ("proc", tarfile.DIRTYPE),
            ("proc/fifo", tarfile.FIFOTYPE),
            ("proc/sda", tarfile.BLKTYPE),
        ]:
            member = tarfile.TarInfo(name)
            member.type = kind
            tar.addfile(member)
    assert open_files(str(tmp_path / "host.tar")).listdir("/proc") == []


def test_a_pipe_in_a_folder_does_not_hang(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    os.mkfifo(tmp_path / "proc" / "pipe")
    with pytest.raises(OSError, match="Invalid argument"):
        open_files(str(tmp_path)).read("/proc/pipe")


def refused(path: Path) -> str:
    with pytest.raises(BadInput) as caught:
        open_files(str(path))
    assert str(path) in caught.value.sentence
    return caught.value.message


@pytest.mark.parametrize(
    "content", [b"", b"text\n", b"BZh91AY&SY", b"\x1f\x8b\x08", b"\xfd7zXZ\0", b"x" * 10240]
)
def test_files_that_are_no_tar(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    assert refused(tmp_path / "file")


def test_a_tar_that_is_cut_off(tmp_path: Path) -> None:
    path = written(tmp_path / "host.tar.gz", LAYOUT, "w:gz")
    path.write_bytes(path.read_bytes()[:-20])
    refused(path)


def test_folders_and_tars_of_something_else(tmp_path: Path) -> None:
    assert "neither sys nor proc" in refused(tmp_path)
    assert "neither sys nor proc" in refused(written(tmp_path / "a.tar", {"etc/passwd": "x"}))
    assert "No such file" in refused(tmp_path / "nowhere")
    assert "neither a folder nor a tar" in refused(Path("/dev/null"))


def test_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hostlerd.host.files.MAX_TAR", 1 << 20)
    member = tarfile.TarInfo("proc/zeros")
    member.size = 1 << 24
    (tmp_path / "bomb.tar.gz").write_bytes(gzip.compress(member.tobuf() + bytes(member.size)))
    assert "unpacks to more than" in refused(tmp_path / "bomb.tar.gz")


def test_a_header_bomb_is_refused(tmp_path: Path) -> None:
    member = tarfile.TarInfo("proc/x")
    member.type, member.size = tarfile.XHDTYPE, 1 << 30
    (tmp_path / "bomb.tar").write_bytes(member.tobuf() + bytes(1024))
    assert "header" in refused(tmp_path / "bomb.tar")


def test_too_many_members_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hostlerd.host.files.MAX_MEMBERS", 3)
    assert "members" in refused(written(tmp_path / "a.tar", {f"proc/{n}": "" for n in range(4)}))


def test_the_live_host() -> None:
    files = RootFiles("/")
    assert files.read("/proc/self/stat").startswith(f"{os.getpid()} ")
    assert files.read("/proc/cpuinfo") == files.read("/proc/cpuinfo")
    assert len(files.read("/proc/self/smaps")) > 1 << 14
    assert "self" in files.listdir("/proc")
    assert files.readlink("/proc/self") == str(os.getpid())
    assert not files.exists("/proc/self/nothing")


def test_tar_and_folder_can_be_opened_directly(tmp_path: Path) -> None:
    path = written(tmp_path / "a.tar", {"proc/version": "x"})
    assert TarFiles(str(path)).read("/proc/version") == "x"


def test_what_may_be_run_on_the_live_host(tmp_path: Path) -> None:
    program, text = tmp_path / "program", tmp_path / "text"
    program.write_text("")
    text.write_text("")
    program.chmod(0o755)
    text.chmod(0o644)
    live = RootFiles("/")
    assert live.executable(str(program)) is True
    assert live.executable(str(text)) is False
    assert live.executable(str(tmp_path / "nothing")) is None
    # A recording may have lost its modes.
    assert RootFiles(str(tmp_path)).executable("/program") is None


def test_devices_of_the_live_host() -> None:
    live = RootFiles("/")
    assert live.device("/dev/null") == ("c", 1, 3)
    assert live.device("/proc/self/maps") is None
    with open("/dev/null", "rb") as file:
        assert live.device(f"/proc/self/fd/{file.fileno()}") == ("c", 1, 3)
        assert live.links("/proc/self/fd")[str(file.fileno())] == "/dev/null"


@pytest.mark.parametrize("size", [10, 200_000])
def test_lines_of_a_long_file_are_found_across_pieces(tmp_path: Path, size: int) -> None:
    """More than `read` would return, in lines that end in the middle of what one call of the kernel gives."""
    lines = [f"{number} {'word ' if number % 1000 == 7 else ''}{'x' * 40}" for number in range(size)]
    (tmp_path / "sys").mkdir()
    (tmp_path / "sys" / "long").write_text("\n".join([*lines, "the last word"]))
    for files in (RootFiles(str(tmp_path)), RootFiles("/")):
        path = "/sys/long" if files.exists("/sys/long") else f"{tmp_path}/sys/long"
        found = files.lines_with(path, ["word ", "last"])
        assert found == [line for line in [*lines, "the last word"] if "word " in line or "last" in line]
