"""libvirt's QEMU driver as a client and a hook see it.

Follows src/qemu/qemu_process.c (qemuProcessInit, qemuProcessPrepareHost, qemuProcessLaunch, qemuProcessStop). What
confirms a behaviour is named where it is. Errors are
HostFailed with libvirt's words, Unreachable while libvirtd is away, TimedOut where a call does not return in time.

A domain is its XML: the inactive text, and the live text with pins and devices in force, as libvirt itself keeps it.

Longer than 400 lines because starting, stopping and all that is done to a domain in between share its job and its XML.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, TypeAlias

import trio

from hostler.errors import BadInput, HostFailed
from hostlerd.host import Kick, Writer
from hostlerd.host.simulated import domain_text, guest_memory, guests, hooks
from hostlerd.host.simulated.domains import Domain
from hostlerd.host.simulated.hostdevs import Hostdevs, monitor_closed
from hostlerd.host.simulated.kernel import Kernel
from hostlerd.host.simulated.libvirtd import Libvirtd
from hostlerd.host.simulated.scopes import Scopes
from hostlerd.host.simulated.systemd import SimulatedUnits
from hostlerd.host.simulated.usb_hostdevs import UsbHostdevs
from hostlerd.model.cpuset import CpuSet, format_cpu_list
from hostlerd.model.domains import Definition, Running
from hostlerd.model.usb import UsbDevice

Hook: TypeAlias = hooks.Hook
Parse = Callable[[str], Definition]


class SimulatedLibvirt:
    """Implements `hostlerd.host.Hypervisor`, and does what virsh asks for."""

    def __init__(
        self,
        kernel: Kernel,
        units: SimulatedUnits,
        writer: Writer,
        *,
        parse: Parse,
        hook: Hook = hooks.no_hook,
        limit: float = 5.0,
        version: int = 9_000_000,
    ) -> None:
        """`limit`: seconds after which a call of the Hypervisor protocol gives up."""
        self._kernel = kernel
        self._scopes = Scopes(kernel, units)
        self._hostdevs = Hostdevs(kernel, writer, version)
        self._usb = UsbHostdevs(kernel.usb)
        self._parse = parse
        self.limit = limit
        self.domains: dict[str, Domain] = {}
        self.kicks: list[Kick] = []
        self.events: list[tuple[str, str]] = []
        self._next = 1
        self.libvirtd = Libvirtd()
        self._hooks = hooks.Hooks(self.libvirtd, hook)
        # One job a domain at a time (virDomainObjBeginJob).
        self._jobs: defaultdict[str, trio.Lock] = defaultdict(trio.Lock)

    @property
    def hook(self) -> Hook:
        """What is run; may be changed at any time."""
        return self._hooks.hook

    @hook.setter
    def hook(self, hook: Hook) -> None:
        self._hooks.hook = hook

    # --- Hypervisor

    async def running(self) -> tuple[Running, ...]:
        await self.libvirtd.answer(self.limit)
        return tuple(
            Running(
                live=self._parse(domain.live),
                definition=self._parse(domain.inactive) if domain.inactive else None,
                # A domain is active from before its prepare hook on (qemuProcessInit sets the id first).
                state="running" if domain.state == "running" else "paused",
            )
            for domain in self.domains.values()
            if domain.live
        )

    async def inactive(self) -> tuple[Definition, ...]:
        await self.libvirtd.answer(self.limit)
        return tuple(self._parse(d.inactive) for d in self.domains.values() if d.inactive and not d.live)

    async def version(self) -> int:
        await self.libvirtd.answer(self.limit)
        return self._hostdevs.version

    async def pin_vcpu(self, uuid: str, vcpu: int, cpus: CpuSet) -> None:
        self._kernel.begin()
        await self._pin(uuid, "vcpupin", vcpu, cpus)
        self._kernel.done(f"vcpupin {vcpu} of {uuid}", format_cpu_list(cpus))

    async def pin_emulator(self, uuid: str, cpus: CpuSet) -> None:
        self._kernel.begin()
        await self._pin(uuid, "emulatorpin", 0, cpus)
        self._kernel.done(f"emulatorpin of {uuid}", format_cpu_list(cpus))

    async def pin_iothread(self, uuid: str, iothread: int, cpus: CpuSet) -> None:
        self._kernel.begin()
        await self._pin(uuid, "iothreadpin", iothread, cpus)
        self._kernel.done(f"iothreadpin {iothread} of {uuid}", format_cpu_list(cpus))

    async def definition_xml(self, uuid: str) -> str:
        domain = await self._by_uuid(uuid)
        if domain.inactive is None:
            raise HostFailed("Requested operation is not valid: domain is transient")
        return domain.inactive

    async def redefine(self, uuid: str, xml: str) -> None:
        """virDomainDefineXMLFlags; a domain that runs keeps its live XML."""
        self._kernel.begin()
        domain = await self._by_uuid(uuid)
        if self._kernel.faults.get("define-fails", domain.name) is not None:
            raise HostFailed("XML document failed to validate against schema", data={"object": uuid})
        _, found, text = domain_text.defined(xml)
        if found != uuid or domain.inactive is None:
            raise HostFailed(f"operation failed: domain '{domain.name}' already exists with uuid {uuid}")
        self._parse(text)
        domain.inactive = domain_text.filled_in(text)
        self._kernel.done(f"definition of {uuid}", "")
        self._event(domain.name, "defined")

    async def plug(self, uuid: str, device: str) -> None:
        await self.attach_device((await self._by_uuid(uuid)).name, device)

    async def unplug(self, uuid: str, device: str) -> None:
        await self.detach_device((await self._by_uuid(uuid)).name, domain_text.device_hostdev(device).address)

    async def attach_usb(self, uuid: str, device: UsbDevice) -> Definition:
        self._kernel.begin()
        domain = await self._by_uuid(uuid)
        await self.attach_usb_device(domain.name, guests.usb_hostdev(device))
        self._kernel.done(f"attach-device {device.label} to {uuid}", device.mark)
        return self._parse(domain.live or domain.text)

    async def detach_usb(self, uuid: str, device: UsbDevice) -> Definition:
        self._kernel.begin()
        domain = await self._by_uuid(uuid)
        await self.detach_usb_device(domain.name, guests.usb_hostdev(device))
        self._kernel.done(f"detach-device {device.label} from {uuid}", device.mark)
        return self._parse(domain.live or domain.text)

    # --- virsh

    async def define(self, xml: str, *, autostart: bool = False) -> str:
        """`virsh define`; returns the name. Raises BadInput for what is no domain."""
        await self.libvirtd.answer()
        name, uuid, text = domain_text.defined(xml)
        self._parse(text)
        domain = self.domains.get(name)
        if domain is None:
            domain = self.domains[name] = Domain(name=name, uuid=uuid, inactive=text)
        elif domain.uuid != uuid:
            raise HostFailed(f"operation failed: domain '{name}' already exists with uuid {domain.uuid}")
        domain.inactive, domain.autostart = text, autostart
        self._event(name, "defined")
        return name

    async def undefine(self, name: str) -> None:
        await self.libvirtd.answer()
        domain = self._domain(name)
        domain.inactive = None
        if domain.live is None:
            del self.domains[name]
        self._event(name, "undefined")

    async def create(self, xml: str) -> str:
        """`virsh create`: a transient domain."""
        await self.libvirtd.answer()
        name, uuid, text = domain_text.defined(xml)
        self._parse(text)
        if name in self.domains:
            raise HostFailed(
                f"operation failed: domain '{name}' already exists with uuid {self.domains[name].uuid}"
            )
        self.domains[name] = Domain(name=name, uuid=uuid, inactive=None)
        async with self._jobs[name]:
            await self._start(self.domains[name], text)
        return name

    async def start(self, name: str) -> None:
        """`virsh start`. Raises HostFailed with libvirt's words; then everything libvirt did is undone."""
        await self.libvirtd.answer()
        domain = self._domain(name)
        async with self._jobs[name]:
            if domain.live is not None or domain.inactive is None:
                raise HostFailed("Requested operation is not valid: domain is already running")
            await self._start(domain, domain.inactive)

    async def destroy(self, name: str) -> None:
        """`virsh destroy`, and a guest's own shutdown: the same to everybody outside."""
        await self.libvirtd.answer()
        domain = self._domain(name)
        async with self._jobs[name]:
            if domain.live is None:
                raise HostFailed("Requested operation is not valid: domain is not running")
            await self._stop(domain)
        self._event(name, "stopped")

    async def power_off(self, name: str) -> None:
        """The guest ends by itself. While libvirtd is away nobody sees it: `start_libvirtd` finds QEMU dead."""
        domain = self._active(name)
        if not self.libvirtd.away:
            await self.destroy(name)
            return
        domain.state = "ended"
        self._scopes.end(domain)
        self._hostdevs.close_groups(domain, ended=True)
        self._usb.close(domain)
        self._kernel.settle()

    async def attach_device(self, name: str, device: str) -> None:
        """`virsh attach-device --live`. No hook runs. The event is DEVICE_ADDED (qemuDomainAttachHostPCIDevice).

        Lab: `attach_and_detach`.
        """
        await self.libvirtd.answer()
        async with self._jobs[name]:
            domain = self._active(name)
            hostdev = domain_text.device_hostdev(device)
            await self._hostdevs.prepare(domain, [hostdev])
            try:
                self._hostdevs.open_groups(domain, [hostdev])
            except HostFailed:
                await self._hostdevs.reattach(domain, [hostdev.address])
                raise
            domain.live = domain_text.with_device(domain.live or "", device)
        self._event(name, "device-added")

    async def attach(self, name: str, address: str, *, managed: bool = True) -> None:
        """As `attach_device`, from an address."""
        await self.attach_device(name, guests.hostdev(address, managed=managed))

    async def detach_device(self, name: str, address: str) -> None:
        """`virsh detach-device --live`: QEMU lets go, libvirt gives back what it took, then DEVICE_REMOVED."""
        await self.libvirtd.answer()
        async with self._jobs[name]:
            domain = self._active(name)
            hostdevs = domain_text.pci_hostdevs(domain.live or "")
            if address not in [hostdev.address for hostdev in hostdevs]:
                raise HostFailed(f"device not found: host pci device {address} not found")
            domain.live = domain_text.without_device(domain.live or "", address)
            left = [
                self._hostdevs.group(hostdev.address) for hostdev in hostdevs if hostdev.address != address
            ]
            left += [self._kernel.mdevs.devices[uuid].group for uuid in domain_text.mdevs(domain.live)]
            self._hostdevs.close_groups(domain, keep=[group for group in left if group is not None])
            await self._hostdevs.reattach(domain, [address])
        self._event(name, "device-removed")

    async def attach_usb_device(self, name: str, device: str) -> None:
        """`virsh attach-device --live` of a USB <hostdev>. The event is DEVICE_ADDED."""
        await self.libvirtd.answer(self.limit)
        async with self._jobs[name]:
            if self._kernel.faults.get("attach-fails", name) is not None:
                raise HostFailed(
                    "internal error: unable to execute QEMU command 'device_add': failed to open host usb device"
                )
            self._usb.attach(self._active(name), device)
            self._hostdevs.show_process(self._active(name))
        self._event(name, "device-added")

    async def detach_usb_device(self, name: str, device: str) -> None:
        """`virsh detach-device --live` of a USB <hostdev>: unplugging USB needs no guest. Then DEVICE_REMOVED."""
        await self.libvirtd.answer(self.limit)
        async with self._jobs[name]:
            self._usb.detach(self._active(name), device)
            self._hostdevs.show_process(self._active(name))
        self._event(name, "device-removed")

    async def pin_by_hand(
        self, name: str, kind: str, number: int, cpus: CpuSet, *, config: bool = False
    ) -> None:
        """`virsh vcpupin NAME N LIST --live`, and `--config` with it. `kind` as in the XML: vcpupin, ..."""
        domain = self._active(name)
        await self._pin(domain.uuid, kind, number, cpus)
        if config and domain.inactive is not None:
            domain.inactive = domain_text.with_pin(domain.inactive, kind, number, cpus)
            self._event(name, "defined")

    async def set_vcpus(self, name: str, count: int) -> None:
        """`virsh setvcpus NAME COUNT --live`. No event (qemuDomainSetVcpusLive)."""
        await self.libvirtd.answer()
        async with self._jobs[name]:
            domain = self._active(name)
            before = domain_text.vcpus(domain.live or "")
            domain.live = domain_text.with_vcpus(domain.live or "", count)
            for vcpu in range(before, count):
                self._scopes.plug(domain, vcpu)
            for vcpu in range(before - 1, count - 1, -1):
                self._scopes.unplug(domain, vcpu)
        self._kernel.settle()

    async def suspend(self, name: str) -> None:
        """`virsh suspend`: the event is SUSPENDED."""
        self._active(name).state = "paused"
        self._event(name, "suspended")

    async def resume(self, name: str) -> None:
        self._active(name).state = "running"
        self._event(name, "resumed")

    async def set_wishes(self, name: str, attributes: str) -> None:
        """`virsh metadata NAME urn:hostler:cpus:1 --live --config --set '<cpus .../>'`.

        The event is METADATA_CHANGE (qemuDomainSetMetadata).
        """
        domain = self._active(name)
        domain.live = domain_text.with_wishes(domain.live or "", attributes)
        if domain.inactive is not None:
            domain.inactive = domain_text.with_wishes(domain.inactive, attributes)
        self._event(name, "metadata-change")

    # --- libvirtd itself

    def stop_libvirtd(self) -> None:
        """Domains go on. Clients lose their connection at once, events from now on are lost."""
        self.libvirtd.away = True
        self.libvirtd.release("hang")
        for kick in self.kicks:
            kick()

    async def start_libvirtd(self) -> None:
        """Runs `reconnect begin` for what runs, starts what is to autostart, and only then accepts clients.

        Lab: `autostarted`, `adopted`.
        """
        for domain in list(self.domains.values()):
            if domain.state == "ended":  # qemuProcessReconnect: QEMU is gone, qemuProcessStop
                await self._stop(domain)
            elif domain.live is not None:
                await self._hooks.call(domain, "reconnect", "begin")
        for domain in list(self.domains.values()):
            if domain.autostart and domain.live is None and domain.inactive is not None:
                try:
                    await self._start(domain, domain.inactive)
                except HostFailed:
                    continue  # qemuAutostartDomain: logged, and on with the next
        self.libvirtd.away = False
        for kick in self.kicks:
            kick()

    def hang(self) -> None:
        """Calls do not return from now on (SIGSTOP)."""
        self.libvirtd.hold("hang")

    def go_on(self) -> None:
        self.libvirtd.release("hang")

    # --- inside: start and stop

    async def _start(self, domain: Domain, text: str) -> None:
        domain.number, self._next = self._next, self._next + 1
        domain.live, domain.state = domain_text.live(text, domain.number), "starting"
        self._kernel.settle()
        try:
            await self._launch(domain)
        except HostFailed:
            # qemuProcessInit and qemuProcessStart, label `stop`: a failed start goes through qemuProcessStop, also
            # when it was the prepare hook that refused, so `stopped end` and `release end` run. No event is sent.
            # Lab: `foreign_member`, `fails_after_prepare`.
            await self._stop(domain)
            raise
        domain.state = "running"
        self._event(domain.name, "started")

    async def _launch(self, domain: Domain) -> None:
        hostdevs = domain_text.pci_hostdevs(domain.live or "")
        await self._hooks.need(domain, "prepare", "begin")
        mdevs = domain_text.mdevs(domain.live or "")
        await self._hostdevs.prepare(domain, hostdevs)
        self._hostdevs.prepare_mdevs(domain, mdevs)
        self._usb.prepare(domain)
        await self._hooks.need(domain, "start", "begin")
        if self._kernel.faults.get("start-fails", domain.name) is not None:
            raise monitor_closed(domain, "Could not open the firmware: No such file or directory")
        self._scopes.make(domain)
        domain.memory = guest_memory.allot(self._kernel.tree, domain.live or "")
        self._take_pages(domain)
        self._hostdevs.open_mdevs(domain, mdevs)
        self._hostdevs.open_groups(domain, hostdevs)
        for (kind, number), cpus in domain_text.pins(domain.live or "").items():
            self._scopes.pin(domain, kind, number, cpus)
        # RESUMED comes before the `started` hook and STARTED after it (measured on libvirt 9.0).
        self._event(domain.name, "resumed")
        await self._hooks.need(domain, "started", "begin")

    def _take_pages(self, domain: Domain) -> None:
        """QEMU touches all huge pages before anything runs (libvirt has it: qemuBuildMemoryBackendProps, prealloc)."""
        text = domain.live or ""
        first = guest_memory.first_node(self._kernel.tree, text)
        try:
            domain.pages = self._kernel.hugepages.take(self._parse(text), first)
        except OSError as error:
            words = f"unable to map backing store for guest RAM: {error.strerror}"
            raise monitor_closed(domain, words) from error

    async def _stop(self, domain: Domain) -> None:
        """qemuProcessStop: QEMU is killed, `stopped end`, devices back to the host, `release end`."""
        domain.state = "stopping"
        self._hostdevs.close_groups(domain, ended=True)
        self._usb.close(domain)
        self._scopes.end(domain)
        await self._hooks.call(domain, "stopped", "end")
        await self._hostdevs.reattach(domain, [*self._hostdevs.of(domain), *domain.detached])
        await self._hooks.call(domain, "release", "end")
        self._end(domain)

    def _end(self, domain: Domain) -> None:
        domain.live, domain.state, domain.number = None, "shut off", -1
        if domain.inactive is None:
            self.domains.pop(domain.name, None)
        self._kernel.settle()

    # --- inside: pins

    async def _pin(self, uuid: str, kind: str, number: int, cpus: CpuSet) -> None:
        domain = await self._by_uuid(uuid)
        if domain.live is None or domain.state not in ("running", "paused"):
            raise HostFailed("Requested operation is not valid: domain is not running")
        count = domain_text.vcpus(domain.live)
        if kind == "vcpupin" and number >= count:
            raise HostFailed(f"invalid argument: vcpu {number} is out of range of live cpu count {count}")
        if kind == "iothreadpin" and number not in domain_text.iothreads(domain.live):
            raise HostFailed(f"invalid argument: iothread {number} not found")
        if not cpus:
            raise HostFailed("invalid argument: Empty cpu list for pinning")
        self._scopes.pin(domain, kind, number, cpus)
        domain.live = domain_text.with_pin(domain.live, kind, number, cpus)
        self._event(domain.name, "tunable")  # virDomainEventTunableNew

    # --- inside: what else

    def _event(self, name: str, what: str) -> None:
        self._kernel.settle()
        if self.libvirtd.away:
            return
        self.events.append((name, what))
        for kick in self.kicks:
            kick()

    def _domain(self, name: str) -> Domain:
        if name not in self.domains:
            raise BadInput(f"Domain not found: no domain with matching name '{name}'")
        return self.domains[name]

    async def _by_uuid(self, uuid: str) -> Domain:
        await self.libvirtd.answer(self.limit)
        domain = next((d for d in self.domains.values() if d.uuid == uuid), None)
        if domain is None:
            raise HostFailed(f"Domain not found: no domain with matching uuid '{uuid}'")
        return domain

    def _active(self, name: str) -> Domain:
        domain = self._domain(name)
        if domain.live is None:
            raise HostFailed("Requested operation is not valid: domain is not running")
        return domain

    def show(self) -> dict[str, Any]:
        """Name to state, devices and pins."""
        return {
            domain.name: {
                "uuid": domain.uuid,
                "state": domain.state,
                "devices": [hostdev.address for hostdev in domain_text.pci_hostdevs(domain.text)],
                "pins": {
                    f"{kind} {number}": format_cpu_list(cpus)
                    for (kind, number), cpus in sorted(domain_text.pins(domain.text).items())
                },
            }
            for domain in self.domains.values()
        }

    # --- to and from JSON

    def dump(self) -> dict[str, Any]:
        return {
            "next": self._next,
            "away": self.libvirtd.away,
            "domains": [asdict(domain) for domain in self.domains.values()],
        }

    def load(self, dumped: dict[str, Any]) -> None:
        """What was starting or stopping when the process died has been stopped: libvirtd lives on in reality, its
        hook's connection breaks, and by the time the daemon is back libvirtd has put its own things back.
        """
        self._next, self.libvirtd.away = dumped["next"], dumped["away"]
        self.domains = {d["name"]: Domain(**d) for d in dumped["domains"]}
        running = [domain for domain in self.domains.values() if domain.state in ("running", "paused")]
        for domain in running:
            found = domain_text.pci_hostdevs(domain.live or "")
            self._hostdevs.active |= {hostdev.address: domain.name for hostdev in found}
            self._hostdevs.active |= dict.fromkeys(domain_text.mdevs(domain.live or ""), domain.name)
            self._usb.adopt(domain)
        for domain in list(self.domains.values()):
            if domain.state not in ("starting", "stopping", "ended"):
                continue
            self._hostdevs.close_groups(domain, ended=True)
            self._usb.close(domain)
            self._scopes.end(domain)
            for address in domain.detached:
                if address in self._kernel.pci.devices:
                    self._hostdevs.put_back(address)
            domain.detached = []
            self._end(domain)
