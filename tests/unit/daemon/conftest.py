"""A D-Bus daemon of the test's own: nothing here reaches a bus of the machine."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostlerd.host.bus.codec import LIBRARIES, Codec

CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <deny own="org.example.Forbidden"/>
    <allow send_destination="*" eavesdrop="false"/>
    <allow receive_sender="*" eavesdrop="false"/>
  </policy>
</busconfig>
"""


class PrivateBus:
    """`start` and `stop` may be called again and again; the address stays."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("dbus-daemon")
        if program is None:
            pytest.fail("dbus-daemon is not installed (package dbus)")
        self.program = program
        self.folder = folder
        self.address = f"unix:path={folder}/bus"
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "bus.conf").write_text(CONFIG.format(socket=folder / "bus"))

    def start(self) -> None:
        command = [self.program, f"--config-file={self.folder}/bus.conf", "--nofork", "--print-address=1"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        assert self._process.stdout.readline().startswith(b"unix:path=")

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
            (self.folder / "bus").unlink(missing_ok=True)

    def busctl(self, *arguments: str) -> str:
        """systemd's client against this bus. Raises CalledProcessError."""
        command = ["busctl", f"--address={self.address}", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout


@pytest.fixture
def memory_path(tmp_path: Path) -> Iterator[Path]:
    """In memory where there is such a place, as /run is: the journal is synced at every line."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else str(tmp_path)
    with tempfile.TemporaryDirectory(dir=memory, prefix="hostler-") as folder:
        yield Path(folder)


@pytest.fixture
def stopped_bus() -> Iterator[PrivateBus]:
    # Not tmp_path: other users must get there.
    with tempfile.TemporaryDirectory(prefix="hostler-bus-") as name:
        os.chmod(name, 0o755)
        bus = PrivateBus(Path(name))
        yield bus
        bus.stop()


@pytest.fixture
def private_bus(stopped_bus: PrivateBus) -> PrivateBus:
    stopped_bus.start()
    return stopped_bus


@pytest.fixture(params=LIBRARIES)
def codec(request: pytest.FixtureRequest) -> Codec:
    try:
        return Codec(request.param)
    except ImportError as error:
        pytest.skip(f"{error}: pip install {request.param.replace('_', '-')}")
