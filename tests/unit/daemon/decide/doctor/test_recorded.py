"""Every recorded host, and every simulated one as a recording: whatever is missing, no traceback and no verdict from
it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.unit.daemon.decide.doctor.small import by_id, judged
from tests.unit.daemon.observe.recorded import shared

from hostlerd import offline
from hostlerd.host.files import open_files
from hostlerd.host.simulated.host import SimulatedHost
from hostlerd.host.simulated.hosts import BUILT_IN
from hostlerd.host.simulated.tree import Tree
from hostlerd.model.cpuset import parse_cpu_list
from hostlerd.model.findings import SEVERITIES
from hostlerd.observe.checkup import observe_checkup
from hostlerd.observe.domain_xml import parse_domain

WARNINGS = {
    "2i386-2t-hugepagesizecount": {"kvm"},
    "nvidiagpunumanodes": {"kernel", "control-groups"},
}
"""What is seen of these hosts; of the others nothing is."""

TOO_SMALL = {"2i386-2t-hugepagesizecount"}
"""One core: there is nothing to give away."""


def test_recorded_hosts(capsys: pytest.CaptureFixture[str]) -> None:
    paths = sorted(shared("topologies").glob("*.tar.bz2"))
    assert paths
    for path in paths:
        status = offline.main(["doctor", "--root", str(path)])
        found = json.loads(capsys.readouterr().out)
        wrong = {row["id"] for row in found["findings"] if row["severity"] in ("warning", "broken")}
        assert wrong == WARNINGS.get(path.name.partition(".")[0], set()), path.name
        assert status == (1 if wrong else 0)
        for row in found["findings"]:
            assert row["severity"] in SEVERITIES
            assert row["what"]
            assert (row["evidence"] != "") == row["known"], row
            assert row["why"] or row["known"], row
        boot = found["command_line"]
        assert bool(boot["realtime"]) == (path.name.partition(".")[0] not in TOO_SMALL), path.name
        if boot["realtime"]:
            words = dict(word.partition("=")[::2] for word in boot["realtime"].split())
            cpus = parse_cpu_list(words["nohz_full"])
            assert cpus
            assert cpus == parse_cpu_list(words["rcu_nocbs"])
            assert words["isolcpus"] == f"managed_irq,domain,{words['nohz_full']}"
            topology = observe_checkup(open_files(str(path)), live=False).observed.topology
            assert cpus < topology.online
            assert topology.cpus[0].id not in cpus
            assert all(topology.by_id[cpu].siblings <= cpus for cpu in cpus)


@pytest.mark.parametrize("name", BUILT_IN)
def test_simulated_hosts(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    SimulatedHost(name, parse=parse_domain).files.save(str(tmp_path))
    status = offline.main(["doctor", "--root", str(tmp_path)])
    found = json.loads(capsys.readouterr().out)
    worst = {"no-iommu": ("broken", 2), "cgroup-v1": ("warnings", 1)}.get(name, ("fine", 0))
    assert (found["state"], status) == worst


def test_nothing_is_changed(tmp_path: Path) -> None:
    files = SimulatedHost("desktop", parse=parse_domain).files
    before = files.flat("/")
    judged(files)
    judged(files, live=True)
    assert files.flat("/") == before


def test_a_host_of_any_few_files() -> None:
    """Each file of a whole host alone, and the host without it."""
    files = SimulatedHost("screen", parse=parse_domain).files
    for path, text in files.flat(
        "/proc", "/etc", "/boot", "/lib", "/sys/firmware", "/sys/class/iommu"
    ).items():
        alone = Tree()
        alone.put(path, text)
        assert judged(alone).worst in ("ok", "note"), path
    for folder in (
        "/proc",
        "/etc",
        "/sys/firmware",
        "/sys/class",
        "/sys/devices/system",
        "/sys/fs",
        "/sys/kernel",
        "/sys/bus",
    ):
        less = Tree()
        less.record(files, "/")
        less.remove(folder)
        found = by_id(judged(less))
        assert not [one for one in found.values() if one.severity == "broken"], folder


@pytest.mark.parametrize(
    "path", ["/proc/cmdline", "/proc/cpuinfo", "/proc/interrupts", "/proc/meminfo", "/proc/version"]
)
@pytest.mark.parametrize(
    "text", ["", "\0", "=,=", "\N{REPLACEMENT CHARACTER}" * 9, "-" * 5000, "isolcpus= nohz_full=- ids="]
)
def test_nonsense(path: str, text: str) -> None:
    files = SimulatedHost("desktop", parse=parse_domain).files
    files.put(path, text)
    assert judged(files).findings
