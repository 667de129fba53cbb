"""One simulated host: kernel, writer, systemd and libvirt wired together, kept in a file, and driven from outside.

The state file takes the whole host after every change, so that it outlives the process as a kernel outlives the daemon:
kill -9 and start again, and the host is where the last write left it.

Longer than 400 lines because all that can be done to a host from outside is one table of actions.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import trio

from hostler.errors import BadInput, HostFailed, TimedOut
from hostlerd.host import Files, Kick
from hostlerd.host.files import open_files
from hostlerd.host.simulated import cpus, guests, hosts, hugepages, machinery, nodes, recorded
from hostlerd.host.simulated.drivers import KNOWN
from hostlerd.host.simulated.engines import Known, SimulatedEngines
from hostlerd.host.simulated.functions import FunctionSpec
from hostlerd.host.simulated.hooks import Hook, no_hook
from hostlerd.host.simulated.hosts import HostSpec
from hostlerd.host.simulated.kernel import Kernel
from hostlerd.host.simulated.libvirt import Parse, SimulatedLibvirt
from hostlerd.host.simulated.pci import Blocked
from hostlerd.host.simulated.pressure import SimulatedPressure
from hostlerd.host.simulated.signals import SimulatedSignals
from hostlerd.host.simulated.sleep import SimulatedSleep
from hostlerd.host.simulated.systemd import SimulatedUnits
from hostlerd.host.simulated.tree import Tree, WouldHang
from hostlerd.host.simulated.usb import THINGS
from hostlerd.host.simulated.writer import SimulatedWriter
from hostlerd.model.cpuset import format_cpu_list, parse_cpu_list
from hostlerd.model.devices import DEVICES
from hostlerd.model.isolation import HOST_UNITS, MACHINE_SLICE
from hostlerd.observe import domain_xml

ACTIONS = (
    "show", "record", "define", "undefine", "create", "start", "stop", "attach", "detach", "pin", "wish",
    "set-vcpus", "suspend", "continue", "offline", "online", "starve", "plug", "unplug",
    "plug-usb", "unplug-usb", "storm-usb",
    "hold", "contain", "let-go", "fault", "lift", "start-unit", "stop-unit", "set-cpus", "daemon-reload",
    "inhibitors", "sleep", "resume",
    "stop-libvirtd", "start-libvirtd", "restart-libvirtd",
    "power-off", "hang-libvirtd", "free-libvirtd",
)  # fmt: skip

T = TypeVar("T")

SIMULATION = 3
"""Form of the state file. One of another form is refused: the host starts anew only when it is removed."""


class SimulatedHost:
    """Implements `hostlerd.host.Host`."""

    def __init__(
        self,
        spec: HostSpec | str = "desktop",
        *,
        hook: Hook = no_hook,
        parse: Parse = domain_xml.parse_domain,
        limit: float = 5.0,
        state_file: str | None = None,
    ) -> None:
        """`spec`: a description, the name of a built-in one, or the path of a recorded host (it has a slash in it).

        `hook`: what libvirt runs. `limit`: seconds of a libvirt call. `state_file`: read if it is there.

        Raises BadInput for an unknown name, and for a recording or a state file that is none.
        """
        self._recording: Files | None = None
        if isinstance(spec, str) and "/" in spec:
            self._recording = open_files(spec)
            self.spec = HostSpec(name=spec, processors=hosts.DESKTOP.processors, functions=(), drivers=())
        else:
            self.spec = hosts.find(spec) if isinstance(spec, str) else spec
        self.kernel = Kernel(cpus=self.spec.processors.all, iommu=self.spec.iommu, unified=self.spec.unified)
        self.writer = SimulatedWriter(self.kernel)
        self.units = SimulatedUnits(self.kernel)
        self.engines = SimulatedEngines(self.kernel)
        self.processes = SimulatedSignals(self.kernel)
        self.sleep = SimulatedSleep()
        self.pressure = SimulatedPressure(self.kernel)
        self.hypervisor = SimulatedLibvirt(
            self.kernel,
            self.units,
            self.writer,
            hook=hook,
            parse=parse,
            limit=limit,
            version=self.spec.libvirt,
        )
        self._state_file = state_file
        if state_file is not None and os.path.exists(state_file):
            self._load(state_file)
        elif self._recording is not None:
            self._adopt(self._recording)
        else:
            self._boot()
        if state_file is not None:
            self.kernel.changed.append(self.save)
            self.save()

    @property
    def files(self) -> Tree:
        return self.kernel.tree

    async def look(self, read: Callable[[], T], *, limit: float) -> T:
        """A read that would hang on a stuck device's lock takes its limit and raises TimedOut."""
        await trio.lowlevel.checkpoint()
        try:
            return read()
        except WouldHang as hang:
            await trio.sleep(limit)
            raise TimedOut(f"reading the host did not return within {limit:g} s") from hang

    def subscribe_devices(self, kick: Kick) -> None:
        """Called on every uevent of a PCI device."""
        self.kernel.kicks.append(kick)

    def subscribe_usb(self, kick: Kick) -> None:
        """Called on every uevent of a USB device or interface."""
        self.kernel.usb_kicks.append(kick)

    def subscribe_domains(self, kick: Kick) -> None:
        """Called on every event of libvirt, and when the connection is lost or there again."""
        self.hypervisor.kicks.append(kick)

    def subscribe_threads(self, kick: Kick) -> None:
        """Called when a vCPU or an iothread of a running domain comes or goes."""
        self.kernel.thread_kicks.append(kick)

    def subscribe_programs(self, kick: Kick) -> None:
        """Called when a scope in hostler.slice comes or goes."""
        self.units.program_kicks.append(kick)

    def _boot(self) -> None:
        known = {driver.name: driver for driver in KNOWN}
        cpus.show(self.kernel.tree, self.spec.processors)
        hugepages.show(self.kernel.tree, len(self.spec.processors.of_nodes()))
        self.kernel.boot(release=self.spec.release, drivers=[known[name] for name in self.spec.drivers])
        machinery.show(
            self.kernel.tree,
            vendor=self.spec.vendor,
            release=self.spec.release,
            cpus=self.spec.processors.all,
            iommu=self.spec.iommu,
        )
        for driver in self.kernel.pci.drivers.values():
            if driver.name not in self.spec.not_loaded:
                self.kernel.pci.register(driver)
        for function in self.spec.functions:
            self.kernel.pci.appear(function)
            self.kernel.pci.initial_probe(function.address)
        for parent in self.spec.mdevs:
            self.kernel.mdevs.register(parent)
        if self.spec.clocks:
            self.kernel.quiet.clocks()
        if self.spec.screen is not None:
            self.kernel.boot_screen(self.spec.screen)
        self.units.boot()
        self.kernel.uevents.clear()

    def _adopt(self, recording: Files) -> None:
        try:
            self.kernel.cpus = recorded.processors(recording)
        except (OSError, ValueError) as error:
            raise BadInput(f"{self.spec.name} does not say which CPUs are on line: {error}") from error
        recorded.adopt(self.kernel, recording)
        self.units.boot()
        self.kernel.uevents.clear()

    # --- the state file

    def save(self) -> None:
        if self._state_file is None:
            return
        text = json.dumps(
            {
                "form": SIMULATION,
                "host": self.spec.name,
                "kernel": self.kernel.dump(),
                "units": self.units.dump(),
                "engines": self.engines.dump(),
                "libvirt": self.hypervisor.dump(),
            },
            separators=(",", ":"),
        )
        beside = self._state_file + ".new"
        with open(beside, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(beside, self._state_file)

    def _load(self, path: str) -> None:
        try:
            with open(path, encoding="utf-8") as file:
                state = json.load(file)
            if state["form"] != SIMULATION or state["host"] != self.spec.name:
                raise ValueError(f"it is of the host {state['host']!r}")
            self.kernel.load(state["kernel"])
            self.kernel.pci.screen.load(state["kernel"]["screen"], self.spec.screen)
            self.units.load(state["units"])
            self.engines.load(state["engines"])
            self.hypervisor.load(state["libvirt"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadInput(
                f"{path} cannot be taken up: {error}", remedy="remove it, or choose another folder"
            ) from error

    # --- driven from outside

    async def simulate(self, action: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """What the socket's `simulate` does. Every answer can go over the wire.

        | action | params | does |
        |---|---|---|
        | show | | devices, domains, CPUs of slices, hooks run |
        | record | path | all its files go into a new folder, a recorded host |
        | define | xml, or name, devices?, mdevs?, managed?, cores?, threads?, iothreads?, pins?, memory?,
        | | hugepages?, nodes?, autostart? | define |
        | undefine, start, stop | name | virsh undefine, start, destroy |
        | create | as define | virsh create: a transient domain |
        | power-off | name | the guest ends by itself, whether libvirtd is there or not |
        | attach, detach | name, address, managed? | virsh attach-device, detach-device |
        | pin | name, vcpu or iothread or neither, cpus, config? | virsh vcpupin, iothreadpin, emulatorpin |
        | wish | name, cpus: attributes of hostler:cpus | virsh metadata --set |
        | set-vcpus | name, count | virsh setvcpus --live |
        | suspend, continue | name | virsh suspend, resume |
        | offline, online | cpu | a CPU goes or comes |
        | starve | | tasks in machine.slice have waited for a CPU too much |
        | plug | card | a card of the host's description goes into its slot |
        | unplug | address | it is pulled out |
        | plug-usb | device, port | a USB device (see usb.THINGS) goes into a port such as 1-2 |
        | unplug-usb | port | it is pulled out |
        | storm-usb | port, times? | it goes and comes so many times |
        | hold | address, pid, command, uid?, cgroup?, nodes?, mapped? | a process opens the device (or these nodes) |
        | contain | name, address, pid, command, uid?, engine?, nodes? | a container starts, and opens it; its id |
        | let-go | pid | it ends |
        | fault, lift | name, object?, value? | see faults.KNOWN |
        | start-unit, stop-unit | unit, path | a container's scope, say, in machine.slice |
        | set-cpus | unit, cpus | systemctl set-property --runtime |
        | daemon-reload | | systemctl daemon-reload |
        | inhibitors | | systemd-inhibit --list |
        | sleep | force? | systemctl suspend; its answer comes when the host sleeps |
        | resume | | it wakes up |
        | stop-libvirtd, start-libvirtd | | domains run on |
        | restart-libvirtd | seconds? | away for so long |
        | hang-libvirtd, free-libvirtd | | calls do not return; do again |

        Raises BadInput for what makes no sense, and what libvirt or the kernel raises.
        """
        try:
            return await self._act(action, params)
        except KeyError as error:
            raise BadInput(f"{action} needs {error.args[0]!r}") from error
        except ValueError as error:
            raise BadInput(f"{action}: {error}") from error
        except OSError as error:
            raise HostFailed(f"{action}: {error.strerror}", data={"errno": error.errno}) from error
        except Blocked as blocked:
            raise HostFailed(
                f"{action}: the kernel waits for {blocked.ticket.address} to be let go"
            ) from blocked

    async def _act(self, action: str, params: Mapping[str, Any]) -> dict[str, Any]:
        libvirt, kernel = self.hypervisor, self.kernel
        match action:
            case "show":
                return self.show()
            case "record":
                kernel.tree.save(params["path"])
            case "define":
                return {"name": await libvirt.define(_xml(params), autostart=_flag(params, "autostart"))}
            case "undefine":
                await libvirt.undefine(params["name"])
            case "create":
                return {"name": await libvirt.create(_xml(params))}
            case "start":
                await libvirt.start(params["name"])
            case "stop":
                await libvirt.destroy(params["name"])
            case "attach":
                await libvirt.attach(
                    params["name"], params["address"], managed=_flag(params, "managed", absent=True)
                )
            case "detach":
                await libvirt.detach_device(params["name"], params["address"])
            case "pin":
                cpuset, config = parse_cpu_list(params["cpus"]), _flag(params, "config")
                kind = next((kind for kind in ("vcpu", "iothread") if kind in params), "emulator")
                number = int(params.get(kind, 0))
                await libvirt.pin_by_hand(params["name"], f"{kind}pin", number, cpuset, config=config)
            case "wish":
                await libvirt.set_wishes(params["name"], params["cpus"])
            case "set-vcpus":
                await libvirt.set_vcpus(params["name"], int(params["count"]))
            case "suspend":
                await libvirt.suspend(params["name"])
            case "continue":
                await libvirt.resume(params["name"])
            case "offline" | "online":
                kernel.switch_cpu(int(params["cpu"]), online=action == "online")
            case "starve":
                kernel.starve()
            case "plug":
                kernel.plug(self._card(params["card"]))
            case "unplug":
                kernel.unplug(params["address"])
            case "plug-usb":
                if params["device"] not in THINGS:
                    raise ValueError(f"no device {params['device']!r}; there is {', '.join(THINGS)}")
                kernel.plug_usb(THINGS[params["device"]], params["port"])
            case "unplug-usb":
                kernel.unplug_usb(params["port"])
            case "storm-usb":
                kernel.storm_usb(params["port"], int(params.get("times", 20)))
            case "hold":
                kernel.hold(
                    params["address"],
                    pid=int(params["pid"]),
                    command=params["command"],
                    uid=int(params.get("uid", 1000)),
                    cgroup=params.get(
                        "cgroup", "/user.slice/user-1000.slice/user@1000.service/app.slice/app.scope"
                    ),
                    paths=_paths(params),
                    mapped=_flag(params, "mapped"),
                )
            case "contain":
                return {"id": self._contain(params)}
            case "let-go":
                kernel.let_go(int(params["pid"]))
                self.units.reap()
            case "fault":
                kernel.cause(params["name"], str(params.get("object", "")), str(params.get("value", "")))
            case "lift":
                return {"lifted": kernel.lift(params["name"], str(params.get("object", "")))}
            case "start-unit":
                self.units.start(params["unit"], params["path"])
            case "stop-unit":
                self.units.stop(params["unit"])
            case "set-cpus":
                self.units.set_by_hand(params["unit"], parse_cpu_list(params["cpus"]))
            case "daemon-reload":
                self.units.daemon_reload()
            case "inhibitors":
                return {"inhibitors": self.sleep.show()}
            case "sleep":
                return {"seconds": await self.sleep.fall_asleep(force=_flag(params, "force"))}
            case "resume":
                self.sleep.wake()
            case "vectors":
                kernel.quiet.vectors(params["address"], int(params["count"]))
                kernel.settle()
            case "power-off":
                await libvirt.power_off(params["name"])
            case "stop-libvirtd":
                libvirt.stop_libvirtd()
            case "start-libvirtd":
                await libvirt.start_libvirtd()
            case "restart-libvirtd":
                libvirt.stop_libvirtd()
                await trio.sleep(float(params.get("seconds", 0)))
                await libvirt.start_libvirtd()
            case "hang-libvirtd":
                libvirt.hang()
            case "free-libvirtd":
                libvirt.go_on()
            case _:
                raise BadInput(f"a simulated host cannot {action!r}", remedy=f"it can {', '.join(ACTIONS)}")
        return {}

    def _contain(self, params: Mapping[str, Any]) -> str:
        folder = self.kernel.pci.devices[params["address"]].folder
        return self.engines.make(
            Known(
                name=params["name"],
                engine=str(params.get("engine", "docker")),
                pid=int(params["pid"]),
                command=params["command"],
                uid=int(params.get("uid", 0)),
                paths=_paths(params) or nodes.dev_files(self.kernel.tree, folder),
            )
        )

    def _card(self, name: str) -> list[FunctionSpec]:
        if name not in self.spec.cards:
            raise ValueError(f"no card {name!r}; there is {', '.join(self.spec.cards) or 'none'}")
        present = [f.address for f in self.spec.cards[name] if f.address in self.kernel.pci.devices]
        if present:
            raise ValueError(f"there is a card at {present[0]}")
        return list(self.spec.cards[name])

    def show(self) -> dict[str, Any]:
        """The host at a glance, read from the kernel's side, not the daemon's."""
        kernel = self.kernel
        units = [*HOST_UNITS, MACHINE_SLICE]
        return {
            "host": self.spec.name,
            "devices": {
                address: {
                    "driver": device.driver,
                    "override": kernel.pci.override(address),
                    "group": device.spec.group,
                    "on_vfio": kernel.tree.exists(f"{DEVICES}/{address}/vfio-dev"),
                    "stuck": device.stuck,
                }
                for address, device in sorted(kernel.pci.devices.items())
            },
            "mdevs": {uuid: mdev.type for uuid, mdev in sorted(kernel.mdevs.devices.items())},
            "vfs": {
                address: kernel.tree.read(f"{device.folder}/sriov_numvfs").strip()
                for address, device in sorted(kernel.pci.devices.items())
                if device.spec.total_vfs and f"{device.folder}/sriov_numvfs" not in kernel.tree.locked
            },
            "vgpus": dict(sorted(kernel.vgpus.current.items())),
            "usb": kernel.usb.show(),
            "hugepages": kernel.hugepages.shown(),
            "units": sorted(self.units.paths),
            "slices": {unit: format_cpu_list(kernel.cgroups.effective(f"/{unit}")) for unit in units},
            "domains": self.hypervisor.show(),
            "writes": len(kernel.log),
            "hung": list(kernel.tree.hung),
            "faults": kernel.faults.dump(),
        }


def _flag(params: Mapping[str, Any], name: str, *, absent: bool = False) -> bool:
    """Parameters from a command line are text. Raises ValueError."""
    value = params.get(name, absent)
    if isinstance(value, str):
        if value not in ("yes", "no"):
            raise ValueError(f"{name} is yes or no, not {value!r}")
        return value == "yes"
    return bool(value)


def _paths(params: Mapping[str, Any]) -> list[str]:
    return [path for path in str(params.get("nodes", "")).split(",") if path]


def _xml(params: Mapping[str, Any]) -> str:
    """The domain's XML, or one made of a few words. `pins`: `0=4;1=12`, vCPU to CPU list."""
    if "xml" in params:
        return str(params["xml"])
    pins = [pin.partition("=") for pin in str(params.get("pins", "")).split(";") if pin]
    return guests.domain(
        params["name"],
        hostdevs=[address for address in str(params.get("devices", "")).split(",") if address],
        mdevs=[uuid for uuid in str(params.get("mdevs", "")).split(",") if uuid],
        managed=_flag(params, "managed", absent=True),
        cores=int(params.get("cores", 2)),
        threads=int(params.get("threads", 2)),
        iothreads=int(params.get("iothreads", 0)),
        memory_mib=int(params.get("memory", 4096)),
        hugepages=[int(kib) for kib in str(params.get("hugepages", "")).split(",") if kib],
        nodes=str(params.get("nodes", "")),
        pins={int(vcpu): cpus for vcpu, _, cpus in pins},
    )
