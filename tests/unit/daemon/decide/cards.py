"""A small host's PCI functions and domains, for tests of pure decisions."""

from __future__ import annotations

from hostlerd.model.cpus import L3, Cpu, Node, Topology
from hostlerd.model.devices import Function
from hostlerd.model.domains import Definition, GuestTopology, Hostdev, Running, Snapshot
from hostlerd.model.isolation import Group, Groups
from hostlerd.model.ledger import Claim, Ledger
from hostlerd.model.observed import Observed

GPU, AUDIO, USB, NIC, BRIDGE = "0000:01:00.0", "0000:01:00.1", "0000:01:00.2", "0000:03:00.0", "0000:00:01.0"
WIN11 = "11111111-1111-1111-1111-111111111111"
WORK = "22222222-2222-2222-2222-222222222222"


def function(address: str, class_code: int, driver: str | None, **more: object) -> Function:
    values: dict[str, object] = {"vendor": 0x1002, "device": 0x744C, "group": 1, **more}
    return Function(address=address, class_code=class_code, driver=driver, **values)  # type: ignore[arg-type]


def card() -> dict[str, Function]:
    """A display card with audio and USB in one group, a bridge above it, and somebody's network card elsewhere."""
    functions = [
        function(BRIDGE, 0x060400, "pcieport", bridge=True),
        function(GPU, 0x030000, "amdgpu", numa_node=0),
        function(AUDIO, 0x040300, "snd_hda_intel", device=0xAB30),
        function(USB, 0x0C0330, "xhci_hcd", device=0x7446),
        function(NIC, 0x020000, "e1000e", vendor=0x8086, device=0x15F3, group=2),
    ]
    return {f.address: f for f in functions}


def topology() -> Topology:
    """4 cores of 2 threads (n, n+4), two L3 domains, one node."""
    cpus = tuple(
        Cpu(
            id=i,
            core=i % 4,
            siblings=frozenset({i % 4, i % 4 + 4}),
            socket=0,
            node=0,
            l3=0 if i % 4 < 2 else 2,
        )
        for i in range(8)
    )
    return Topology(
        cpus=cpus,
        l3=(
            L3(id=0, cpus=frozenset({0, 1, 4, 5}), kib=32768),
            L3(id=2, cpus=frozenset({2, 3, 6, 7}), kib=32768),
        ),
        nodes=(Node(id=0, cpus=frozenset(range(8)), memory_kib=1 << 24, distances=(10,)),),
    )


def groups(**allowed: frozenset[int]) -> Groups:
    full = frozenset(range(8))
    names = ("init.scope", "system.slice", "user.slice", "machine.slice")
    return Groups(
        units=tuple(
            Group(
                unit=name,
                allowed=allowed.get(name.partition(".")[0], frozenset()),
                effective=allowed.get(name.partition(".")[0]) or full,
                path=f"/sys/fs/cgroup/{name}",
            )
            for name in names
        )
    )


def domain(uuid: str = WIN11, *addresses: str, vcpus: int = 4, **more: object) -> Definition:
    return Definition(  # type: ignore[arg-type]
        name={WIN11: "win11", WORK: "work"}.get(uuid, uuid),
        uuid=uuid,
        vcpus=vcpus,
        max_vcpus=vcpus,
        topology=GuestTopology(sockets=1, dies=1, cores=vcpus // 2, threads=2),
        hostdevs=tuple(Hostdev(kind="pci", address=a) for a in addresses),
        **more,
    )


def claim(definition: Definition, *, prepared: bool = False) -> Claim:
    return Claim(definition=definition, since=1, prepared=prepared)


def observed(
    functions: dict[str, Function] | None = None,
    *claims: Claim,
    running: tuple[Running, ...] = (),
    ledger: Ledger | None = None,
    **more: object,
) -> Observed:
    base = ledger or Ledger()
    with_claims = Ledger(
        devices=base.devices,
        groups=base.groups,
        pins=base.pins,
        files=base.files,
        troubles=base.troubles,
        outstanding=base.outstanding,
        claims={c.uuid: c for c in claims},
    )
    functions = card() if functions is None else functions
    values: dict[str, object] = {
        "groups": groups(),
        "drivers": frozenset({"vfio-pci", "amdgpu", "snd_hda_intel", "xhci_hcd", "e1000e"}),
        "holders": dict.fromkeys(functions, ()),
        "alive": dict.fromkeys(functions, True),
        **more,
    }
    return Observed(  # type: ignore[arg-type]
        topology=topology(),
        functions=functions,
        snapshot=Snapshot(known=True, taken=2, running=running),
        ledger=with_claims,
        **values,
    )
