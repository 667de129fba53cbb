"""Tiny hosts and domains in the form of the recorded cases, and the best placement by trying them all."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, permutations, product

from hypothesis import strategies as st
from tests.bench.placement import read_assignment, read_host, read_need, write_assignment
from tests.placement import score

from hostlerd.decide.placement import Assignment, Result, place


@st.composite
def hosts(draw: st.DrawFn, *, most_cpus: int = 16) -> dict:
    """One or two nodes of one or two L3 domains of a few cores, with one or two threads."""
    nodes, l3s, cores, threads = (draw(st.integers(1, n)) for n in (2, 2, 4, 2))
    while nodes * l3s * cores * threads > most_cpus:
        nodes, l3s, cores = (
            (nodes, l3s, cores - 1) if cores > 1 else (nodes, l3s - 1, 1) if l3s > 1 else (1, 1, 1)
        )
    total = nodes * l3s * cores
    hybrid = nodes == 1 and draw(st.integers(0, 3)) == 0
    cpus = [
        {
            "id": core + thread * total,
            "core": core,
            "l3": core // cores,
            "node": core // cores // l3s,
            "socket": core // cores // l3s,
            "cls": ("P" if core % cores < cores // 2 else "E") if hybrid else "std",
            "mhz": 4000 + 500 * (core // cores % 2),
        }
        for core in range(total)
        for thread in range(threads)
    ]
    ids = [cpu["id"] for cpu in cpus]
    kib = draw(st.sampled_from([(32, 32), (96, 32)]))
    return {
        "cpus": cpus,
        "l3_kib": {str(l3): kib[l3 % 2] for l3 in range(nodes * l3s)},
        "nodes": list(range(nodes)),
        "distance": [[10 if a == b else 20 for b in range(nodes)] for a in range(nodes)],
        "memory_nodes": list(range(nodes)),
        "reserve": {
            "must": sorted(draw(st.sets(st.sampled_from(ids), max_size=1))),
            "min_cpus": draw(st.integers(0, min(2, len(ids) - 1))),
        },
        "gpu_nodes": sorted(draw(st.sets(st.integers(0, nodes - 1), max_size=nodes))),
    }


@st.composite
def domains(draw: st.DrawFn, host: dict, *, most_vcpus: int = 6) -> dict:
    threads = draw(st.integers(1, 2))
    vcpus = draw(st.integers(1, most_vcpus))
    vm = {"vcpus": vcpus, "threads": threads}
    if draw(st.integers(0, 3)) == 0:
        vm["emulator"] = 1
    if host["gpu_nodes"] and draw(st.booleans()):
        vm["gpu_node"] = draw(st.sampled_from(host["gpu_nodes"]))
    if threads == 1 and draw(st.integers(0, 3)) == 0:
        vm["smt"] = "isolate"
    if draw(st.integers(0, 3)) == 0:
        vm["prio"] = 1
    if draw(st.integers(0, 2)) == 0:
        vm["class"] = draw(st.sampled_from(["perf", "eff"]))
    if draw(st.integers(0, 2)) == 0:
        vm["prefer"] = draw(st.sampled_from(["vcache", "freq"]))
    if vcpus % 4 == 0 and draw(st.booleans()):
        vm["cells"] = [list(range(vcpus // 2)), list(range(vcpus // 2, vcpus))]
    return vm


@st.composite
def streams(draw: st.DrawFn, *, most_cpus: int = 16, most_vcpus: int = 6, events: int = 6) -> dict:
    """A case: domains that start, stop and change size."""
    host = draw(hosts(most_cpus=most_cpus))
    running: dict[str, dict] = {}
    found: list[dict] = []
    for number in range(draw(st.integers(1, events))):
        kind = draw(st.sampled_from(["start", "start", "stop", "resize"])) if running else "start"
        if kind == "start":
            vm = {"name": f"d{number}", **draw(domains(host, most_vcpus=most_vcpus))}
            running[vm["name"]] = vm
            found.append({"event": "start", "vm": vm})
        elif kind == "stop":
            name = draw(st.sampled_from(sorted(running)))
            del running[name]
            found.append({"event": "stop", "vm": name})
        else:
            name = draw(st.sampled_from(sorted(running)))
            if "cells" not in running[name]:
                found.append({"event": "resize", "vm": name, "vcpus": draw(st.integers(1, most_vcpus))})
    return {"name": "random", "host": host, "events": found}


class State:
    """A host with domains on it, stepped as score.py steps: memory stays where a domain first got CPUs."""

    def __init__(self, case: dict) -> None:
        self.raw = case["host"]
        self.host = read_host(self.raw)
        self.judge = score.Host(self.raw)
        self.vms: dict[str, dict] = {}
        self.answer: dict[str, dict] = {}
        self.memory: dict[str, list[list[int]]] = {}

    def needs(self, vms: dict[str, dict]) -> list:
        return [read_need(vm, self.memory.get(name)) for name, vm in vms.items()]

    def current(self) -> dict[str, Assignment | None]:
        return {name: read_assignment(given) for name, given in self.answer.items()}

    def plan(self, vms: dict[str, dict]) -> Result:
        return place(self.host, self.needs(vms), self.current())

    def judged(self, vms: dict[str, dict], answer: dict[str, dict]) -> tuple[list[int] | None, list[str]]:
        return score.vector(self.judge, vms, answer, self.vms, self.answer, self.memory)

    def adopt(self, vms: dict[str, dict], answer: dict[str, dict]) -> None:
        self.memory = {n: m for n, m in self.memory.items() if n in vms and answer[n].get("vcpus")}
        for name, vm in vms.items():
            if name not in self.memory and answer[name].get("vcpus"):
                self.memory[name] = score.mem_nodes(self.judge, vm, answer[name]["vcpus"])
        self.vms, self.answer = vms, answer

    def best(self, vms: dict[str, dict]) -> list[int]:
        """The least vector there is, by brute force."""
        found: list[list[int]] = []
        for answer in self._every(
            list(vms), vms, [cpu for cpu in self.judge.ids if cpu not in self.judge.must]
        ):
            vector, _ = self.judged(vms, answer)
            if vector is not None:
                found.append(vector)
        return min(found)

    def _every(self, names: list[str], vms: dict[str, dict], free: list[int]) -> Iterator[dict[str, dict]]:
        if not names:
            yield {}
            return
        name, vm = names[0], vms[names[0]]
        for rest in self._every(names[1:], vms, free):
            yield {name: {"vcpus": None}, **rest}
        for pins in permutations(free, vm["vcpus"]):
            left = [cpu for cpu in free if cpu not in pins]
            for count in range(min(vm.get("emulator", 0), len(left)) + 1):
                for emulator in combinations(left, count):
                    beside = [cpu for cpu in left if cpu not in emulator]
                    for kept in product((False, True), repeat=len(beside)):
                        idle = [cpu for cpu, keep in zip(beside, kept, strict=True) if keep]
                        given = {"vcpus": list(pins), "emulator": list(emulator), "idle": idle}
                        for rest in self._every(names[1:], vms, [c for c in beside if c not in idle]):
                            yield {name: given, **rest}


def written(result: Result) -> dict[str, dict]:
    return {name: write_assignment(given) for name, given in result.assignments.items()}
