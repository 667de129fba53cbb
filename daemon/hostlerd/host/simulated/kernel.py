"""The kernel's front: takes writes and hands each to the noun it concerns, sends events, loads modules.

`write` is synchronous and answers at once: with success, with OSError as the real kernel would, or with `Blocked` when
the real one would not return. Time, processes and limits are the writer's.

Longer than 400 lines because it is the one front: each noun of the kernel adds its line to the table of what is written
where.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from hostlerd.host import Kick
from hostlerd.host.simulated import nodes, udev
from hostlerd.host.simulated.card import Card
from hostlerd.host.simulated.cgroups import ROOT, Cgroups
from hostlerd.host.simulated.cpus import show_online
from hostlerd.host.simulated.drivers import KNOWN, Driver
from hostlerd.host.simulated.faults import Faults, number
from hostlerd.host.simulated.functions import FunctionSpec
from hostlerd.host.simulated.hugepages import FILE as NR_HUGEPAGES
from hostlerd.host.simulated.hugepages import ROOM, Hugepages
from hostlerd.host.simulated.mdevs import CREATE, DEVICE, Mdevs
from hostlerd.host.simulated.pci import Blocked, Pci, fail
from hostlerd.host.simulated.processes import Processes
from hostlerd.host.simulated.quiet import Quiet
from hostlerd.host.simulated.screen import ScreenSpec
from hostlerd.host.simulated.threads import Threads
from hostlerd.host.simulated.tree import Tree
from hostlerd.host.simulated.usb import Usb, UsbSpec
from hostlerd.host.simulated.vfs import VirtualFunctions
from hostlerd.host.simulated.vgpus import Vgpus
from hostlerd.model.cpuset import CpuSet
from hostlerd.model.holders import SOUND_CONTROL, SOUND_SERVERS

_DEVICE = re.compile(r"/sys/devices/pci.*/([0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])/(.+)")
_USB = re.compile(r"/sys/devices/pci.*/(\d+-[\d.]+)/authorized")
_DRIVER = re.compile(r"/sys/bus/pci/drivers/([^/]+)/(bind|unbind|new_id|remove_id)")
_DEVICE_FILES = ("driver_override", "remove", "sriov_numvfs", "reset", "reset_method", "reset_subordinate",
                 "power/control", "d3cold_allowed")  # fmt: skip
_RESIZE = re.compile(r"resource(\d)_resize")
_PLATFORM = re.compile(r"/sys/bus/platform/drivers/([^/]+)/(bind|unbind)")
_PLAIN = re.compile(
    r"/sys/devices/pci.*/(sriov_drivers_autoprobe|rescan)"
    r"|/sys/.*/vtconsole/vtcon\d+/bind"
)


@dataclass(slots=True)
class Kernel:
    """`log`: every change tried through the seam, in order. `uevents`: (action, address or USB port) of every event.

    `kicks`: for events of PCI devices; `usb_kicks`: for those of USB devices and their interfaces. `thread_kicks`: for
    folders of vCPUs and iothreads that come and go (inotify). `pressure_kicks`: for the trigger of machine.slice.
    `left_behind`: writer processes to the device (or what else has the fault) whose write has not returned; `returned`
    is called, once, when one has.
    """

    cpus: CpuSet
    iommu: bool = True
    unified: bool = True
    tree: Tree = field(default_factory=Tree)
    faults: Faults = field(default_factory=Faults)
    log: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    uevents: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    changed: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])
    pci: Pci = field(init=False)
    card: Card = field(init=False)
    vfs: VirtualFunctions = field(init=False)
    cgroups: Cgroups = field(init=False)
    quiet: Quiet = field(init=False)
    processes: Processes = field(init=False)
    threads: Threads = field(init=False)
    mdevs: Mdevs = field(init=False)
    vgpus: Vgpus = field(init=False)
    usb: Usb = field(init=False)
    hugepages: Hugepages = field(init=False)
    kicks: list[Kick] = field(default_factory=list[Kick])
    left_behind: dict[int, str] = field(default_factory=dict[int, str])
    returned: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])
    usb_kicks: list[Kick] = field(default_factory=list[Kick])
    thread_kicks: list[Kick] = field(default_factory=list[Kick])
    pressure_kicks: list[Kick] = field(default_factory=list[Kick])

    def __post_init__(self) -> None:
        self.pci = Pci(self.tree, self.faults, self._emit, self._held, iommu=self.iommu)
        self.card, self.vfs = Card(self.pci), VirtualFunctions(self.pci)
        self.cgroups = Cgroups(self.tree, self.cpus, unified=self.unified)
        self.cgroups.release, self.cgroups.notified = lambda: self.pci.release, self._notified
        self.quiet = Quiet(self.tree, self.cpus)
        self.processes = Processes(self.tree)
        self.threads = Threads(self.tree, self.cgroups, lambda: self.pci.release)
        self.mdevs = Mdevs(self.tree, self.pci, self._emit)
        self.vgpus = Vgpus(self.tree, self.pci)
        self.pci.bound, self.pci.let_go, self.pci.closed = self._bound, self._let_go, self.mdevs.go_on
        self.pci.modules.opened = self.processes.opened
        self.pci.freed = self._freed
        self.hugepages = Hugepages(self.tree, self.faults)
        self.usb = Usb(self.tree, self._emit_usb, self._controller)

    def boot(self, *, release: str = "6.1.0-sim", drivers: Iterable[Driver] = KNOWN) -> None:
        self.tree.put("/proc/sys/kernel/osrelease", f"{release}\n")
        self.tree.put("/proc/sys/kernel/random/boot_id", "5e0d1c1a-0000-4000-8000-00000000c0de\n")
        self.tree.put("/proc/cmdline", "BOOT_IMAGE=/vmlinuz root=/dev/vda1 ro quiet\n")
        self.tree.put("/proc/version", f"Linux version {release}\n")
        self.tree.folder("/sys/class/iommu")
        self.tree.folder("/sys/bus/platform/devices")
        if self.iommu:
            self.tree.folder("/sys/class/iommu/ivhd0")
        if match := re.match(r"(\d+)\.(\d+)", release):
            self.pci.release = (int(match[1]), int(match[2]))
        drivers = tuple(drivers)
        aliases = "".join(f"alias vfio_pci:{d.vfio_alias} {d.module}\n" for d in drivers if d.vfio_alias)
        self.tree.put(f"/lib/modules/{release}/modules.alias", aliases)
        self.pci.boot(drivers)
        self.cgroups.boot()
        self.quiet.release = self.pci.release
        self.quiet.boot()

    def boot_screen(self, spec: ScreenSpec) -> None:
        """The firmware's screen, in the first megabytes of the card's memory."""
        card = self.pci.devices[spec.card]
        start, end = (int(word, 16) for word in self.tree.read(f"{card.folder}/resource").split()[:2])
        whole, part = f"{start:08x}-{end:08x}", f"{start:08x}-{start + 0x3E7FFF:08x}"
        self.pci.screen.boot(spec, card.folder, (whole, part), self.pci.release)

    # --- reads that are more than looking

    def read(self, path: str) -> bytes:
        """Raises OSError, and tree.WouldHang where the kernel does not return."""
        real = self.tree.real(path)
        if (match := _DEVICE.fullmatch(real)) and match[2] == "config":
            # pci_read_config wakes the function for the read (pci_config_pm_runtime_get) and lets it sleep again.
            spec = self.pci.devices[match[1]].spec
            # A virtual function has no ids of its own there (PCIe base specification, SR-IOV).
            ids = 0xFFFFFFFF if spec.physfn else spec.device << 16 | spec.vendor
            header = ids.to_bytes(4, "little") + bytes(4) + (spec.class_code << 8).to_bytes(4, "little")
            return b"\xff" * 64 if self.pci.is_dead(match[1]) else header.ljust(64, b"\0")
        return self.tree.read(path).encode()

    # --- writes

    def write(self, path: str, text: str) -> None:
        """Raises OSError, and `pci.Blocked` when the kernel does not return."""
        self.begin()
        real = self.tree.real(path)
        if self.tree.is_folder(real):
            raise fail(errno.EISDIR, path)
        fault = self.faults.get("write-fails", path)
        if fault is None:
            fault = self.faults.get("write-fails", real)
        if fault is not None:
            raise fail(number(fault or "EIO"), path)
        if not text:  # sysfs_kf_write returns early when there is nothing to write
            return
        try:
            self._dispatch(real, text)
        except (OSError, Blocked):
            self.log.append((real, text))
            self.settle()
            raise
        self.done(real, text)

    def _dispatch(self, real: str, text: str) -> None:
        if match := _DRIVER.fullmatch(real):
            driver, action = match.groups()
            word = text.strip()
            match action:
                case "bind":
                    self.pci.bind(driver, word)
                case "unbind":
                    self.pci.unbind(driver, word)
                case "new_id":
                    self.pci.new_id(driver, word)
                case _:
                    self.pci.remove_id(driver, word)
        elif match := _PLATFORM.fullmatch(real):
            action = self.pci.screen.bind if match[2] == "bind" else self.pci.screen.unbind
            action(match[1], text.strip())
        elif real == "/sys/bus/pci/drivers_probe":
            self.pci.drivers_probe(text.strip())
        elif real == "/sys/bus/pci/rescan":
            self.pci.one_at_a_time(real, self._rescan)
        elif real == "/sys/bus/pci/drivers_autoprobe":
            self.pci.autoprobe = not text.startswith("0")
            self.tree.put(real, f"{int(self.pci.autoprobe)}\n")
        elif (match := _DEVICE.fullmatch(real)) and (
            match[2] in _DEVICE_FILES or _RESIZE.fullmatch(match[2])
        ):
            self._device(match[1], match[2], text)
        elif match := CREATE.fullmatch(real):
            self.mdevs.create(match[1], match[2], text)
        elif match := DEVICE.fullmatch(real):
            if match[2] == "remove":
                self.mdevs.remove(match[1], text)
            else:
                self.mdevs.write(match[1], match[2], text)
        elif (match := _DEVICE.fullmatch(real)) and match[2] == "nvidia/current_vgpu_type":
            self.vgpus.write(match[1], text)
        elif match := _USB.fullmatch(real):
            self.usb.authorize(match[1], text)
        elif real.startswith(ROOT + "/"):
            folder, _, name = real.removeprefix(ROOT).rpartition("/")
            self.cgroups.write(folder, name, text)
        elif match := NR_HUGEPAGES.fullmatch(real):
            self.hugepages.write(int(match[1]), int(match[2]), text)
        elif ROOM.fullmatch(real):
            self.hugepages.make_room(real)
        elif self.quiet.write(real, text):
            pass
        elif _PLAIN.fullmatch(real):
            self.tree.put(real, text if text.endswith("\n") else text + "\n")
        else:
            # kernfs_fop_open: an attribute without a store method cannot be opened for writing, not by root either.
            raise fail(errno.EACCES, real)

    def _device(self, address: str, name: str, text: str) -> None:
        match name:
            case "driver_override":
                self.pci.driver_override(address, text)
            case "remove":
                self.pci.remove(address)
            case "reset" | "reset_subordinate":
                self.card.reset(address, below=name == "reset_subordinate")
            case "reset_method":
                self.card.reset_method(address, text)
            case "power/control" | "d3cold_allowed":
                self.card.power(address, name, text.strip())
            case _ if match := _RESIZE.fullmatch(name):
                self.card.resize(address, int(match[1]), text)
            case _:
                self.vfs.write(address, text.strip())

    def modprobe(self, words: list[str]) -> int:
        self.begin()
        status = self.pci.modprobe(words)
        self.done("/sbin/modprobe", " ".join(words))
        return status

    # --- what happens to the host

    def plug(self, specs: list[FunctionSpec]) -> None:
        """A card appears. Lab: `hotplug` (QMP device_add).

        pci_device_add sends the event, pci_bus_add_device tries the loaded drivers a moment later: udev's rule mostly
        comes too late for these, and in time for a driver whose module udev has yet to load. The fault `early-udev`
        turns the race round.
        """
        for spec in specs:
            device = self.pci.appear(spec)
            early = self.faults.get("early-udev") is not None
            if not early:
                self.pci.initial_probe(spec.address)
            udev.handle(self.tree, "add", spec.address, device.folder, self._by_udev)
            if early:
                self.pci.initial_probe(spec.address)
            self._coldplug(spec)
        self.settle()

    def unplug(self, address: str) -> None:
        """The card of this address is pulled out, with all its functions. Raises `pci.Blocked`."""
        slot = address.rpartition(".")[0]
        functions = sorted(a for a in self.pci.devices if a.rpartition(".")[0] == slot)
        if not functions:
            raise fail(errno.ENODEV, address)
        try:
            self.pci.take_out(functions)
        finally:
            self.settle()

    def switch_cpu(self, cpu: int, *, online: bool) -> None:
        """A write to /sys/devices/system/cpu/cpuN/online by somebody. Raises OSError for a CPU that cannot go."""
        show_online(self.tree, cpu, online=online)
        self.cgroups.switch(cpu, online=online)
        self._emit("online" if online else "offline", f"cpu{cpu}")
        self.settle()

    def _notified(self) -> None:
        """A control group's file says something else now."""
        for kick in self.kicks:
            kick()

    def starve(self) -> None:
        """The trigger of machine.slice's cpu.pressure fires."""
        for kick in self.pressure_kicks:
            kick()

    def plug_usb(self, spec: UsbSpec, port: str) -> None:
        self.usb.plug(spec, port)
        self.settle()

    def unplug_usb(self, port: str) -> None:
        self.usb.unplug(port)
        self.settle()

    def storm_usb(self, port: str, times: int) -> None:
        """A bad cable: what is in the port goes and comes so many times."""
        for _ in range(times):
            self.usb.plug(self.usb.unplug(port), port)
        self.settle()

    def hold(
        self,
        address: str,
        *,
        pid: int,
        command: str,
        uid: int,
        cgroup: str,
        paths: list[str] | None = None,
        mapped: bool = False,
    ) -> None:
        """A process opens every node of the device, or these alone."""
        files = paths or nodes.dev_files(self.tree, self.pci.devices[address].folder)
        self.run_process(pid=pid, command=command, uid=uid, cgroup=cgroup, paths=files, mapped=mapped)

    def run_process(
        self, *, pid: int, command: str, uid: int, cgroup: str, paths: list[str], mapped: bool = False
    ) -> None:
        self.processes.start(pid=pid, command=command, uid=uid, cgroup=cgroup, paths=paths, mapped=mapped)
        self._streams()
        self.pci.count_users()
        self.settle()

    def let_go(self, pid: int) -> None:
        """The process ends; a remove() that waited for it goes on."""
        self.processes.end(pid)
        for address in list(self.pci.devices):
            self.pci.go_on(address)
        self._streams()
        self.pci.count_users()
        self.settle()

    def cause(self, fault: str, obj: str, value: str) -> None:
        self.faults.cause(fault, obj, value)
        if fault == "d3cold":
            self.card.fall_asleep(obj)
        self.pci.count_users()
        self.settle()

    def lift(self, fault: str, obj: str) -> bool:
        lifted = self.faults.lift(fault, obj)
        if fault == "hang-unbind":
            self.pci.go_on(obj)
        elif fault == "slow-write":
            self._freed(obj)
        elif fault == "module-held":
            for address in list(self.pci.devices):
                self.pci.go_on(address)
        self.pci.count_users()
        self.settle()
        return lifted

    # --- writes that do not return

    def leave_behind(self, pid: int, waits_for: str) -> None:
        """The process that writes stays in the kernel."""
        self.left_behind[pid] = waits_for
        cgroup = f"/system.slice/hostler-write-{pid}.scope"
        self.processes.start(pid=pid, command="writing.py", uid=0, cgroup=cgroup, paths=[])
        self.settle()

    def _freed(self, what: str) -> None:
        for pid in [pid for pid, waits_for in self.left_behind.items() if waits_for == what]:
            del self.left_behind[pid]
            self.processes.end(pid)
        told, self.returned = self.returned, []
        for call in told:
            call()

    # --- inside

    def _rescan(self) -> None:
        for address in self.pci.found_again():
            self._coldplug(self.pci.devices[address].spec)

    def _coldplug(self, spec: FunctionSpec) -> None:
        """80-drivers.rules: udev loads the module whose alias matches. It registers and tries all that is free."""
        for driver in self.pci.drivers.values():
            if driver.name not in self.pci.registered and any(
                row.matches(spec.vendor, spec.device, spec.class_code) for row in driver.ids
            ):
                self.pci.register(driver)

    def _by_udev(self, path: str, text: str) -> None:
        self._dispatch(self.tree.real(path), text)

    def _streams(self) -> None:
        """/proc/asound: the status of each stream (sound/core/pcm.c, snd_pcm_substream_proc_status_read)."""
        cards = self.tree.listdir("/proc/asound") if self.tree.is_folder("/proc/asound") else []
        for card in cards:
            users = self.processes.hold([f"/dev/snd/pcmC{card.removeprefix('card')}D0p"])
            status = f"state: RUNNING\nowner_pid   : {users[0]}\n" if users else "closed\n"
            self.tree.put(f"/proc/asound/{card}/pcm0p/sub0/status", status)

    def _bound(self, address: str) -> None:
        self.vgpus.bound(address)
        self.mdevs.bound(address)

    def _let_go(self, address: str) -> None:
        self.mdevs.let_go(address)
        self.vgpus.let_go(address)

    def _held(self, address: str) -> bool:
        """By a process that does not let go: a sound server closes a card's control when udev says that it goes."""
        files = nodes.dev_files(self.tree, self.pci.devices[address].folder)
        controls = {path for path in files if path.startswith(SOUND_CONTROL)}
        return any(
            not set(self.processes.open[pid]) & set(files) <= controls
            or self.tree.read(f"/proc/{pid}/comm").strip() not in SOUND_SERVERS
            for pid in self.processes.hold(files)
        )

    def _emit(self, action: str, address: str) -> None:
        self.uevents.append((action, address))
        if action in ("bind", "unbind", "remove"):
            self.usb.follow(address)
        for kick in self.kicks:
            kick()

    def _emit_usb(self, action: str, name: str) -> None:
        self.uevents.append((action, name))
        for kick in self.usb_kicks:
            kick()

    def _controller(self, address: str) -> str | None:
        device = self.pci.devices.get(address)
        return device.folder if device is not None and device.driver == "xhci_hcd" else None

    def settle(self) -> None:
        """Something may have changed: who keeps a copy of the state takes one now."""
        for call in self.changed:
            call()

    def begin(self) -> None:
        """The daemon is about to change something: its journal says so already."""
        if ("die-before-writes", "") in self.faults.active and self.faults.count_down(
            "die-before-writes", ""
        ):
            self._die()

    def done(self, what: str, text: str) -> None:
        """The daemon changed something. Faults that count: dying comes last, the answer is never heard of."""
        self.log.append((what, text))
        self.settle()
        for name, obj in list(self.faults.active):
            if name in ("vanish-after-writes", "die-after-writes") and self.faults.count_down(name, obj):
                if name == "vanish-after-writes":
                    with contextlib.suppress(Blocked):  # it is not the writer who waits
                        self.unplug(obj)
                else:
                    self._die()

    def _die(self) -> None:
        self.settle()
        os.kill(os.getpid(), signal.SIGKILL)

    # --- to and from JSON

    def dump(self) -> dict[str, Any]:
        return {
            "tree": self.tree.dump(),
            "pci": self.pci.dump(),
            "mdevs": self.mdevs.dump(),
            "vgpus": self.vgpus.dump(),
            "usb": self.usb.dump(),
            "faults": self.faults.dump(),
            "screen": self.pci.screen.dump(),
            "hung": self.tree.hung,
            "left_behind": [[pid, what] for pid, what in self.left_behind.items()],
            "open": [[pid, paths] for pid, paths in self.processes.open.items()],
            "threads": self.threads.dump(),
            "offline": sorted(self.cgroups.offline),
            "cpus": sorted(self.cpus),
            "unified": self.cgroups.unified,
            "populated": sorted(self.cgroups.populated),
        }

    def load(self, dumped: dict[str, Any]) -> None:
        self.tree.load(dumped["tree"])
        self.cgroups.partitions.loaded()
        self.pci.load(dumped["pci"])
        self.mdevs.load(dumped["mdevs"])
        self.vgpus.load(dumped["vgpus"])
        self.usb.load(dumped["usb"])
        self.faults.load(dumped["faults"])
        self.tree.hung = list(dumped["hung"])
        self.processes.open = dict(dumped["open"])
        self.left_behind = dict(dumped.get("left_behind", []))
        self.cpus = frozenset(dumped["cpus"])
        self.cgroups.cpus, self.cgroups.unified = self.cpus, dumped["unified"]
        self.cgroups.populated = set(dumped["populated"])
        self.cgroups.offline = frozenset(dumped["offline"])
        self.threads.load(dumped["threads"])
