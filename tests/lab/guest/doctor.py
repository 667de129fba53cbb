"""`hostler doctor` on a real kernel: asked of the daemon, over the bus, without a daemon, and with another command
line.

The kernel cannot be booted anew within a scenario, so the other command line is a file mounted over /proc/cmdline,
which is all that doctor knows of it, too.
"""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from . import service, snapshot
from .bus import INTERFACE, MANAGER, NAME
from .domains import Domain
from .main import CARD, PAIR
from .programs import Done, need, run
from .report import Report, scenario

CMDLINE = "/proc/cmdline"


@contextmanager
def booted_with(more: str) -> Iterator[None]:
    """As if the kernel had been booted with `more`, too."""
    with open(CMDLINE, encoding="ascii") as file:
        line = file.read().strip()
    with tempfile.NamedTemporaryFile("w", encoding="ascii", suffix=".cmdline") as other:
        other.write(f"{line} {more}\n")
        other.flush()
        need("mount", "--bind", other.name, CMDLINE)
        try:
            yield
        finally:
            need("umount", CMDLINE)


def _found(done: Done) -> tuple[dict[str, Any], dict[str, str]]:
    """The answer, and the severity of each finding by its id. Empty where it is none."""
    try:
        answer = json.loads(done.out)
    except ValueError:
        return {}, {}
    return answer, {row["id"]: row["severity"] for row in answer.get("findings", ())}


@scenario(
    "exit status",
    "IOMMU on",
    "interrupts remapped",
    "VFIO there",
    "cards",
    "words of this boot",
    "hook and daemon",
    "no finding in vain",
    "nothing touched",
)
def this_boot(report: Report) -> None:
    before = snapshot.take()
    done = run("hostler", "doctor", "--json")
    answer, found = _found(done)
    # Emulated: the processor has no VMX, and that is all.
    report.equal("exit status", (done.status, answer.get("state")), (1, "warnings"))
    report.equal("IOMMU on", found.get("iommu"), "ok")
    report.equal("interrupts remapped", found.get("interrupt-remapping"), "ok")
    report.equal("VFIO there", found.get("vfio"), "ok")
    wanted = {f"card.group:{CARD}": "ok", f"card.group:{PAIR[0]}": "ok", f"card.screen:{PAIR[0]}": "note"}
    report.check("cards", wanted.items() <= found.items(), found)
    words = {"parameter.iommu-pt": "note", "parameter.mitigations-off": "note"}
    report.check("words of this boot", words.items() <= found.items(), found)
    report.equal("hook and daemon", (found.get("hook"), found.get("daemon")), ("ok", "ok"))
    wrong = {id_ for id_, severity in found.items() if severity in ("warning", "broken")}
    report.equal("no finding in vain", wrong, {"kvm"})
    report.equal("nothing touched", snapshot.differences(before), [])
    report.note(f"not known: {[row['id'] for row in answer.get('findings', ()) if not row['known']]}")
    report.note(run("hostler", "doctor").out)


@scenario("as nobody", "over the bus", "without the daemon", "as nobody without the daemon")
def ways_to_ask(report: Report) -> None:
    answer, _ = _found(run("hostler", "doctor", "--json"))
    done = run("runuser", "-u", "nobody", "--", "hostler", "doctor", "--json")
    report.check("as nobody", _found(done)[0] == answer, done)
    done = run("busctl", "--system", "--json=short", "call", NAME, MANAGER, INTERFACE, "Doctor")
    given = json.loads(json.loads(done.out)["data"][0]) if done.ok else None
    report.check("over the bus", given == answer, done)
    service.stop()
    done = run("hostler", "doctor", "--json")
    alone, found = _found(done)
    same = {row["id"] for row in answer["findings"]} == {row["id"] for row in alone.get("findings", ())}
    report.check("without the daemon", done.status == 1 and found.get("daemon") == "warning" and same, done)
    done = run("runuser", "-u", "nobody", "--", "hostler", "doctor", "--json")
    _, found = _found(done)
    report.check("as nobody without the daemon", done.status == 1 and found.get("iommu") == "ok", done)
    service.start()


@scenario(
    "the domain's CPUs",
    "stale CPUs found",
    "and corrected",
    "words that harm found",
    "and taken out",
    "a card for good",
    "fits what the domain gets",
)
def other_boots(report: Report) -> None:
    with Domain(name="pair", vcpus=2, threads=2, hostdevs=PAIR[:1], managed=False).defined() as domain:
        answer, _ = _found(run("hostler", "doctor", "--root", "/", "--json"))
        offer = answer["command_line"]["realtime"].split()
        cpus = next((word.partition("=")[2] for word in offer if word.startswith("nohz_full=")), "")
        report.check("the domain's CPUs", cpus and f"isolcpus=managed_irq,domain,{cpus}" in offer, answer)
        with booted_with("isolcpus=0-1 nohz_full=0-1 pcie_acs_override=downstream vfio-pci.ids=1234:1111"):
            answer, found = _found(run("hostler", "doctor", "--root", "/", "--json"))
        line = answer["command_line"]
        report.equal("stale CPUs found", (found.get("isolcpus"), found.get("nohz_full")), ("warning",) * 2)
        report.check(
            "and corrected", {f"isolcpus={cpus}", f"nohz_full={cpus}"} <= set(line["line"].split()), line
        )
        report.equal("words that harm found", found.get("parameter.pcie_acs_override"), "warning")
        report.check("and taken out", "pcie_acs_override=downstream" in line["remove"], line)
        taken = [row for row in answer["findings"] if row["id"] == f"vfio-ids:{CMDLINE}"]
        report.check("a card for good", taken and CARD in taken[0]["what"], answer)
        domain.must_start()
        shown = json.loads(need("hostler", "status", "--json"))["isolation"]["cpus"]
        told = (
            ",".join(map(str, shown)) if shown[-1] - shown[0] != len(shown) - 1 else f"{shown[0]}-{shown[-1]}"
        )
        report.equal("fits what the domain gets", told, cpus)
    report.note(f"gone again: {not os.path.ismount(CMDLINE)}")


SCENARIOS = (this_boot, ways_to_ask, other_boots)
