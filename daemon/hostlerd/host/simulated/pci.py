"""The PCI bus and its drivers: what binds when, what refuses, what hangs.

Follows drivers/base/bus.c and dd.c, drivers/pci/pci-driver.c, drivers/vfio/pci/vfio_pci_core.c and
drivers/iommu/iommu.c of Linux 6.1 to 6.12; the function that confirms a behaviour is named where it is. Errors are
OSError with the kernel's number; `Blocked` where the kernel would not return.

Longer than 400 lines because binding, letting go and the lock between them are one state machine.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

from hostlerd.host.simulated import functions, nodes
from hostlerd.host.simulated.bars import Bar
from hostlerd.host.simulated.drivers import Driver, Id, Nodes
from hostlerd.host.simulated.faults import Faults
from hostlerd.host.simulated.functions import DRIVERS, FunctionSpec
from hostlerd.host.simulated.modules import EXTRA, NVIDIA, Modules
from hostlerd.host.simulated.screen import Screen
from hostlerd.host.simulated.tree import Tree
from hostlerd.model.devices import DEVICES

LOCKED_ATTRIBUTES = ("driver_override", "uevent")
"""Attributes whose reading takes the device lock: driver_override_show, uevent_show (dev_uevent).

So on Debian 12's 6.1: both, and writing driver_override, do not return while a remove() hangs. On Debian 13's 6.12 all
three do: there the override has a lock of its own.
"""
OVERRIDE_HAS_ITS_LOCK = (6, 12)

Emit = Callable[[str, str], None]


def fail(code: int, path: str) -> OSError:
    return OSError(code, os.strerror(code), path)


class Blocked(Exception):
    """The kernel does not return from this write now. `ticket` tells when it does."""

    def __init__(self, ticket: Ticket) -> None:
        super().__init__(ticket.address)
        self.ticket = ticket


@dataclass(slots=True)
class Ticket:
    """A write that waits for a device lock."""

    address: str
    done: bool = False
    error: OSError | None = None
    then: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])

    def end(self, error: OSError | None) -> None:
        self.done, self.error = True, error
        for call in self.then:
            call()


@dataclass(slots=True)
class Device:
    """`driver`: the kernel's own idea; while a remove() hangs its link is gone already. `stuck`: its lock is held.

    `going`: it is being removed from the bus.
    """

    spec: FunctionSpec
    folder: str
    driver: str | None = None
    stuck: bool = False
    going: bool = False
    waiting: list[tuple[Ticket, Callable[[], None]]] = field(
        default_factory=list[tuple[Ticket, Callable[[], None]]]
    )


@dataclass(slots=True)
class Pci:
    """`owners`: IOMMU group to the domain whose QEMU has it open. `holders`: is a device held by a process?

    `freed`: called with a device when a remove() that waited has ended, and all that queued behind it.
    """

    tree: Tree
    faults: Faults
    emit: Emit
    holders: Callable[[str], bool] = lambda _address: False
    freed: Callable[[str], None] = lambda _address: None
    iommu: bool = True
    devices: dict[str, Device] = field(default_factory=dict[str, Device])
    drivers: dict[str, Driver] = field(default_factory=dict[str, Driver])
    registered: dict[str, list[Id]] = field(default_factory=dict[str, list[Id]])
    """Drivers on the bus, in the order in which they are tried, with their dynamic ids (new_id)."""
    owners: dict[int, str] = field(default_factory=dict[int, str])
    removed: list[FunctionSpec] = field(default_factory=list[FunctionSpec])
    """By software, and there to be found again."""
    autoprobe: bool = True
    bound: Callable[[str], None] = lambda _address: None
    """Told when a driver has taken a device; `let_go`: when one is about to be without; `closed`: of a closed group."""
    let_go: Callable[[str], None] = lambda _address: None
    closed: Callable[[], None] = lambda: None
    release: tuple[int, int] = (6, 1)
    """Of the kernel: what it does has changed here and there."""
    behind: list[tuple[Ticket, Callable[[], None]]] = field(
        default_factory=list[tuple[Ticket, Callable[[], None]]]
    )
    """What waits for the lock of all removing and rescanning (pci_lock_rescan_remove)."""
    modules: Modules = field(init=False)
    screen: Screen = field(init=False)

    def __post_init__(self) -> None:
        self.modules = Modules(self.tree, clients=self._clients)
        self.screen = Screen(self.tree)

    # --- the bus

    def boot(self, drivers: Iterable[Driver]) -> None:
        """The empty bus; `drivers` exist as modules, none is loaded."""
        for name in ("drivers_probe", "rescan"):
            self.tree.put(f"/sys/bus/pci/{name}", None)
        self.tree.put("/sys/bus/pci/drivers_autoprobe", "1\n")
        self.tree.folder(DEVICES)
        self.tree.folder(DRIVERS)
        self.tree.folder(functions.GROUPS)
        self.tree.put("/dev/vfio/vfio", "")
        self.drivers = {driver.name: driver for driver in drivers}

    def register(self, driver: Driver) -> None:
        """bus_add_driver, then driver_attach: every device without a driver that matches is tried."""
        if driver.name in self.registered:
            return
        self.registered[driver.name] = []
        folder = f"{DRIVERS}/{driver.name}"
        for name in ("bind", "unbind", "new_id", "remove_id", "uevent"):
            self.tree.put(f"{folder}/{name}", None)
        if driver.built_in:
            self.tree.folder(f"/sys/module/{driver.module}")
        else:
            self.modules.load(driver.module)
        self.tree.link(f"{folder}/module", f"/sys/module/{driver.module}")
        self.tree.link(f"/sys/module/{driver.module}/drivers/pci:{driver.name}", folder)
        if self.autoprobe:
            self._attach_all(driver)
        if driver.nodes is Nodes.NVIDIA:
            for extra in NVIDIA:
                self._load_extra(extra.name)

    def unregister(self, driver: Driver) -> None:
        """driver_unregister; the caller has seen that nothing is bound."""
        self.registered.pop(driver.name, None)
        self.tree.discard(f"{DRIVERS}/{driver.name}")
        if not any(self.drivers[name].module == driver.module for name in self.registered):
            self.modules.unload(driver.module)

    def _attach_all(self, driver: Driver) -> None:
        for device in list(self.devices.values()):
            if device.driver is None and not device.stuck and self._match(driver, device):
                self._probe(driver, device)

    # --- modules

    def modprobe(self, words: list[str]) -> int:
        """modprobe(8), with -r and -a: 1 where a module is not known or (with -r) in use. One that is not loaded is no
        error to -r.

        A bound device is no use of its module, an open one is: `modprobe -r vfio-pci` takes it off idle devices (seen
        on Linux 6.1).
        """
        remove = "-r" in words
        names = [word.replace("-", "_") for word in words if not word.startswith("-")]
        known = {driver.module for driver in self.drivers.values()}
        extra = EXTRA if "nvidia" in known else {}
        if not names or not set(names) <= {*known, *extra}:
            return 1
        if remove:
            return max([self._remove(name) for name in names])
        for name in names:
            if name in extra:
                self.modprobe(["nvidia"])
                self._load_extra(name)
            for driver in self._drivers_of(name):
                self.register(driver)
        return 0

    def _drivers_of(self, module: str) -> list[Driver]:
        return [driver for driver in self.drivers.values() if driver.module == module]

    def _remove(self, name: str) -> int:
        """modprobe -r of one module, and then of what it alone had used."""
        drivers = self._drivers_of(name)
        if any(driver.built_in for driver in drivers):
            return 1
        if not self.modules.loaded(name):
            return 0
        if self._references(name):
            return 1
        for driver in drivers:
            for device in self._bound(driver):
                self._detach(device)
            self.unregister(driver)
        if name in EXTRA:
            used = EXTRA[name].uses
            if name == "nvidia_drm":
                for device in self._of_nvidia():
                    nodes.take_away_drm(self.tree, device.folder)
            self.modules.unload(name)
            self.count_users()
            self._remove(used)  # modprobe does not mind if that is still in use
        return 0

    def _load_extra(self, name: str) -> None:
        if self.modules.loaded(name):
            return
        self.modules.load(name)
        if name == "nvidia_drm":
            for device in self._of_nvidia():
                nodes.make_drm(self.tree, device.folder)
        self.count_users()

    def _of_nvidia(self) -> list[Device]:
        return [d for d in self.devices.values() if d.driver and self.drivers[d.driver].nodes is Nodes.NVIDIA]

    def _clients(self, module: str) -> int:
        fault = self.faults.get("module-held", module)
        return 0 if fault is None else int(fault or "1")

    def _references(self, module: str) -> int:
        """What /sys/module/X/refcnt counts: modules that use it, files, kernel clients."""
        return sum(map(self._users, self._drivers_of(module))) + self.modules.references(module)

    def _users(self, driver: Driver) -> int:
        """Devices that somebody has open (vfio_device_open, drm_open, snd_open)."""
        bound = self._bound(driver)
        if driver.nodes is Nodes.VFIO:
            return sum(device.spec.group in self.owners for device in bound)
        return sum(self.holders(device.spec.address) for device in bound)

    def count_users(self) -> None:
        """Bring every module's refcnt up to date."""
        for name in (*{self.drivers[name].module: None for name in self.registered}, *EXTRA):
            if self.modules.loaded(name):
                self.tree.put(f"/sys/module/{name}/refcnt", f"{self._references(name)}\n")

    def _bound(self, driver: Driver) -> list[Device]:
        return [device for device in self.devices.values() if device.driver == driver.name]

    # --- devices come and go

    def appear(self, spec: FunctionSpec) -> Device:
        """The device is on the bus and the event is out; no driver has been tried (device_add up to the uevent)."""
        above = self.devices[spec.bridge].folder if spec.bridge else "/sys/devices/pci" + spec.address[:7]
        if not self.iommu and spec.group is not None:
            spec = replace(spec, group=None)
        device = Device(spec=spec, folder=f"{above}/{spec.address}")
        functions.show(self.tree, spec, device.folder)
        self.devices[spec.address] = device
        # vfio_pci_bus_notifier: the VFs of a PF that VFIO has are captured with an override.
        if spec.physfn and self.devices[spec.physfn].driver == "vfio-pci":
            self.tree.put(f"{device.folder}/driver_override", "vfio-pci\n")
        self.emit("add", spec.address)
        return device

    def initial_probe(self, address: str) -> None:
        """bus_probe_device."""
        device = self.devices[address]
        if self.autoprobe and device.driver is None:
            self._attach(device)

    def vanish(self, address: str) -> None:
        """pci_stop_and_remove_bus_device. Raises Blocked while remove() waits; goes on by itself then.

        Bridges take what is below them along. The driver goes first (pci_stop_dev); all that sysfs shows of the device
        but its driver link, its place on the bus included, stays until that let go (device_del). Lab:
        `unplugged_while_running`.
        """
        device = self.device(address)
        device.going = True
        for below in [d.spec.address for d in self.devices.values() if d.spec.bridge == address]:
            self.vanish(below)
        if device.stuck:
            self.locked(device, lambda: None)
        self._detach(device)
        self._gone(device)

    def take_out(self, addresses: Iterable[str], *, stays: bool = False) -> None:
        """pciehp_unconfigure_device, backwards; where the card `stays` in its slot, remove_store. Raises Blocked."""
        found = [self.device(address) for address in addresses]

        def now() -> None:
            for device in found:
                device.going = True
            if stays:
                self.removed += [device.spec for device in found]
            self._remove_going()

        self.one_at_a_time(found[0].spec.address, now)

    def one_at_a_time(self, what: str, action: Callable[[], None]) -> None:
        """Under the lock of all removing and rescanning (pci_lock_rescan_remove). Raises Blocked."""
        if any(device.going for device in self.devices.values()):
            ticket = Ticket(what)
            self.behind.append((ticket, action))
            raise Blocked(ticket)
        action()

    def _remove_going(self) -> None:
        while going := [device for device in self.devices.values() if device.going]:
            self.vanish(max(going, key=lambda device: device.spec.address).spec.address)
        queue, self.behind = self.behind, []
        for place, (ticket, action) in enumerate(queue):
            try:
                action()
            except OSError as error:
                ticket.end(error)
            except Blocked as again:
                again.ticket.then.append(partial(ticket.end, None))
                self.behind += queue[place + 1 :]
                return
            else:
                ticket.end(None)

    def _gone(self, device: Device) -> None:
        self._unlock_reads(device)
        functions.hide(self.tree, device.spec, device.folder)
        self.devices.pop(device.spec.address, None)
        self.emit("remove", device.spec.address)

    def remove(self, address: str) -> None:
        """remove_store: off the bus by software; a rescan finds it again."""
        self.take_out([address], stays=True)

    def found_again(self) -> list[str]:
        """pci_rescan_bus. A function that reads as ones is not there (pci_bus_read_dev_vendor_id)."""
        found: list[str] = []
        for spec in sorted(self.removed, key=lambda spec: spec.address):
            if self.faults.get("dead", spec.address) == "rescan":
                self.faults.lift("dead", spec.address)
            if not self.is_dead(spec.address):
                self.removed.remove(spec)
                self.appear(spec)
                self.initial_probe(spec.address)
                found.append(spec.address)
        return found

    def is_dead(self, address: str) -> bool:
        return self.faults.get("dead", address) is not None

    def _moved(self, device: Device) -> None:
        """Taken from or given to a driver: "Unable to change power state from D3cold to D0, device inaccessible"."""
        if self.faults.lift("d3cold", device.spec.address):
            self.faults.cause("dead", device.spec.address)

    # --- writes to the bus and to drivers

    def driver_override(self, address: str, text: str) -> None:
        """driver_override_store: sets an attribute and nothing else; a newline first clears it."""
        device = self.device(address)
        path = f"{device.folder}/driver_override"
        if len(text) >= 4095:
            raise fail(errno.EINVAL, path)
        name = text.split("\n", 1)[0]
        content = f"{name}\n" if name else functions.NO_OVERRIDE
        if self.release < OVERRIDE_HAS_ITS_LOCK:
            self.locked(device, lambda: self.tree.put(path, content))
        else:
            self.tree.put(path, content)

    def unbind(self, driver: str, address: str) -> None:
        """unbind_store: ENODEV when the device is not there or another driver has it."""
        device = self.devices.get(address)
        if device is None or (device.driver != driver and not device.stuck):
            raise fail(errno.ENODEV, f"{DRIVERS}/{driver}/unbind")
        self.locked(device, lambda: self._detach(device))

    def bind(self, driver: str, address: str) -> None:
        """bind_store: ENODEV when it does not match, EBUSY when it is bound already, the probe's own error else."""
        path = f"{DRIVERS}/{driver}/bind"
        device = self.devices.get(address)
        if device is None or not self._match(self.drivers[driver], device):
            raise fail(errno.ENODEV, path)

        def now() -> None:
            if device.driver is not None:  # __driver_probe_device
                raise fail(errno.EBUSY, path)
            code = self._probe(self.drivers[driver], device)
            if code:
                raise fail(code, path)

        self.locked(device, now)

    def drivers_probe(self, address: str) -> None:
        """drivers_probe_store: ENODEV for no such device; success whether or not anything was bound.

        A failing probe() is not an error here either (__device_attach_driver: the next driver may try its luck), and
        neither is a device that has a driver already (bus_rescan_devices_helper). One whose remove() hangs has it
        still: that probe returns at once and does nothing. Lab: `console_card` reads back.
        """
        device = self.devices.get(address)
        if device is None:
            raise fail(errno.ENODEV, "/sys/bus/pci/drivers_probe")
        if device.driver is None:
            self._attach(device)

    def new_id(self, driver: str, text: str) -> None:
        """new_id_store: EINVAL for less than two numbers, EEXIST where the driver has the id, then all are tried."""
        path = f"{DRIVERS}/{driver}/new_id"
        vendor, device = _ids(text, path)
        table = (*self.drivers[driver].ids, *self.registered[driver])
        if any(row.vendor == vendor and row.device == device for row in table):
            raise fail(errno.EEXIST, path)
        self.registered[driver].append(Id(vendor=vendor, device=device))
        self._attach_all(self.drivers[driver])

    def remove_id(self, driver: str, text: str) -> None:
        """remove_id_store: ENODEV where it is not there."""
        path = f"{DRIVERS}/{driver}/remove_id"
        row = Id(**dict(zip(("vendor", "device"), _ids(text, path), strict=True)))
        if row not in self.registered[driver]:
            raise fail(errno.ENODEV, path)
        self.registered[driver].remove(row)

    # --- groups

    def open_group(self, group: int, owner: str) -> None:
        """What QEMU does: EPERM while a member has a host driver (iommu_group_claim_dma_owner), EBUSY if open."""
        path = f"/dev/vfio/{group}"
        if not self.tree.exists(path):
            raise fail(errno.ENOENT, path)
        if self.owners.get(group, owner) != owner:
            raise fail(errno.EBUSY, path)
        if self.foreign(group):
            raise fail(errno.EPERM, path)
        self.owners[group] = owner
        self.count_users()

    def foreign(self, group: int) -> list[str]:
        """Members of the group that a host driver has: they make it not viable. Bridges' pcieport does not count.

        Nor does a driver that gives the device to VFIO itself, as NVIDIA's does with its VFs.
        """
        members = [d for d in self.devices.values() if d.spec.group == group and d.driver is not None]
        return sorted(
            d.spec.address
            for d in members
            if not (self.drivers[str(d.driver)].own_dma or self.tree.is_folder(f"{d.folder}/vfio-dev"))
        )

    def close_groups(self, owner: str, keep: Iterable[int] = ()) -> None:
        """QEMU is gone, or gave up all but `keep`. What waited for it in remove() goes on."""
        for group in [g for g, who in self.owners.items() if who == owner and g not in keep]:
            del self.owners[group]
            for device in [d for d in self.devices.values() if d.spec.group == group and d.stuck]:
                self.go_on(device.spec.address)
        self.closed()
        self.count_users()

    # --- binding

    def _match(self, driver: Driver, device: Device) -> bool:
        """pci_match_device: with an override only that driver matches, and it matches whatever its table says."""
        override = self.override(device.spec.address)
        if override is not None:
            return override == driver.name
        rows = (*self.registered.get(driver.name, ()), *driver.ids)
        return any(
            row.matches(device.spec.vendor, device.spec.device, device.spec.class_code) for row in rows
        )

    def override(self, address: str) -> str | None:
        """The kernel's own look, which no lock stops."""
        held = self.tree.locked
        self.tree.locked = set()
        try:
            text = self.tree.read(f"{self.devices[address].folder}/driver_override")
        finally:
            self.tree.locked = held
        return None if text == functions.NO_OVERRIDE else text.strip()

    def _attach(self, device: Device) -> None:
        """__device_attach: the drivers of the bus in order, until one takes it."""
        for name in list(self.registered):
            if device.driver is not None:
                return
            if self._match(self.drivers[name], device):
                self._probe(self.drivers[name], device)

    def _probe(self, driver: Driver, device: Device) -> int:
        """really_probe: 0, or the error with which the driver refused. Then the device is without a driver."""
        code = self._refusal(driver, device)
        if code:
            return code
        address = device.spec.address
        device.driver = driver.name
        self.tree.link(f"{device.folder}/driver", f"{DRIVERS}/{driver.name}")
        self.tree.link(f"{DRIVERS}/{driver.name}/{address}", device.folder)
        self._show_bound(device)
        nodes.make(self.tree, driver.nodes, device.spec, device.folder)
        self.bound(address)
        if driver.nodes is Nodes.NVIDIA and self.modules.loaded("nvidia_drm"):
            nodes.make_drm(self.tree, device.folder)
        elif driver.nodes is Nodes.DRM and (device.spec.boot_vga or self.screen.keeps(address)):
            self.screen.remove(address)
            nodes.make_framebuffer(self.tree, device.folder)
        self.emit("bind", address)
        return 0

    def _refusal(self, driver: Driver, device: Device) -> int:
        self._moved(device)
        if self.is_dead(device.spec.address) and driver.nodes is not Nodes.VFIO:
            return errno.EIO
        fault = self.faults.get("probe-fails", device.spec.address)
        if fault is not None and fault in ("", driver.name):
            return errno.EIO
        if not self._can_probe(device):
            return errno.ENODEV
        if driver.nodes is Nodes.VFIO:
            # vfio_pci_core_register_device: no bridges; EBUSY for a PF with VFs. vfio_group_find_or_alloc: no group.
            if device.spec.is_bridge or device.spec.group is None:
                return errno.EINVAL
            if device.spec.total_vfs and self.tree.read(f"{device.folder}/sriov_numvfs").strip() != "0":
                return errno.EBUSY
        elif device.spec.group in self.owners and not driver.own_dma:
            # pci_dma_configure, iommu_device_use_default_domain: the group is a domain's now.
            return errno.EBUSY
        else:
            rows = (*self.registered.get(driver.name, ()), *driver.ids)
            spec = device.spec
            if (
                rows
                and not driver.takes_any
                and not any(row.matches(spec.vendor, spec.device, spec.class_code) for row in rows)
            ):
                return errno.ENODEV  # matched by the override alone; the driver does not know the hardware
        return 0

    def _can_probe(self, device: Device) -> bool:
        """pci_device_can_probe: VFs of a PF without drivers_autoprobe only with an override."""
        if device.spec.physfn not in self.devices or self.override(device.spec.address) is not None:
            return True
        folder = self.devices[device.spec.physfn].folder
        return self.tree.read(f"{folder}/sriov_drivers_autoprobe").strip() == "1"

    def _show_bound(self, device: Device) -> None:
        self.tree.put(f"{device.folder}/uevent", functions.uevent(device.spec, device.driver))
        self.count_users()

    def _detach(self, device: Device) -> None:
        """__device_release_driver: the links go first, then remove() may wait for ever with the lock held."""
        if device.driver is None:
            return
        self.tree.discard(f"{DRIVERS}/{device.driver}/{device.spec.address}")
        self.tree.discard(f"{device.folder}/driver")
        if self._waits(device):
            device.stuck = True
            # vfio_unregister_group_dev: from 6.6 on the child vfio-dev goes before the waiting, until then after it.
            # Seen on 6.1 and 6.12.
            if self.drivers[device.driver].nodes is Nodes.VFIO and self.release >= (6, 6):
                nodes.take_away(self.tree, Nodes.VFIO, device.spec, device.folder, last_of_group=False)
                self.emit("remove", f"vfio-dev of {device.spec.address}")
            self._lock_reads(device)
            ticket = Ticket(device.spec.address)
            device.waiting.insert(0, (ticket, lambda: None))
            raise Blocked(ticket)
        self._let_go(device)

    def _waits(self, device: Device) -> bool:
        address, driver = device.spec.address, self.drivers[str(device.driver)]
        self._moved(device)
        if self.faults.get("hang-unbind", address) is not None:
            return True
        # vfio_unregister_group_dev waits until the user closes the device; snd_card_disconnect_sync for the files;
        # nvidia's nv_pci_remove_helper loops while its usage count is not 0, which kernel clients count in, too.
        if driver.nodes is Nodes.VFIO:
            return device.spec.group in self.owners
        held = driver.nodes is Nodes.NVIDIA and any(self._clients(extra.name) for extra in NVIDIA)
        return driver.waits and (held or self.holders(address))

    def _let_go(self, device: Device) -> None:
        driver = self.drivers[str(device.driver)]
        self.let_go(device.spec.address)
        device.driver = None
        others = [
            d for d in self.devices.values() if d.spec.group == device.spec.group and d.driver == driver.name
        ]
        nodes.take_away(self.tree, driver.nodes, device.spec, device.folder, last_of_group=not others)
        self._show_bound(device)
        self.emit("unbind", device.spec.address)

    # --- the device lock

    def locked(self, device: Device, action: Callable[[], None]) -> None:
        """Do it under the device lock. While a remove() holds that for ever, everybody else queues behind it."""
        if not device.stuck:
            action()
            return
        ticket = Ticket(device.spec.address)
        device.waiting.append((ticket, action))
        raise Blocked(ticket)

    def _lock_reads(self, device: Device) -> None:
        if self.release < OVERRIDE_HAS_ITS_LOCK:
            self.tree.locked |= {f"{device.folder}/{name}" for name in LOCKED_ATTRIBUTES}

    def _unlock_reads(self, device: Device) -> None:
        self.tree.locked -= {f"{device.folder}/{name}" for name in LOCKED_ATTRIBUTES}

    def go_on(self, address: str) -> None:
        """What the stuck remove() waited for has come: it ends, and what queued behind the lock follows in order."""
        device = self.devices.get(address)
        if device is None or not device.stuck or self._waits(device):
            return
        device.stuck = False
        self._unlock_reads(device)
        self._let_go(device)
        queue, device.waiting = device.waiting, []
        if device.going:
            self._gone(device)
        for place, (ticket, action) in enumerate(queue):
            try:
                if not device.going:
                    action()
            except OSError as error:
                ticket.end(error)
            except Blocked as again:
                again.ticket.then.append(partial(ticket.end, None))
                device.waiting += queue[place + 1 :]
                self.freed(address)
                return
            else:
                ticket.end(fail(errno.ENODEV, address) if device.going and place else None)
        self.freed(address)
        if device.going:
            with contextlib.suppress(Blocked):  # the next function of the card is in use, too
                self._remove_going()

    def device(self, address: str) -> Device:
        if address not in self.devices:
            raise fail(errno.ENODEV, address)
        return self.devices[address]

    # --- to and from JSON

    def dump(self) -> dict[str, Any]:
        return {
            "iommu": self.iommu,
            "removed": [asdict(spec) for spec in self.removed],
            "autoprobe": self.autoprobe,
            "release": list(self.release),
            "owners": [[group, owner] for group, owner in self.owners.items()],
            "drivers": [{**asdict(d), "ids": [asdict(row) for row in d.ids]} for d in self.drivers.values()],
            "registered": {name: [asdict(row) for row in rows] for name, rows in self.registered.items()},
            "devices": [
                {
                    "spec": asdict(d.spec),
                    "folder": d.folder,
                    "driver": d.driver,
                    "stuck": d.stuck,
                    "going": d.going,
                }
                for d in self.devices.values()
            ],
        }

    def load(self, dumped: dict[str, Any]) -> None:
        """Writers that queued behind a stuck device are gone with the process that is loaded from."""
        self.iommu, self.autoprobe = dumped["iommu"], dumped["autoprobe"]
        self.release = (dumped["release"][0], dumped["release"][1])
        self.owners = dict(dumped["owners"])
        self.drivers = {d["name"]: _driver(d) for d in dumped["drivers"]}
        self.registered = {name: [Id(**row) for row in rows] for name, rows in dumped["registered"].items()}
        self.removed = [_spec(spec) for spec in dumped["removed"]]
        self.devices = {}
        for d in dumped["devices"]:
            spec = _spec(d["spec"])
            self.devices[spec.address] = Device(
                spec=spec, folder=d["folder"], driver=d["driver"], stuck=d["stuck"], going=d["going"]
            )
            if d["stuck"]:
                self._lock_reads(self.devices[spec.address])


def _spec(dumped: dict[str, Any]) -> FunctionSpec:
    row = dict(dumped)
    row["bars"] = tuple(Bar(**bar) for bar in dumped["bars"])
    row["vgpu_types"] = tuple(tuple(kind) for kind in dumped["vgpu_types"])
    row["resets"] = tuple(dumped["resets"])
    return FunctionSpec(**row)


def _driver(dumped: dict[str, Any]) -> Driver:
    row = dict(dumped)
    row["ids"] = tuple(Id(**one) for one in dumped["ids"])
    row["nodes"] = Nodes(dumped["nodes"])
    return Driver(**row)


def _ids(text: str, path: str) -> tuple[int, int]:
    try:
        vendor, device = (int(word, 16) for word in text.split()[:2])
    except ValueError:
        raise fail(errno.EINVAL, path) from None
    return vendor, device
