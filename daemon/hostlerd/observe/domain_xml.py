"""A domain's XML to a `Definition`.

Rules. Any text gives a Definition or one BadInput that names the element; never anything else. What libvirt
refuses when it parses is refused here, as far as it concerns what we read (domain_conf.c, numa_conf.c); what it
ignores is ignored. The text comes from a hook or a user: no DTD, no entity, at most 1 MiB.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NoReturn
from xml.etree import ElementTree as ET
from xml.etree.ElementTree import Element

from hostler.errors import BadInput
from hostlerd.model.cpuset import CpuSet, format_cpu_list
from hostlerd.model.domains import Cell, Definition, Gpu, GuestTopology, Hostdev
from hostlerd.model.guest_memory import Numatune
from hostlerd.observe.domain_hostdevs import hostdevs
from hostlerd.observe.domain_pages import dimms, page_sizes
from hostlerd.observe.domain_slices import slice_specs
from hostlerd.observe.domain_wishes import cpu_wishes
from hostlerd.observe.libvirt_text import cpu_set, decimal, kib, label, uuid, wrong, yes

MAX_XML = 1 << 20
WRAPPERS = frozenset({"domstatus", "domainsnapshot", "domaincheckpoint"})
"""Files of libvirt's that hold a domain."""


class _NoDtd(ET.TreeBuilder):
    """Entities need a DTD, so none is read."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> NoReturn:  # noqa: ARG002  # expat's call
        raise BadInput(
            "the XML has a DTD, which no domain has", remedy="name a file as `virsh dumpxml` writes it"
        )


def parse_domain(xml: str | bytes) -> Definition:
    """The domain in this text. Raises BadInput, whatever the text is."""
    domain = _domain(_root(xml))
    name = domain.findtext("name")
    if name is None or not name.strip():
        raise BadInput(
            "<domain>: it has no <name>", remedy="correct the domain's XML", data={"element": "name"}
        )
    if "/" in name or "\n" in name:
        raise wrong(
            _first(domain, "name"), f"{name!r} has a / or a line break in it, which libvirt does not take"
        )
    kind = domain.get("type")
    if not kind:
        raise wrong(domain, "it has no type")
    present, most = _vcpus(domain)
    wishes, problems = cpu_wishes(domain)
    cells = _cells(domain, most)
    tuning = _numatune(domain, cells)
    threads = _iothreads(domain)
    vcpu = domain.find("vcpu")
    placed = vcpu is not None and vcpu.get("cpuset") is not None and vcpu.get("placement") != "auto"
    _check_schedulers(domain, threads)
    devices = tuple(hostdevs(domain))
    identity = domain.find("uuid")
    return Definition(
        name=name,
        uuid="" if identity is None else uuid(identity, identity.text or ""),
        type=kind,
        vcpus=len(present),
        max_vcpus=most,
        topology=_topology(domain),
        vcpu_pins=_vcpu_pins(domain, most),
        cpuset=cpu_set(vcpu, "cpuset") if vcpu is not None and placed else None,
        emulator_pins=_emulator_pins(domain),
        iothreads=len(threads),
        iothread_pins=_iothread_pins(domain, threads),
        iothread_ids=threads,
        hostdevs=devices,
        cells=cells,
        memory_kib=_memory(domain, cells),
        numatune=tuning,
        auto_placement=vcpu is not None and vcpu.get("placement") == "auto",
        hugepages=domain.find("memoryBacking/hugepages") is not None,
        page_sizes=page_sizes(domain, len(cells)),
        dimms=dimms(domain, len(cells)),
        gpu=_gpu(domain, devices),
        slices=slice_specs(domain),
        vcpu_ids=_out_of_turn(present),
        wishes=wishes,
        problems=problems,
    )


def _root(xml: str | bytes) -> Element:
    if len(xml) > MAX_XML:
        raise BadInput("the XML is longer than 1 MiB, so it is no domain", remedy="name a domain's XML")
    parser = ET.XMLParser(target=_NoDtd())  # noqa: S314 - without a DTD there are no entities to attack with
    try:
        parser.feed(xml)
        return parser.close()
    except (ET.ParseError, ValueError, LookupError) as error:
        raise BadInput(
            f"this is not XML: {error}", remedy="name a file as `virsh dumpxml` writes it"
        ) from None


def _domain(root: Element) -> Element:
    inner = root.find("domain") if root.tag in WRAPPERS else root
    if inner is None or inner.tag != "domain":
        raise BadInput(
            f"the root element is <{str(root.tag)[:60]}>, so this is no domain",
            remedy="name a file as `virsh dumpxml` writes it",
            data={"element": str(root.tag)},
        )
    return inner


def _first(domain: Element, path: str) -> Element:
    found = domain.find(path)
    return domain if found is None else found


def _vcpus(domain: Element) -> tuple[Sequence[int], int]:
    """Those there are at start, and how many at most."""
    element = domain.find("vcpu")
    if element is None:
        return (0,), 1
    most = decimal(element, element.text, "the count") if (element.text or "").strip() else 1
    current = most if element.get("current") is None else decimal(element, element.get("current"), "current")
    if not most or not current:
        raise wrong(element, "a domain has at least one vCPU")
    if current > most:
        raise wrong(element, f"current {current} is above the maximum, {most}")
    states = domain.findall("vcpus/vcpu")
    if not states:
        return range(current), most
    enabled: set[int] = set()
    for state in states:
        vcpu = decimal(state, state.get("id"), "id")
        if vcpu >= most:
            raise wrong(state, f"there is no vCPU {vcpu}, the maximum is {most}")
        if yes(state, "enabled"):
            enabled.add(vcpu)
    if not enabled:
        raise wrong(_first(domain, "vcpus"), "no vCPU is enabled")
    return tuple(sorted(enabled)), most


def _out_of_turn(present: Sequence[int]) -> tuple[int, ...]:
    """Empty where they are simply the first ones."""
    return () if present[-1] == len(present) - 1 else tuple(present)


def _topology(domain: Element) -> GuestTopology | None:
    element = domain.find("cpu/topology")
    if element is None:
        return None
    count = {name: decimal(element, element.get(name), name) for name in ("sockets", "cores", "threads")}
    for name in ("dies", "clusters"):
        count[name] = decimal(element, element.get(name, "1"), name)
    if not all(count.values()):
        raise wrong(element, "none of its counts may be 0")
    # Guests see clusters as nothing that matters for pins: they are folded into the cores of a die.
    cores = count["cores"] * count["clusters"]
    return GuestTopology(sockets=count["sockets"], dies=count["dies"], cores=cores, threads=count["threads"])


def _vcpu_pins(domain: Element, most: int) -> Mapping[int, CpuSet]:
    pins: dict[int, CpuSet] = {}
    for element in domain.iterfind("cputune/vcpupin"):
        vcpu = decimal(element, element.get("vcpu"), "vcpu")
        cpus = cpu_set(element, "cpuset")
        if vcpu >= most:
            continue  # libvirt: "Ignore vcpupin for missing vcpus"
        if vcpu in pins:
            raise wrong(element, f"vCPU {vcpu} is pinned twice")
        pins[vcpu] = cpus
    return dict(sorted(pins.items()))


def _emulator_pins(domain: Element) -> CpuSet | None:
    elements = domain.findall("cputune/emulatorpin")
    if len(elements) > 1:
        raise wrong(elements[1], "the emulator is pinned twice")
    return cpu_set(elements[0], "cpuset") if elements else None


def _iothreads(domain: Element) -> tuple[int, ...]:
    """Ids: those in <iothreadids>, then the lowest free ones up to <iothreads>."""
    element = domain.find("iothreads")
    count = 0 if element is None else decimal(element, element.text or "", "the count")
    if count > 65535:
        raise wrong(_first(domain, "iothreads"), "that is more than any domain has")
    ids: list[int] = []
    for thread in domain.iterfind("iothreadids/iothread"):
        id_ = decimal(thread, thread.get("id"), "id")
        if not id_:
            raise wrong(thread, "the ids of iothreads begin with 1")
        if id_ in ids:
            raise wrong(thread, f"iothread {id_} is there twice")
        ids.append(id_)
    free = 1
    taken = set(ids)
    while len(ids) < count:
        if free not in taken:
            ids.append(free)
        free += 1
    return tuple(sorted(ids))


def _iothread_pins(domain: Element, threads: Sequence[int]) -> Mapping[int, CpuSet]:
    pins: dict[int, CpuSet] = {}
    for element in domain.iterfind("cputune/iothreadpin"):
        thread = decimal(element, element.get("iothread"), "iothread")
        if thread not in threads:
            raise wrong(element, f"there is no iothread {thread}")
        if thread in pins:
            raise wrong(element, f"iothread {thread} is pinned twice")
        pins[thread] = cpu_set(element, "cpuset")
    return dict(sorted(pins.items()))


def _check_schedulers(domain: Element, threads: Sequence[int]) -> None:
    """Sets of <vcpusched> and <iothreadsched> are sets, of threads that exist, and no thread is in two."""
    for tag, attribute in (("vcpusched", "vcpus"), ("iothreadsched", "iothreads")):
        seen: CpuSet = frozenset()
        for element in domain.iterfind(f"cputune/{tag}"):
            members = cpu_set(element, attribute, what=attribute)
            if members & seen:
                raise wrong(element, f"{format_cpu_list(members & seen)} has a scheduler already")
            if tag == "iothreadsched" and not members <= frozenset(threads):
                raise wrong(element, f"there is no iothread {format_cpu_list(members - frozenset(threads))}")
            seen |= members


def _cells(domain: Element, most: int) -> tuple[Cell, ...]:
    """NUMA cells in the order of their ids, which are 0, 1, 2, ... or all left out (virDomainNumaDefParseXML)."""
    elements = domain.findall("cpu/numa/cell")
    cells: dict[int, Cell] = {}
    taken: dict[int, int] = {}
    for index, element in enumerate(elements):
        id_ = index if element.get("id") is None else decimal(element, element.get("id"), "id")
        if id_ in cells:
            raise wrong(element, f"cell {id_} is there twice")
        if id_ >= len(elements):
            raise wrong(element, f"ids of cells are contiguous, and there are {len(elements)}")
        cpus = cpu_set(element, "cpus") if element.get("cpus") is not None else frozenset[int]()
        for vcpu in cpus:
            if taken.setdefault(vcpu, id_) != id_:
                raise wrong(element, f"vCPU {vcpu} is in cell {taken[vcpu]} too")
        if cpus and max(cpus) >= most:
            raise wrong(element, f"there is no vCPU {max(cpus)}, the maximum is {most}")
        if element.get("memory") is None:
            raise wrong(element, "it has no memory")
        cells[id_] = Cell(cpus=cpus, memory_kib=kib(element, element.get("memory"), element.get("unit")))
    return tuple(cells[id_] for id_ in sorted(cells))


def _memory(domain: Element, cells: Sequence[Cell]) -> int:
    """KiB. Where there are cells their sum counts (virDomainDefPostParseMemory)."""
    element = domain.find("memory")
    if cells:
        return sum(cell.memory_kib for cell in cells)
    return 0 if element is None else kib(element, (element.text or "").strip(), element.get("unit"))


def _numatune(domain: Element, cells: Sequence[Cell]) -> Numatune | None:
    """Nodesets are sets, and cells that are named exist."""
    tuned = domain.find("numatune/memory")
    nodes: CpuSet = frozenset()
    if tuned is not None and tuned.get("placement") != "auto":
        if tuned.get("nodeset") is not None:
            nodes = cpu_set(tuned, "nodeset", what="nodes")
        elif tuned.get("placement") == "static":
            raise wrong(tuned, "placement is static, and it has no nodeset")
    bound: dict[int, CpuSet] = {}
    modes: dict[int, str] = {}
    for element in domain.iterfind("numatune/memnode"):
        cell = decimal(element, element.get("cellid"), "cellid")
        of_cell = cpu_set(element, "nodeset", what="nodes")
        if cell >= len(cells):
            raise wrong(element, f"the domain has no NUMA cell {cell}")
        if cell in bound:
            raise wrong(element, f"cell {cell} is there twice")
        bound[cell], modes[cell] = of_cell, element.get("mode", "strict")
        if tuned is not None and tuned.get("mode") == "restrictive" != element.get("mode"):
            raise wrong(element, f"its mode must be restrictive, as that of {label(tuned)} is")
    if domain.find("numatune") is None:
        return None
    mode = "strict" if tuned is None else tuned.get("mode", "strict")
    return Numatune(mode=mode, nodes=nodes, cells=bound, modes=modes)


def _gpu(domain: Element, devices: Sequence[Hostdev]) -> Gpu:
    """From the XML alone: what class a PCI function has is not known here; one in an interface or disk is no GPU."""

    def kinds() -> Iterator[str]:
        for element in domain.iterfind("devices/hostdev"):
            kind, model = element.get("type"), element.get("model", "vfio-pci")
            if kind == "pci" or (kind == "mdev" and model == "vfio-pci"):
                yield kind

    present = set(kinds()) if devices else set[str]()
    if "pci" in present:
        return Gpu.PASSTHROUGH
    if "mdev" in present:
        return Gpu.SLICE
    for video in domain.iterfind("devices/video"):
        model = video.find("model")
        if model is None or model.get("type") != "none":
            return Gpu.EMULATED
    return Gpu.NONE
