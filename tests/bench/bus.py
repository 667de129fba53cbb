"""The bus: what a call costs the server, here and in dbus-next as it comes, in one run on a bus of its own.

Prints, for each server, CPU time of the server process and median time of a call, for an echo, a 40 KB string and a
`Get` of one property. Compare rows of one run only: the machine's speed is in all of them. The client is the same for
all: a blocking socket and messages made beforehand.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "daemon"), str(ROOT / "client")]

import trio  # noqa: E402

from hostlerd.api.interfaces import parse  # noqa: E402
from hostlerd.api.objects import Objects  # noqa: E402
from hostlerd.host.bus import BUS, BUS_PATH, PROPERTIES, Bus, Codec, Kind, Message, Reply  # noqa: E402
from hostlerd.host.bus.codec import LIBRARIES  # noqa: E402
from hostlerd.host.bus.framing import Framer  # noqa: E402

NAME, PATH, INTERFACE = "org.example.Echo", "/echo", "org.example.Echo"
XML = f"""<node><interface name="{INTERFACE}">
<method name="Echo"><arg name="text" type="s"/><arg name="text" type="s" direction="out"/></method>
<property name="Text" type="s" access="read"/>
</interface></node>"""
CONFIG = """<busconfig><type>session</type><listen>unix:path={}/bus</listen><auth>EXTERNAL</auth>
<policy context="default"><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/></policy>
</busconfig>"""
WARM, CALLS = 200, 2000


async def serve_ours(address: str, library: str) -> None:
    async def echo(call: Message, _: tuple[str, ...]) -> Reply:
        return Reply("s", call.body)

    bus = Bus(address, codec=Codec(library))
    objects = Objects("/", {INTERFACE: parse(XML, INTERFACE)}, bus.emit, echo)
    objects.show({PATH: {INTERFACE: {"Text": "text"}}})
    bus.serve(NAME, objects.answer)
    await bus.run()


def serve_theirs(address: str) -> None:
    """dbus-next with its service layer on asyncio, as its documentation has it."""
    import asyncio  # noqa: PLC0415
    import typing  # noqa: PLC0415

    if not hasattr(typing, "no_type_check_decorator"):
        typing.no_type_check_decorator = lambda function: function  # type: ignore[attr-defined]
    from dbus_next import PropertyAccess  # noqa: PLC0415
    from dbus_next.aio import MessageBus  # noqa: PLC0415
    from dbus_next.service import ServiceInterface, dbus_property, method  # noqa: PLC0415

    class Echo(ServiceInterface):
        @method()
        async def Echo(self, text: "s") -> "s":  # noqa: F821, N802, UP037
            return text

        @dbus_property(access=PropertyAccess.READ)
        def Text(self) -> "s":  # noqa: F821, N802, UP037
            return "text"

    async def run() -> None:
        bus = await MessageBus(bus_address=address).connect()
        bus.export(PATH, Echo(INTERFACE))
        await bus.request_name(NAME)
        await asyncio.Event().wait()

    asyncio.run(run())


class Client:
    """Blocking, so that it costs the same whoever answers."""

    def __init__(self, path: str) -> None:
        self._codec = Codec()
        self._framer = Framer()
        self._pieces: list[bytes] = []
        self._sock = socket.socket(socket.AF_UNIX)
        self._sock.connect(path)
        self._sock.sendall(b"\0AUTH EXTERNAL " + str(os.geteuid()).encode().hex().encode() + b"\r\n")
        self._sock.recv(4096)
        self._sock.sendall(b"BEGIN\r\n")
        self._sock.settimeout(10)
        self.call(self.message(BUS, BUS_PATH, BUS, "Hello"))

    def message(self, to: str, path: str, interface: str, member: str, *body: str) -> bytes:
        call = Message(
            kind=Kind.CALL,
            serial=7,
            destination=to,
            path=path,
            interface=interface,
            member=member,
            signature="s" * len(body),
            body=body,
        )
        return self._codec.encode(call)

    def call(self, data: bytes) -> bytes:
        """The bytes of the answer, which is not decoded: signals are left out by their type."""
        self._sock.sendall(data)
        while True:
            for piece in self._framer.feed(self._sock.recv(65536)):
                if piece[1] != Kind.SIGNAL:
                    return piece


@contextmanager
def server(address: str, which: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, __file__, "--serve", which, address])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def cpu(pid: int) -> float:
    """Seconds of CPU time, to the nanosecond: /proc/PID/schedstat."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def measure(client: Client, process: subprocess.Popen[bytes], data: bytes) -> tuple[float, float]:
    """Microseconds of the server's CPU a call, and the median of a call."""
    for _ in range(WARM):
        client.call(data)
    before, times = cpu(process.pid), []
    for _ in range(CALLS):
        began = time.perf_counter()
        answer = client.call(data)
        times.append(time.perf_counter() - began)
    assert answer[1] == Kind.RETURN
    return (cpu(process.pid) - before) / CALLS * 1e6, statistics.median(times) * 1e6


def wait_for(client: Client) -> None:
    asked = client.message(BUS, BUS_PATH, BUS, "GetNameOwner", NAME)
    for _ in range(500):
        if client.call(asked)[1] == Kind.RETURN:
            return
        time.sleep(0.02)
    raise TimeoutError("the server does not come up")


def main() -> int:
    if sys.argv[1:2] == ["--serve"]:
        which, address = sys.argv[2:]
        if which == "theirs":
            serve_theirs(address)
        else:
            trio.run(serve_ours, address, which)
        return 0
    print(f"{'':28}{'echo':>16}{'40 KB string':>16}{'Get':>16}")
    print(f"{'CPU / median, microseconds':28}")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "bus.conf").write_text(CONFIG.format(folder))
        bus = subprocess.Popen(
            ["dbus-daemon", f"--config-file={folder}/bus.conf", "--nofork", "--print-address"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert bus.stdout is not None
        bus.stdout.readline()
        servers = {"dbus-next on asyncio": "theirs"} | {f"hostler with {name}": name for name in LIBRARIES}
        try:
            for title, which in servers.items():
                with server(f"unix:path={folder}/bus", which) as process:
                    client = Client(f"{folder}/bus")
                    wait_for(client)
                    cells = [
                        measure(client, process, client.message(NAME, PATH, INTERFACE, "Echo", "x")),
                        measure(client, process, client.message(NAME, PATH, INTERFACE, "Echo", "x" * 40_000)),
                        measure(
                            client, process, client.message(NAME, PATH, PROPERTIES, "Get", INTERFACE, "Text")
                        ),
                    ]
                print(
                    f"{title:28}" + "".join(f"{f'{used:.0f} / {median:.0f}':>16}" for used, median in cells)
                )
        finally:
            bus.kill()
            bus.communicate()
    return 0


if __name__ == "__main__":
    sys.exit(main())
