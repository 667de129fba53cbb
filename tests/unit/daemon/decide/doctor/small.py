"""Small hosts for doctor: the few files that a check needs, looked at and judged."""

from __future__ import annotations

from collections.abc import Mapping

from tests.unit.daemon.observe.recorded import tree

from hostlerd.decide.doctor import diagnose
from hostlerd.host.simulated import cpus
from hostlerd.host.simulated.tree import Tree
from hostlerd.model.findings import Diagnosis, Finding
from hostlerd.model.settings import Settings
from hostlerd.observe.checkup import observe_checkup

INTEL = {"/proc/cpuinfo": "processor : 0\nvendor_id : GenuineIntel\nflags : fpu vmx\n"}
AMD = {"/proc/cpuinfo": "processor : 0\nvendor_id : AuthenticAMD\nflags : fpu svm\n"}
CPUS = "/sys/devices/system/cpu"
PCI = "/sys/bus/pci/devices"


def judged(host: Tree, settings: Settings | None = None, *, live: bool = False) -> Diagnosis:
    return diagnose(observe_checkup(host, live=live), settings or Settings())


def by_id(diagnosis: Diagnosis) -> dict[str, Finding]:
    return {finding.id: finding for finding in diagnosis.findings}


def findings(
    files: Mapping[str, str],
    links: Mapping[str, str] | None = None,
    settings: Settings | None = None,
    *,
    live: bool = False,
) -> dict[str, Finding]:
    return by_id(judged(tree(files, links), settings, live=live))


def processors(files: Mapping[str, str] | None = None, **shape: object) -> Tree:
    """Two level-3 caches with four cores of two threads each, and these files."""
    made = tree(files or {})
    shape = {"l3_kib": (32768, 32768), "cores_per_l3": 4, **shape}
    cpus.show(made, cpus.Processors(**shape))  # type: ignore[arg-type]  # the caller's to get right
    return made


def function(
    address: str, *, group: int | None, code: str = "0x030000", **more: str
) -> tuple[dict[str, str], dict[str, str]]:
    """Files and links of a PCI function; `driver` is a link, the rest are attributes."""
    folder = f"{PCI}/{address}"
    files = {f"{folder}/vendor": "0x1002", f"{folder}/device": "0x73bf", f"{folder}/class": code}
    links: dict[str, str] = {}
    driver = more.pop("driver", None)
    if driver is not None:
        files[f"/sys/bus/pci/drivers/{driver}/bind"] = ""
        links[f"{folder}/driver"] = f"../../drivers/{driver}"
    if group is not None:
        files[f"/sys/kernel/iommu_groups/{group}/"] = ""
        links[f"{folder}/iommu_group"] = f"../../../../kernel/iommu_groups/{group}"
    files |= {f"{folder}/{name}": text for name, text in more.items()}
    return files, links


def several(*functions: tuple[dict[str, str], dict[str, str]]) -> tuple[dict[str, str], dict[str, str]]:
    files: dict[str, str] = {}
    links: dict[str, str] = {}
    for its_files, its_links in functions:
        files |= its_files
        links |= its_links
    return files, links
