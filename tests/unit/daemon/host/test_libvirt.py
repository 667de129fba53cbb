"""The libvirt adapter on libvirt's own test driver, which is in the process and needs no daemon."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import libvirt
import pytest
import trio

from hostler.errors import BadInput, HostFailed, TimedOut, Unreachable, Unsupported
from hostlerd.host.libvirt import Libvirt, socket_paths
from hostlerd.host.libvirt.calls import as_ours, cpu_map
from hostlerd.model.domains import Definition

UUID = "6695eb01-f6a4-8304-79aa-97f2502e193f"
OTHER = "6695eb01-f6a4-8304-79aa-97f2502e1940"
XML = f"""<domain type='test'><name>other</name><uuid>{OTHER}</uuid><memory>8192</memory>
<os><type>hvm</type></os></domain>"""


def parse(text: str) -> Definition:
    """As much of a domain as these tests look at."""

    def first(pattern: str) -> str:
        found = re.search(pattern, text)
        return found[1] if found else ""

    if "broken" in first("<name>(.*?)</name>"):
        raise BadInput("no vcpu")
    pins = first("emulatorpin cpuset='(.*?)'")
    return Definition(
        name=first("<name>(.*?)</name>"),
        uuid=first("<uuid>(.*?)</uuid>"),
        emulator_pins=frozenset(map(int, pins.split(","))) if pins else None,
    )


@pytest.fixture
async def driver() -> AsyncIterator[Libvirt]:
    driver = Libvirt("test:///default", parse=parse, call_limit=5)
    yield driver
    await driver.aclose()


@pytest.fixture
def outside() -> libvirt.virConnect:
    """What somebody else does: connections to test:///default share their domains."""
    return libvirt.open("test:///default")


async def test_nothing_is_known_before_there_is_a_connection(driver: Libvirt) -> None:
    with pytest.raises(Unreachable, match="there is no connection"):
        await driver.running()
    with pytest.raises(Unreachable):
        await driver.pin_emulator(UUID, frozenset({0}))
    assert await driver.wait_lost() == "never connected"


async def test_a_running_domain_has_its_live_and_its_inactive_definition(driver: Libvirt) -> None:
    await driver.connect(lambda: None)
    await driver.pin_emulator(UUID, frozenset({1, 3}))
    (domain,) = [found for found in await driver.running() if found.uuid == UUID]
    assert (domain.name, domain.state) == ("test", "running")
    assert domain.live.emulator_pins == {1, 3}
    assert domain.definition is not None
    assert domain.definition.emulator_pins is None


async def test_transient_and_inactive_domains(driver: Libvirt, outside: libvirt.virConnect) -> None:
    await driver.connect(lambda: None)
    transient = outside.createXML(XML)
    (found,) = [domain for domain in await driver.running() if domain.uuid == OTHER]
    assert found.definition is None
    transient.suspend()
    (found,) = [domain for domain in await driver.running() if domain.uuid == OTHER]
    assert found.state == "paused"
    transient.destroy()
    defined = outside.defineXML(XML)
    assert OTHER not in {domain.uuid for domain in await driver.running()}
    assert [domain.uuid for domain in await driver.inactive()] == [OTHER]
    defined.undefine()


async def test_every_change_kicks(driver: Libvirt, outside: libvirt.virConnect) -> None:
    kicked = Kicks()
    await driver.connect(kicked)
    domain = outside.defineXML(XML)
    await kicked.wait()
    domain.create()
    await kicked.wait()
    domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_TITLE, "title", None, None)
    await kicked.wait()
    domain.destroy()
    await kicked.wait()
    domain.undefine()
    await kicked.wait()


class Kicks:
    def __init__(self) -> None:
        self._event = trio.Event()

    def __call__(self) -> None:
        self._event.set()

    async def wait(self) -> None:
        with trio.fail_after(20):
            await self._event.wait()
        await trio.testing.wait_all_tasks_blocked()
        self._event = trio.Event()


async def test_a_domain_that_is_not_understood(driver: Libvirt, outside: libvirt.virConnect) -> None:
    """Inactive it is left out; running it is an error, because to leave it out would be to say that it stopped."""
    await driver.connect(lambda: None)
    broken = outside.defineXML(XML.replace("other", "broken"))
    assert await driver.inactive() == ()
    broken.create()
    with pytest.raises(HostFailed, match=r"describes broken in a way that is not understood: no vcpu"):
        await driver.running()
    broken.destroy()
    broken.undefine()


async def test_libvirts_words_are_kept(driver: Libvirt) -> None:
    await driver.connect(lambda: None)
    with pytest.raises(HostFailed, match="Domain not found") as caught:
        await driver.pin_vcpu("6695eb01-0000-0000-0000-000000000000", 0, frozenset({0}))
    assert caught.value.data == {
        "object": "6695eb01-0000-0000-0000-000000000000",
        "errno": libvirt.VIR_ERR_NO_DOMAIN,
    }


@pytest.mark.parametrize("cpus", [{8}, {0, 64}, set[int]()])
async def test_a_cpu_that_the_host_has_not_is_refused(driver: Libvirt, cpus: set[int]) -> None:
    await driver.connect(lambda: None)
    with pytest.raises(HostFailed, match="knows CPUs 0 to 7"):
        await driver.pin_emulator(UUID, frozenset(cpus))


def test_a_map_is_as_long_as_the_host_has_cpus(outside: libvirt.virConnect) -> None:
    assert cpu_map(outside, frozenset({0, 7})) == (True, *[False] * 6, True)


async def test_nobody_listens(tmp_path: object) -> None:
    driver = Libvirt(f"qemu:///system?socket={tmp_path}/none", parse=parse)
    with pytest.raises(Unreachable, match="No such file") as caught:
        await driver.connect(lambda: None)
    assert caught.value.data["errno"] == 2


async def test_someone_listens_and_does_not_answer(tmp_path: object) -> None:
    """open() has no limit of its own; when it returns after all, its connection is closed."""
    path = f"{tmp_path}/socket"
    (listener,) = [await open_unix_listener(path)]
    driver = Libvirt(f"qemu:///system?socket={path}", parse=parse, open_limit=0.2)
    with pytest.raises(TimedOut):
        await driver.connect(lambda: None)
    with trio.move_on_after(0.2) as scope:
        await driver.connect(lambda: None)
    assert scope.cancelled_caught, "a second opening waits for the first to return"
    peer, _ = await listener.accept()
    peer.close()
    listener.close()
    with trio.fail_after(20), pytest.raises(Unreachable):
        await driver.connect(lambda: None)


async def open_unix_listener(path: str) -> trio.socket.SocketType:
    listener = trio.socket.socket(trio.socket.AF_UNIX)
    await listener.bind(path)
    listener.listen()
    return listener


@pytest.mark.parametrize(
    ("uri", "paths"),
    [
        ("qemu:///system", ("/run/libvirt/virtqemud-sock", "/run/libvirt/libvirt-sock")),
        ("qemu+unix:///system", ("/run/libvirt/virtqemud-sock", "/run/libvirt/libvirt-sock")),
        ("qemu+unix:///system?socket=/run/other", ("/run/other",)),
        ("lxc:///system", ("/run/libvirt/virtlxcd-sock", "/run/libvirt/libvirt-sock")),
        ("test:///default", ()),
        ("qemu+ssh://host/system", ()),
        ("qemu:///session", ()),
    ],
)
def test_where_a_daemon_would_listen(uri: str, paths: tuple[str, ...]) -> None:
    assert socket_paths(uri) == paths


class FakeError:
    """A libvirtError that the test driver does not make."""

    def __init__(self, code: int) -> None:
        self.code = code

    def get_error_code(self) -> int:
        return self.code

    def __str__(self) -> str:
        return "cannot acquire state change lock"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (libvirt.VIR_ERR_OPERATION_TIMEOUT, TimedOut),
        (libvirt.VIR_ERR_AGENT_UNRESPONSIVE, TimedOut),
        (libvirt.VIR_ERR_NO_SUPPORT, Unsupported),
        (libvirt.VIR_ERR_INTERNAL_ERROR, HostFailed),
    ],
)
def test_libvirts_errors_are_for_whom_they_concern(code: int, kind: type[Exception]) -> None:
    error = as_ours(FakeError(code), "pinning vCPU 0", UUID)
    assert type(error) is kind
    assert error.message == "libvirt, pinning vCPU 0: cannot acquire state change lock"
    assert error.data == {"errno": code, "object": UUID}


async def test_a_definition_is_read_and_replaced(driver: Libvirt, outside: libvirt.virConnect) -> None:
    await driver.connect(lambda: None)
    outside.defineXML(XML)
    try:
        text = await driver.definition_xml(OTHER)
        assert "<name>other</name>" in text
        await driver.redefine(OTHER, text.replace("8192</memory>", "4096</memory>"))
        assert "4096</memory>" in await driver.definition_xml(OTHER)
        for wrong in ("<domain", text.replace(OTHER, UUID)):
            with pytest.raises(HostFailed):
                await driver.redefine(OTHER, wrong)
        assert "4096</memory>" in await driver.definition_xml(OTHER)
    finally:
        outside.lookupByUUIDString(OTHER).undefine()
    for call in (
        driver.definition_xml(OTHER),
        driver.redefine(OTHER, text),
        driver.plug(OTHER, ""),
        driver.unplug(OTHER, ""),
    ):
        with pytest.raises(HostFailed, match="Domain not found"):
            await call
