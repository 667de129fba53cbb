"""Everything that doctor looks at: what the daemon observes anyway, and what only a person would ask about.

Rules: nothing is written, no program is started, nothing that wakes a card or waits for a driver is read. What is
missing or closed is None (model/checkup). One module a subject.
"""

from __future__ import annotations

from dataclasses import replace

from hostler.errors import BadInput
from hostlerd.host import Files
from hostlerd.model.checkup import Checkup
from hostlerd.model.cpus import Topology
from hostlerd.model.domains import Definition, Snapshot
from hostlerd.model.holders import BootFramebuffer
from hostlerd.model.isolation import CGROUPS
from hostlerd.model.observed import Observed
from hostlerd.observe.checkup.boot import observe_boot
from hostlerd.observe.checkup.careful import Careful
from hostlerd.observe.checkup.installation import observe_installation
from hostlerd.observe.checkup.passthrough import observe_iommu, observe_modules, observe_processor
from hostlerd.observe.checkup.rivals import observe_rivals
from hostlerd.observe.checkup.tuning import observe_tuning
from hostlerd.observe.cpus import CPUS, observe_cpus
from hostlerd.observe.domain_xml import parse_domain
from hostlerd.observe.groups import observe_groups
from hostlerd.observe.names import device_names
from hostlerd.observe.pci import observe_drivers, observe_functions, observe_kernel
from hostlerd.observe.screen import boot_framebuffer
from hostlerd.observe.slices import observe_slices

DEFINITIONS = "/etc/libvirt/qemu"


def observe_checkup(
    files: Files, *, live: bool, observed: Observed | None = None, policy: str = ""
) -> Checkup:
    """`live`: it is all of this host. `observed`: what the daemon's last pass saw, where it is the daemon that asks.

    `policy`: what is wrong with the files of the policy.
    """
    careful = Careful(files, live=live)
    answers = observed is not None
    known = observed is not None and observed.snapshot.known
    if observed is None:
        observed, known = _observed(careful)
    functions = observed.functions
    boot = observe_boot(careful)
    rivals = observe_rivals(careful)
    controllers = careful.text(f"{CGROUPS}/cgroup.controllers")
    return Checkup(
        observed=observed,
        live=live,
        described=bool(observed.topology.cpus),
        isolation_told=files.exists(f"{CPUS}/isolated"),
        domains=known,
        names=device_names(functions.values()),
        controllers=None if controllers is None else frozenset(controllers.split()),
        mounted=bool(careful.names(CGROUPS)),
        screens=_screens(files, observed),
        boot=boot,
        processor=observe_processor(careful),
        iommu=observe_iommu(careful),
        modules=observe_modules(careful, boot.release),
        rivals=rivals,
        installation=observe_installation(
            careful,
            rivals.programs or frozenset(),
            answers=answers,
            policy=policy,
            libvirt=observed.snapshot.libvirt,
        ),
        tuning=observe_tuning(careful, observed.topology.online),
        unread=tuple(careful.unread),
    )


def _observed(careful: Careful) -> tuple[Observed, bool]:
    """As the daemon's observers see it, without a daemon, and whether all definitions of domains could be read."""
    files = careful.files
    try:
        topology = observe_cpus(files)
    except BadInput:
        topology = Topology(cpus=())
    functions = observe_functions(files)
    observed = Observed(
        topology=topology,
        functions=functions,
        slices=observe_slices(files, functions),
        groups=observe_groups(files, topology),
        drivers=observe_drivers(files),
        kernel=observe_kernel(files),
    )
    definitions = _definitions(careful)
    if definitions is None:
        return observed, False
    return replace(observed, snapshot=Snapshot(inactive=definitions)), True


def _definitions(careful: Careful) -> tuple[Definition, ...] | None:
    """Those that libvirt keeps in files. None where there is no such folder, or one of them cannot be read."""
    found: list[Definition] = []
    listed = careful.names(DEFINITIONS)
    if listed is None or not careful.files.exists(DEFINITIONS):
        return None
    for name in listed:
        if not name.endswith(".xml"):
            continue
        text = careful.text(f"{DEFINITIONS}/{name}")
        if text is None:
            return None
        try:
            domain = parse_domain(text)
        except BadInput:
            careful.unread.append(f"{DEFINITIONS}/{name}")
            return None
        found.append(domain if domain.uuid else replace(domain, uuid=domain.name))
    return tuple(found)


def _screens(files: Files, observed: Observed) -> dict[str, BootFramebuffer]:
    found = ((f.address, boot_framebuffer(files, f)) for f in observed.functions.values() if f.is_display)
    return {address: screen for address, screen in found if screen is not None}
