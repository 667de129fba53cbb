"""What is to happen: domains get devices and CPUs, and give everything back."""

from __future__ import annotations

from typing import Any

from hostlerd.host.simulated.hosts import DESKTOP
from hostlerd.host.simulated.story.stage import Stage
from hostlerd.host.simulated.story.telling import Telling
from hostlerd.model.cpuset import CpuSet, format_cpu_list, parse_cpu_list

CARD = [f"0000:01:00.{n}" for n in range(4)]
USB, AUDIO = "0000:0b:00.3", "0000:0b:00.1"
HOST_SLICES = ("init.scope", "system.slice", "user.slice")


def on_vfio(shown: Any) -> list[str]:
    return [address for address, device in shown["devices"].items() if device["on_vfio"]]


def vcpu_pins(shown: Any, name: str) -> dict[int, CpuSet]:
    pins = shown["domains"][name]["pins"]
    return {
        int(key.split()[1]): parse_cpu_list(cpus) for key, cpus in pins.items() if key.startswith("vcpupin ")
    }


def pinned(stage: Stage, name: str, count: int) -> Any:
    """The host once each vCPU of the domain has a CPU of its own and the host's slices are off them."""

    def done() -> bool:
        shown = stage.show()
        pins = vcpu_pins(shown, name)
        dedicated = frozenset(cpu for cpus in pins.values() for cpu in cpus)
        host = [parse_cpu_list(shown["slices"][unit]) for unit in HOST_SLICES]
        return len(pins) == count == len(dedicated) and not any(cpus & dedicated for cpus in host)

    stage.until(done, 10.0)
    return stage.show()


def check_pins(tell: Telling, shown: Any, name: str, count: int) -> CpuSet:
    """Each vCPU on a CPU of its own, sibling vCPUs on siblings, all in one level-3 cache. Returns the CPUs."""
    pins = vcpu_pins(shown, name)
    cpus = frozenset(cpu for pin in pins.values() for cpu in pin)
    processors = DESKTOP.processors
    told = ", ".join(f"{vcpu} on {format_cpu_list(cpu)}" for vcpu, cpu in sorted(pins.items()))
    one_each = len(pins) == count == len(cpus) and all(len(pin) == 1 for pin in pins.values())
    tell.check(f"each of {name}'s {count} vCPUs has a CPU of its own ({told})", one_each, pins)
    pairs = [pins.get(vcpu, frozenset()) | pins.get(vcpu + 1, frozenset()) for vcpu in range(0, count, 2)]
    cores = [processors.of_core(core) for core in range(processors.cores)]
    tell.check(
        "threads of one guest core are on the threads of one host core", all(p in cores for p in pairs), pins
    )
    caches = [processors.of_l3(cache) for cache in range(len(processors.l3_kib))]
    tell.check("all within one level-3 cache", any(cpus <= cache for cache in caches), format_cpu_list(cpus))
    return cpus


def check_isolation(tell: Telling, shown: Any, dedicated: CpuSet) -> None:
    rest = format_cpu_list(DESKTOP.processors.all - dedicated)
    for unit in HOST_SLICES:
        found = shown["slices"][unit]
        tell.check(f"{unit} is confined to CPUs {rest}", found == rest, found)
    machine = shown["slices"]["machine.slice"]
    tell.check("machine.slice may use all CPUs", parse_cpu_list(machine) == DESKTOP.processors.all, machine)


def mapped(shown: Any) -> dict[str, dict[int, CpuSet]]:
    """By domain the CPU of each vCPU, as `hostler cpus --json` has them."""
    found: dict[str, dict[int, CpuSet]] = {}
    for owner in shown["owners"]:
        if owner["kind"] == "vcpu":
            found.setdefault(owner["domain"], {})[owner["vcpu"]] = frozenset({owner["cpu"]})
    return found


def before_anything(stage: Stage, tell: Telling) -> None:
    tell.scene(
        "A host at rest",
        "The daemon is the real one, in a process of its own; the host below it is simulated: a kernel, a systemd and "
        "a libvirt in memory that answer as the real ones do. Commands go over the real socket.",
    )
    state = stage.settled()
    tell.command("hostler status", stage.client("status").text)
    tell.command("hostler devices", stage.client("devices").text, most=20)
    tell.check("the daemon has nothing to do", state == "converged", state)
    plan = stage.client("plan", "--json").json
    tell.check("its plan is empty", plan["converged"] and not plan["steps"], plan)
    shown = stage.show()
    tell.check("it has written nothing to the kernel", shown["writes"] == 0, shown["writes"])


def first_domain(stage: Stage, tell: Telling) -> CpuSet:
    tell.scene(
        "A domain takes the card",
        "win11 has one hostdev, the display card at 0000:01:00.0, on amdgpu now. Its audio, USB and UCSI functions are "
        "in the same IOMMU group and on drivers of their own.",
    )
    stage.simulate("define", name="win11", devices=CARD[0], cores=3, iothreads=1)
    done = stage.client("simulate", "start", "name=win11")
    tell.command("hostler simulate start name=win11", done.text)
    shown = pinned(stage, "win11", 6)
    stage.settled()
    shown = stage.show()
    tell.check(
        "libvirt started it", done.status == 0 and shown["domains"]["win11"]["state"] == "running", done.text
    )
    tell.check(
        "the card and its three companions are on VFIO, nothing else is",
        on_vfio(shown) == CARD,
        on_vfio(shown),
    )
    dedicated = check_pins(tell, shown, "win11", 6)
    check_isolation(tell, shown, dedicated)
    tell.command("hostler status", stage.client("status").text)
    tell.command("hostler cpus", stage.client("cpus").text)
    own = mapped(stage.client("cpus", "--json").json)
    tell.check("the map shows each vCPU where it is pinned", own == {"win11": vcpu_pins(shown, "win11")}, own)
    tell.command("hostler domains win11", stage.client("domains", "win11").text, most=24)
    check_doctor(stage, tell, dedicated)
    return dedicated


def check_doctor(stage: Stage, tell: Telling, dedicated: CpuSet) -> None:
    """Nothing is in the way on this host, and at boot it would name the CPUs that the domain has."""
    done = stage.client("doctor")
    tell.command("hostler doctor", done.text, most=40)
    tell.check("doctor finds nothing in the way", done.status == 0, done.text)
    line = stage.client("doctor", "--json").json["command_line"]
    tell.check("the kernel command line is fine as it is", line["line"] == line["now"], line)
    named = f"nohz_full={format_cpu_list(dedicated)}"
    tell.check(
        "for a real-time guest it names the CPUs that win11 has", named in line["realtime"].split(), line
    )


def second_domain(stage: Stage, tell: Telling, first: CpuSet) -> None:
    tell.scene(
        "A second domain beside it",
        "linux gets the USB controller 0000:0b:00.3 and CPUs that win11 does not have.",
    )
    stage.simulate("define", name="linux", devices=USB)
    stage.until(lambda: stage.client("cpus", "--what-if", "linux").status == 0, 10.0)
    writes = stage.show()["writes"]
    tell.command("hostler cpus --what-if linux", stage.client("cpus", "--what-if", "linux").text, most=24)
    thought = mapped(stage.client("cpus", "--what-if", "linux", "--json").json)
    tell.check("to think of it changes nothing", stage.show()["writes"] == writes, stage.show()["writes"])
    done = stage.client("simulate", "start", "name=linux")
    tell.command("hostler simulate start name=linux", done.text)
    pinned(stage, "linux", 4)
    stage.settled()
    shown = stage.show()
    tell.check("libvirt started it", done.status == 0, done.text)
    tell.check("its controller is on VFIO too", on_vfio(shown) == [*CARD, USB], on_vfio(shown))
    second = check_pins(tell, shown, "linux", 4)
    still = frozenset(cpu for pin in vcpu_pins(shown, "win11").values() for cpu in pin)
    tell.check("the two share no CPU", not second & still, format_cpu_list(second & still))
    tell.check("win11 was not moved", still == first, format_cpu_list(still))
    pins = {name: vcpu_pins(shown, name) for name in ("linux", "win11")}
    tell.check("both are where the map said before", thought == pins, thought)
    check_isolation(tell, shown, second | still)


def neighbour(stage: Stage, tell: Telling) -> None:
    tell.scene(
        "A small domain that has a pin of its own",
        "small has no device, so it gets no CPU for itself. Its XML pins vCPU 0 to CPU 7: that is never overridden. "
        "All else of it is kept off the CPUs of the other two.",
    )
    stage.simulate("define", name="small", cores=2, threads=1, pins="0=7")
    done = stage.client("simulate", "start", "name=small")
    tell.command("hostler simulate start name=small", done.text)
    taken = frozenset(
        cpu for name in ("win11", "linux") for pin in vcpu_pins(stage.show(), name).values() for cpu in pin
    )
    stage.until(lambda: 1 in vcpu_pins(stage.show(), "small"), 10.0)
    stage.settled()
    pins = vcpu_pins(stage.show(), "small")
    tell.check("vCPU 0 is where its XML says", pins.get(0) == frozenset({7}), pins)
    tell.check("vCPU 1 is off the other domains' CPUs", 1 in pins and not pins[1] & taken, pins)

    stage.client("simulate", "attach", "name=small", f"address={AUDIO}")
    tell.command(f"hostler simulate attach name=small address={AUDIO}", "")
    stage.until(lambda: owner(stage, AUDIO) == {"kind": "domain", "who": "small"}, 10.0)
    stage.settled()
    found = owner(stage, AUDIO)
    tell.check(
        "a device attached while it runs is its own, though no hook ran", found["who"] == "small", found
    )
    tell.check("it is on VFIO", AUDIO in on_vfio(stage.show()), on_vfio(stage.show()))
    stage.client("simulate", "detach", "name=small", f"address={AUDIO}")
    tell.command(f"hostler simulate detach name=small address={AUDIO}", "")
    stage.until(lambda: owner(stage, AUDIO)["kind"] == "host", 10.0)
    found = owner(stage, AUDIO)
    tell.check("detached, it is the host's again", found["kind"] == "host", found)
    stage.client("simulate", "stop", "name=small")
    tell.command("hostler simulate stop name=small", "")


def owner(stage: Stage, address: str) -> Any:
    """As the daemon tells it: a claim is its own business, not the kernel's."""
    return next(device["owner"] for device in stage.ask("devices")["devices"] if device["address"] == address)


def in_turn(stage: Stage, tell: Telling, before: dict[str, str]) -> None:
    tell.scene("They stop, one after the other")
    done = stage.client("simulate", "stop", "name=win11")
    tell.command("hostler simulate stop name=win11", done.text)
    stage.until(lambda: on_vfio(stage.show()) == [USB], 10.0)
    stage.settled()
    shown = stage.show()
    found = {address: shown["devices"][address]["driver"] for address in CARD}
    drivers = dict(zip(CARD, ("amdgpu", "snd_hda_intel", "xhci_hcd", "i2c-designware-pci"), strict=True))
    tell.check("the card is on its drivers again", found == drivers, found)
    left = check_pins(tell, shown, "linux", 4)
    check_isolation(tell, shown, left)
    stage.client("simulate", "stop", "name=linux")
    tell.command("hostler simulate stop name=linux", "")
    differences = stage.differences(before)
    tell.check("every file of the host is as it was before the first start", not differences, differences)
    state = stage.settled()
    tell.check("the daemon has nothing to do", state == "converged", state)


def play(stage: Stage, tell: Telling) -> None:
    before = stage.remember()
    before_anything(stage, tell)
    first = first_domain(stage, tell)
    second_domain(stage, tell, first)
    neighbour(stage, tell)
    in_turn(stage, tell, before)
