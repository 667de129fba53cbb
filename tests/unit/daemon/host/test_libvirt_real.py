"""The libvirt adapter and its source against a libvirtd and QEMU, from events to what becomes of them when it hangs.

One libvirtd for the module; each test leaves it running and answering. The pins are read in /proc, not asked for.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import cast

import pytest
import trio

from hostler.errors import HostFailed, TimedOut, Unreachable
from hostlerd.act.definitions import FOLDER, Definitions, Wish
from hostlerd.definition.gpu import set_gpu
from hostlerd.definition.splice import Document, as_written, others
from hostlerd.host import Files
from hostlerd.host.files import open_files
from hostlerd.host.libvirt import Libvirt
from hostlerd.host.simulated.host import SimulatedHost
from hostlerd.model.domains import Definition
from hostlerd.model.edits import WAYS, GpuChange, PinsChange, SliceChoice, Way
from hostlerd.observe.guest_memory import guest_memory
from hostlerd.sources import libvirt as source

from . import usb_contract
from .private_libvirtd import PrivateLibvirtd, missing
from .test_libvirt import Kicks, parse

ONE, TWO = "6695eb01-f6a4-8304-79aa-000000000001", "6695eb01-f6a4-8304-79aa-000000000002"


@pytest.fixture(scope="module")
def libvirtd() -> Iterator[PrivateLibvirtd]:
    if os.geteuid() != 0:
        pytest.skip("libvirtd sets the groups of its QEMU, which takes root")
    if remedy := missing():
        pytest.fail(f"these tests need a libvirtd of their own: {remedy}")
    libvirtd = PrivateLibvirtd()
    try:
        libvirtd.start()
        libvirtd.wait_up()
        libvirtd.define("one", ONE)
        libvirtd.define("two", TWO, usb="qemu-xhci")
        libvirtd.virsh("start", "one")
        yield libvirtd
    finally:
        libvirtd.remove()


@pytest.fixture
async def link(libvirtd: PrivateLibvirtd) -> AsyncIterator[Libvirt]:
    link = connection_to(libvirtd)
    await link.connect(lambda: None)
    yield link
    await link.aclose()


def connection_to(libvirtd: PrivateLibvirtd, *, call_limit: float = 20, open_limit: float = 5) -> Libvirt:
    return Libvirt(libvirtd.uri, parse=parse, call_limit=call_limit, open_limit=open_limit, keepalive=(1, 2))


async def in_virsh(libvirtd: PrivateLibvirtd, *words: str) -> None:
    await trio.to_thread.run_sync(libvirtd.virsh, *words)


async def test_pins_are_in_force(libvirtd: PrivateLibvirtd, link: Libvirt) -> None:
    last = os.cpu_count() or 1
    pin = {str(cpu): frozenset({cpu}) for cpu in (0, last - 1)}
    first, other = min(pin), max(pin)
    for one, two in ((first, other), (other, first)):
        await link.pin_vcpu(ONE, 0, pin[one])
        await link.pin_vcpu(ONE, 1, pin[two])
        await link.pin_emulator(ONE, pin[one])
        await link.pin_iothread(ONE, 1, pin[two])
        allowed = libvirtd.allowed("one")
        assert allowed["CPU 0/TCG"] == one
        assert allowed["CPU 1/TCG"] == two
        assert allowed["emulator"] == one
        assert allowed["IO iothread1"] == two
    (running,) = await link.running()
    assert (running.uuid, running.state) == (ONE, "running")
    assert running.live.emulator_pins == pin[other]
    assert running.definition is not None
    assert running.definition.emulator_pins is None
    assert [definition.uuid for definition in await link.inactive()] == [TWO]


async def test_usb_devices(libvirtd: PrivateLibvirtd, link: Libvirt) -> None:
    await usb_contract.without_a_controller(link, ONE)
    await usb_contract.of_a_domain_that_does_not_run(link, TWO)
    await usb_contract.of_a_domain_that_is_not_there(link)
    await in_virsh(libvirtd, "start", "two")
    await usb_contract.of_what_is_not_there(link, TWO)
    await usb_contract.of_what_qemu_cannot_open(link, TWO)
    await usb_contract.of_what_is_not_attached(link, TWO)
    await in_virsh(libvirtd, "destroy", "two")


async def test_what_happens_to_domains_kicks(libvirtd: PrivateLibvirtd, link: Libvirt) -> None:
    kicked = Kicks()
    await link.connect(kicked)
    for words in (
        ("suspend", "one"),
        ("resume", "one"),
        ("vcpupin", "one", "0", "0"),
        ("desc", "one", "--live", "text"),
        ("start", "two"),
        ("destroy", "two"),
    ):
        await in_virsh(libvirtd, *words)
        await kicked.wait()


async def test_a_call_during_a_hook_is_given_up_and_the_next_waits_for_it(libvirtd: PrivateLibvirtd) -> None:
    hold = libvirtd.root / "hold-prepare"
    link = connection_to(libvirtd, call_limit=0.5)
    await link.connect(lambda: None)
    hold.touch()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(in_virsh, libvirtd, "start", "two")
            await hook_runs(libvirtd)
            with pytest.raises(TimedOut, match=r"libvirt, listing domains, did not return within 0\.5 s"):
                await link.running()
            hold.unlink()
    finally:
        hold.unlink(missing_ok=True)
    assert {domain.uuid for domain in await link.running()} == {ONE, TWO}
    await in_virsh(libvirtd, "destroy", "two")
    assert [domain.uuid for domain in await link.running()] == [ONE]
    await link.aclose()


async def hook_runs(libvirtd: PrivateLibvirtd) -> None:
    with trio.fail_after(20):
        while not (libvirtd.root / "held").exists():  # noqa: ASYNC110 - a hook has no other way to say that it runs
            await trio.sleep(0.02)


async def test_a_libvirtd_that_is_killed_under_a_call(libvirtd: PrivateLibvirtd, link: Libvirt) -> None:
    hold = libvirtd.root / "hold-prepare"
    hold.touch()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(in_virsh_in_vain, libvirtd, "start", "two")
            await hook_runs(libvirtd)
            nursery.start_soon(expect_unreachable, link)
            await trio.sleep(0.2)
            libvirtd.signal(signal.SIGKILL)
            with trio.fail_after(20):
                assert await link.wait_lost() == "end of file"
    finally:
        hold.unlink()
        libvirtd.start()
        await trio.to_thread.run_sync(libvirtd.wait_up)


async def in_virsh_in_vain(libvirtd: PrivateLibvirtd, *words: str) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        await in_virsh(libvirtd, *words)


LEAVING = """
import sys, trio
from hostler.errors import TimedOut
from hostlerd.host import Files
from hostlerd.host.files import open_files
from hostlerd.host.libvirt import Libvirt
from hostlerd.host.simulated.host import SimulatedHost
async def main():
    for _ in range(5):
        link = Libvirt(sys.argv[1], parse=None, call_limit=0.1)
        await link.connect(lambda: None)
        try:
            await link.running()
        except TimedOut:
            print("given up")
        began = trio.current_time()
        await link.aclose()
        assert trio.current_time() - began < 1
trio.run(main)
"""


async def test_a_daemon_may_close_and_end_while_a_call_does_not_return(libvirtd: PrivateLibvirtd) -> None:
    """virConnectClose under a call would free what the call works on."""
    hold = libvirtd.root / "hold-prepare"
    hold.touch()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(in_virsh, libvirtd, "start", "two")
            await hook_runs(libvirtd)
            done = await trio.run_process(
                [sys.executable, "-c", LEAVING, libvirtd.uri],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                capture_stdout=True,
                check=False,
            )
            hold.unlink()
    finally:
        hold.unlink(missing_ok=True)
    await in_virsh(libvirtd, "destroy", "two")
    assert (done.returncode, done.stdout) == (0, b"given up\n" * 5)


async def test_a_libvirtd_that_stops_answering(libvirtd: PrivateLibvirtd) -> None:
    link = connection_to(libvirtd, open_limit=0.5)
    await link.connect(lambda: None)
    libvirtd.signal(signal.SIGSTOP)
    try:
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(expect_unreachable, link)
            with trio.fail_after(30):
                assert await link.wait_lost() == "no answer to keepalive"
        with pytest.raises(TimedOut):
            await link.connect(lambda: None)
    finally:
        libvirtd.signal(signal.SIGCONT)
    with trio.fail_after(30):
        await link.connect(lambda: None)
    assert [domain.uuid for domain in await link.running()] == [ONE]
    await link.aclose()


async def expect_unreachable(link: Libvirt) -> None:
    with pytest.raises(Unreachable):
        await link.running()


async def test_a_killed_libvirtd_is_found_again_with_its_domains(libvirtd: PrivateLibvirtd) -> None:
    link, kicked = connection_to(libvirtd), Kicks()
    async with trio.open_nursery() as nursery:
        await nursery.start(source.run, link, kicked)
        await kicked.wait()
        for _ in range(2):
            libvirtd.signal(signal.SIGKILL)
            await kicked.wait()
            with pytest.raises(Unreachable):
                await link.running()
            libvirtd.start()
            await kicked.wait()
            assert [domain.uuid for domain in await link.running()] == [ONE]
        nursery.cancel_scope.cancel()


async def test_many_connections_leave_no_descriptor_behind(libvirtd: PrivateLibvirtd) -> None:
    link = connection_to(libvirtd)
    before = descriptors()
    for _ in range(20):
        await link.connect(lambda: None)
        await link.running()
        await link.aclose()
    with trio.fail_after(20):
        while descriptors() > before:  # noqa: ASYNC110 - libvirt's own thread closes them, a little later
            await trio.sleep(0.05)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("way", ["emulated", "passthrough", "slice"])
async def test_a_definition_is_edited_and_taken_back(
    libvirtd: PrivateLibvirtd, link: Libvirt, way: Way
) -> None:
    """As libvirt writes it down, with the ports, the sound and the numbers that it adds along."""
    await link.inactive()
    before = libvirtd.virsh("dumpxml", "--inactive", "--security-info", "two")
    assert await link.definition_xml(TWO) == before + "\n"
    change = GpuChange(
        way=way,
        pci=("0000:3f:00.0", "0000:3f:00.1") if way == "passthrough" else (),
        slice=SliceChoice(uuid=ONE, type="mtty-1") if way == "slice" else None,
    )
    document = Document(before)
    set_gpu(document, change)
    await link.redefine(TWO, document.text)
    written = libvirtd.virsh("dumpxml", "--inactive", "--security-info", "two")
    again = Document(written)
    set_gpu(again, change)
    assert again.text == written
    assert {"emulated": "<video", "passthrough": "bus='0x3f'", "slice": "urn:hostler:domain:1"}[
        way
    ] in written
    back = Document(written)
    back.take_back(as_written(document.changes, others(document), written))
    await link.redefine(TWO, back.text)
    assert libvirtd.virsh("dumpxml", "--inactive", "--security-info", "two") == before


class Half:
    """A host with the real libvirt; where edits are kept is simulated."""

    def __init__(self, link: Libvirt) -> None:
        self.hypervisor = link
        simulated = SimulatedHost("desktop")
        self.files, self.writer, self.units, self.look = (
            simulated.files,
            simulated.writer,
            simulated.units,
            simulated.look,
        )


@pytest.mark.parametrize("way", WAYS)
async def test_an_edit_is_kept_made_and_taken_back(
    libvirtd: PrivateLibvirtd, link: Libvirt, way: Way
) -> None:
    """Also by a daemon that was killed between the definition and its reading back."""
    before = libvirtd.virsh("dumpxml", "--inactive", "--security-info", "two")
    for kill in (False, True):
        host = Half(link)
        definitions = Definitions(host)
        change = GpuChange(
            way=way,
            pci=("0000:3f:00.0",) if way == "passthrough" else (),
            slice=SliceChoice(uuid=ONE, type="mtty-1") if way == "slice" else None,
        )
        outcome = await definitions.edit(
            Wish(uuid=TWO, name="two", change=change, by="user", before="", after=way)
        )
        assert outcome.changed
        (edit,) = definitions.edits[TWO]
        assert edit.done
        if kill:
            document = Document(before)
            set_gpu(document, change)
            begun = replace(edit, changes=tuple(document.changes), known=others(document), done=False)
            await host.writer.replace_file(
                f"{FOLDER}/{TWO}.json", json.dumps({"form": 1, "edits": [asdict(begun)]})
            )
            definitions = Definitions(host)
            await definitions.settle([TWO])
            assert definitions.edits[TWO] == (edit,)
        await definitions.take_back(TWO)
        assert libvirtd.virsh("dumpxml", "--inactive", "--security-info", "two") == before
        assert not definitions.edits


async def test_where_a_domain_begins_is_written_and_taken_back(
    libvirtd: PrivateLibvirtd, link: Libvirt
) -> None:
    """libvirt writes it down as it was given; beside an edit of the other kind, and by a daemon that was killed."""
    before = libvirtd.virsh("dumpxml", "--inactive", "--security-info", "two")
    host = Half(link)
    definitions = Definitions(host)
    pins = PinsChange(vcpus=((0, "0"), (1, "0")), emulator="0", memory="0")
    await definitions.edit(Wish(uuid=TWO, name="two", change=pins, by="policy", before="", after=""))
    emulated = GpuChange(way="emulated")
    await definitions.edit(Wish(uuid=TWO, name="two", change=emulated, by="user", before="", after=""))
    written = libvirtd.virsh("dumpxml", "--inactive", "two")
    for element in (
        "<vcpupin vcpu='1' cpuset='0'/>",
        "<emulatorpin cpuset='0'/>",
        "<memory mode='strict' nodeset='0'/>",
    ):
        assert element in written
    fewer = PinsChange(vcpus=((0, "0"),))
    await definitions.edit(Wish(uuid=TWO, name="two", change=fewer, by="policy", before="", after=""))
    definitions = Definitions(host)
    await definitions.settle([TWO])
    assert [(edit.kind, edit.done) for edit in definitions.edits[TWO]] == [("gpu", True), ("pins", True)]
    assert "<numatune" not in libvirtd.virsh("dumpxml", "--inactive", "two")
    await definitions.take_back(TWO, "pins")
    await definitions.take_back(TWO)
    assert libvirtd.virsh("dumpxml", "--inactive", "--security-info", "two") == before


def test_where_the_memory_of_a_real_guest_is(libvirtd: PrivateLibvirtd) -> None:
    """By the pid file of this libvirt, and the numa_maps of this kernel."""

    class Inside:
        """The machine's files, but libvirt's own folder."""

        def read(self, path: str) -> str:
            return live.read(
                path.replace("/run/", f"{libvirtd.root}/run/", 1) if path.startswith("/run/") else path
            )

        def lines_with(self, path: str, words: Sequence[str]) -> list[str]:
            return live.lines_with(path, words)

    live = open_files("/")
    placed = guest_memory(cast("Files", Inside()), "one", ONE)
    if not Path("/proc/self/numa_maps").exists():
        assert placed is None  # a kernel without NUMA has one node
        return
    assert placed is not None
    assert placed.nodes
    pid = (libvirtd.root / "run" / "libvirt" / "qemu" / "one.pid").read_text().strip()
    rss = next(
        line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")
    )
    assert 0.5 < placed.total / int(rss.split()[1]) < 1.5


async def test_libvirt_checks_a_definition_and_keeps_the_old_one(
    libvirtd: PrivateLibvirtd, link: Libvirt
) -> None:
    before = await link.definition_xml(TWO)
    for wrong in (before.replace("<devices>", "<devices><nonsense/>"), "<domain", before.replace(TWO, ONE)):
        with pytest.raises(HostFailed):
            await link.redefine(TWO, wrong)
    with pytest.raises(HostFailed):
        await link.redefine("6695eb01-f6a4-8304-79aa-00000000000f", before)
    assert await link.definition_xml(TWO) == before


async def test_what_cannot_be_plugged_is_an_error_of_libvirts(link: Libvirt) -> None:
    with pytest.raises(HostFailed, match="video"):
        await link.plug(ONE, "<video><model type='virtio'/></video>")
    with pytest.raises(HostFailed):
        await link.unplug(
            ONE, "<hostdev mode='subsystem' type='pci'><source><address bus='0x3f'/></source></hostdev>"
        )


def test_the_parser_is_the_callers(libvirtd: PrivateLibvirtd) -> None:
    """Here the tests' own: the real one has its own tests, on the XML of many others."""
    text = libvirtd.virsh("dumpxml", "one")
    assert parse(text) == Definition(name="one", uuid=ONE, emulator_pins=parse(text).emulator_pins)
