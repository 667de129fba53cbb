"""Run the daemon's planner on recorded cases: `placement.py [CASE.json...] [--out DIR]`.

Writes DIR/NAME.json for each case in the form tests/placement/score.py reads, and prints what was reached and how long
each event took.
"""

from __future__ import annotations

import argparse
import atexit
import glob
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
sys.path[:0] = [ROOT, os.path.join(ROOT, "daemon")]

from tests.placement import fresh, score  # noqa: E402

from hostlerd.decide.placement import Assignment, Host, Need, Result, place  # noqa: E402
from hostlerd.model.cpus import L3, CoreClass, Cpu, Node, Topology  # noqa: E402

MIDDLING = 384  # CPUs
CASES = os.path.join(ROOT, "tests", "placement", "cases", "*.json")
with open(os.path.join(ROOT, "tests", "placement", "expected.json"), encoding="utf-8") as _file:
    EXPECTED = json.load(_file)
CLASSES = {
    "std": CoreClass.UNIFORM,
    "P": CoreClass.PERFORMANCE,
    "E": CoreClass.EFFICIENCY,
    "LP": CoreClass.LOW_POWER,
}


def read_host(raw: dict) -> Host:
    members: dict[str, dict[int, list[int]]] = {"core": {}, "l3": {}, "node": {}}
    for cpu in raw["cpus"]:
        for level, groups in members.items():
            groups.setdefault(cpu[level], []).append(cpu["id"])
    cpus = tuple(
        Cpu(
            id=cpu["id"],
            core=cpu["core"],
            siblings=frozenset(members["core"][cpu["core"]]),
            socket=cpu["socket"],
            node=cpu["node"],
            l3=cpu["l3"],
            core_class=CLASSES[cpu["cls"]],
            max_mhz=cpu["mhz"],
        )
        for cpu in sorted(raw["cpus"], key=lambda cpu: cpu["id"])
    )
    l3 = tuple(
        L3(id=i, cpus=frozenset(ids), kib=raw["l3_kib"][str(i)]) for i, ids in sorted(members["l3"].items())
    )
    nodes = tuple(
        Node(
            id=node,
            cpus=frozenset(members["node"].get(node, ())),
            memory_kib=int(node in raw["memory_nodes"]),
            distances=tuple(raw["distance"][i]),
        )
        for i, node in enumerate(raw["nodes"])
    )
    return Host(
        topology=Topology(cpus=cpus, l3=l3, nodes=nodes),
        must=frozenset(raw["reserve"]["must"]),
        min_cpus=raw["reserve"]["min_cpus"],
        gpu_nodes=frozenset(raw.get("gpu_nodes", ())),
    )


def read_need(vm: dict, memory: list[list[int]] | None) -> Need:
    return Need(
        name=vm["name"],
        vcpus=vm["vcpus"],
        threads=vm.get("threads", 1),
        cells=tuple(tuple(cell) for cell in vm.get("cells") or ()),
        emulator=vm.get("emulator", 0),
        gpu_node=vm.get("gpu_node"),
        core_class={"perf": "performance", "eff": "efficiency"}.get(vm.get("class")),
        prefer={"vcache": "vcache", "freq": "frequency"}.get(vm.get("prefer"), "none"),
        smt="isolate" if vm.get("smt") == "isolate" else "pair",
        priority=vm.get("prio", 0),
        movable=vm.get("rebalance", True),
        memory=tuple(frozenset(nodes) for nodes in memory or ()),
    )


def read_assignment(given: dict | None) -> Assignment | None:
    if not given or given.get("vcpus") is None:
        return None
    return Assignment(
        vcpus=tuple(given["vcpus"]),
        emulator=tuple(given.get("emulator", ())),
        idle=tuple(given.get("idle", ())),
    )


def write_assignment(given: Assignment | None) -> dict:
    if given is None:
        return {"vcpus": None}
    return {"vcpus": list(given.vcpus), "emulator": list(given.emulator), "idle": list(given.idle)}


Stage = tuple[score.Host, dict, dict, dict, dict]  # host, domains, domains before, their placement, memory
Planner = Callable[[dict, Stage], tuple[dict, Result | None]]


def ours(raw: dict, stage: Stage) -> tuple[dict, Result | None]:
    _, vms, _, prev, mem = stage
    needs = [read_need(vm, mem.get(name)) for name, vm in vms.items()]
    result = place(read_host(raw), needs, {name: read_assignment(prev.get(name)) for name in vms})
    return written(result), result


def numeric(raw: dict, stage: Stage) -> tuple[dict, Result | None]:
    """What guides say: whole cores in numeric order, for good. Only who changes in size is placed anew."""
    host, vms, prev_vms, prev, _ = stage
    stay = {n: prev[n] for n in vms if n in prev and prev_vms[n]["vcpus"] == vms[n]["vcpus"]}
    taken = {cpu for given in stay.values() for cpu in score.own(given)} | host.must
    answer = dict(stay)
    for name in vms:
        if name not in answer:
            room = len(host.ids) - len(taken - host.must) - host.min_cpus
            cores = [cpus for cpus in host.cores.values() if not taken.intersection(cpus)]
            pins: list[int] = []
            while len(pins) < vms[name]["vcpus"] and cores:
                pins += cores.pop(0)
            fits = vms[name]["vcpus"] <= len(pins) <= room
            count = vms[name]["vcpus"]
            answer[name] = {"vcpus": pins[:count], "idle": pins[count:]} if fits else {"vcpus": None}
            taken.update(pins if fits else ())
    return answer, None


@dataclass(frozen=True, kw_only=True)
class Played:
    """One event. `vector`: None where the answer is invalid. `seconds`: of CPU time."""

    stage: Stage
    answer: dict
    vector: list[int] | None
    result: Result | None
    seconds: float


def play(case: dict, planner: Planner = ours) -> Iterator[Played]:
    """Every event of a case, each from the planner's own answer to the one before."""
    raw = score.Host(case["host"])
    initial = case.get("initial", {})
    prev_vms = {vm["name"]: vm for vm in initial.get("vms", [])}
    prev = initial.get("placement") or {}
    mem = {n: score.mem_nodes(raw, prev_vms[n], prev[n]["vcpus"]) for n in prev if prev[n].get("vcpus")}
    for number, (vms, _) in enumerate(score.timeline(case)):
        stage = (raw, vms, prev_vms, prev, mem)
        began = time.process_time()
        answer, result = planner(case["host"], stage)
        seconds = time.process_time() - began
        vector, errors = score.vector(raw, vms, answer, prev_vms, prev, mem)
        if vector is None:
            print(f"{case['name']} step {number}: INVALID {errors}")
        elif result is not None and list(result.terms) != vector:
            print(f"{case['name']} step {number}: terms {list(result.terms)} are really {vector}")
        yield Played(stage=stage, answer=answer, vector=vector, result=result, seconds=seconds)
        mem = {n: nodes for n, nodes in mem.items() if n in vms and answer[n].get("vcpus")}
        for name, vm in vms.items():
            if name not in mem and answer[name].get("vcpus"):
                mem[name] = score.mem_nodes(raw, vm, answer[name]["vcpus"])
        prev_vms, prev = vms, answer


def written(result: Result) -> dict[str, dict]:
    return {name: write_assignment(given) for name, given in result.assignments.items()}


def at_optimum(cases: list[dict], planner: Planner) -> int:
    """Events whose core terms equal or beat the stored optimum's."""
    return sum(
        played.vector is not None and played.vector[: score.CORE] <= best[: score.CORE]
        for case in cases
        for played, best in zip(play(case, planner), EXPECTED.get(case["name"], ()), strict=False)
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", help="case files; none: all there are")
    parser.add_argument("--out", help="folder for the answers; none: they are thrown away")
    parser.add_argument(
        "--large", action="store_true", help="also 1,024 CPUs with 300 domains, and full hosts"
    )
    options = parser.parse_args()
    if options.out is None:
        options.out = tempfile.mkdtemp(prefix="hostler-placement-")
        atexit.register(shutil.rmtree, options.out, ignore_errors=True)
    os.makedirs(options.out, exist_ok=True)
    cases = []
    for path in options.cases or sorted(glob.glob(CASES)):
        with open(path, encoding="utf-8") as file:
            cases.append(json.load(file))
    if options.large:
        cases += fresh.large()
    times: dict[bool, list[tuple[float, str]]] = {False: [], True: []}
    totals = [0] * score.N
    invalid = early = good = judged = 0
    for case in cases:
        steps, best = [], EXPECTED.get(case["name"], [])
        for number, played in enumerate(play(case)):
            steps.append({"vms": played.answer})
            large = len(case["host"]["cpus"]) > MIDDLING
            times[large].append((played.seconds, f"{case['name']} step {number}"))
            invalid += played.vector is None
            early += played.result is not None and not played.result.complete
            totals = [a + b for a, b in zip(totals, played.vector or [0] * score.N, strict=True)]
            if number < len(best):
                judged += 1
                good += (
                    played.vector is not None and played.vector[: score.CORE] <= best[number][: score.CORE]
                )
        with open(os.path.join(options.out, case["name"] + ".json"), "w", encoding="utf-8") as file:
            json.dump({"steps": steps}, file)
    count = sum(map(len, times.values()))
    print(f"{len(cases)} cases, {count} events, {invalid} invalid, {early} ended by the budget")
    for large, some in times.items():
        if some:
            some.sort()
            ms = [second * 1e3 for second, _ in some]
            print(
                f"{'above' if large else 'up to'} {MIDDLING} CPUs, CPU ms of an event: median {ms[len(ms) // 2]:.1f}, "
                f"p95 {ms[int(len(ms) * 0.95)]:.1f}, longest {ms[-1]:.1f} ({some[-1][1]})"
            )
    print(", ".join(f"{name} {total}" for name, total in zip(score.NAMES, totals, strict=True)))
    if judged:
        peer = at_optimum(cases, numeric)
        print(
            f"core terms at the optimum of each event: {good} of {judged}; "
            f"whole cores in numeric order: {peer} ({peer / judged:.0%})"
        )
    return 1 if invalid else 0


if __name__ == "__main__":
    sys.exit(main())
