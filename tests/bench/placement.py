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
from collections.abc import Iterator

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
sys.path[:0] = [ROOT, os.path.join(ROOT, "daemon")]

from tests.placement import score  # noqa: E402

from hostlerd.decide.placement import Assignment, Host, Need, Result, place  # noqa: E402
from hostlerd.model.cpus import L3, CoreClass, Cpu, Node, Topology  # noqa: E402

CASES = os.path.join(ROOT, "tests", "placement", "cases", "*.json")
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


def stages(case: dict) -> Iterator[tuple[Stage, list[int] | None, Result, float]]:
    """For each event what it starts from, the answer's vector (None: invalid), the answer and its CPU seconds."""
    raw = score.Host(case["host"])
    initial = case.get("initial", {})
    prev_vms = {vm["name"]: vm for vm in initial.get("vms", [])}
    prev = initial.get("placement") or {}
    mem = {n: score.mem_nodes(raw, prev_vms[n], prev[n]["vcpus"]) for n in prev if prev[n].get("vcpus")}
    for number, (vms, _) in enumerate(score.timeline(case)):
        host = read_host(case["host"])
        needs = [read_need(vm, mem.get(name)) for name, vm in vms.items()]
        began = time.process_time()
        result = place(host, needs, {name: read_assignment(prev.get(name)) for name in vms})
        seconds = time.process_time() - began
        answer = written(result)
        vector, errors = score.vector(raw, vms, answer, prev_vms, prev, mem)
        if vector is None:
            print(f"{case['name']} step {number}: INVALID {errors}")
        elif list(result.terms) != vector:
            print(f"{case['name']} step {number}: terms {list(result.terms)} are really {vector}")
        yield (raw, vms, prev_vms, prev, mem), vector, result, seconds
        mem = {n: nodes for n, nodes in mem.items() if n in vms and answer[n].get("vcpus")}
        for name, vm in vms.items():
            if name not in mem and answer[name].get("vcpus"):
                mem[name] = score.mem_nodes(raw, vm, answer[name]["vcpus"])
        prev_vms, prev = vms, answer


def written(result: Result) -> dict[str, dict]:
    return {name: write_assignment(given) for name, given in result.assignments.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "cases", nargs="*", default=sorted(glob.glob(CASES)), help="case files; none: all there are"
    )
    parser.add_argument("--out", help="folder for the answers; none: they are thrown away")
    options = parser.parse_args()
    if options.out is None:
        options.out = tempfile.mkdtemp(prefix="hostler-placement-")
        atexit.register(shutil.rmtree, options.out, ignore_errors=True)
    os.makedirs(options.out, exist_ok=True)
    times: list[tuple[float, str]] = []
    totals = [0] * score.N
    invalid = early = 0
    for path in options.cases:
        with open(path, encoding="utf-8") as file:
            case = json.load(file)
        steps = []
        for number, (_, vector, result, seconds) in enumerate(stages(case)):
            steps.append({"vms": written(result)})
            times.append((seconds, f"{case['name']} step {number}"))
            invalid += vector is None
            early += not result.complete
            totals = [a + b for a, b in zip(totals, vector or [0] * score.N, strict=True)]
        with open(os.path.join(options.out, case["name"] + ".json"), "w", encoding="utf-8") as file:
            json.dump({"steps": steps}, file)
    times.sort()
    p95, (longest, where) = times[int(len(times) * 0.95)][0], times[-1]
    print(f"{len(options.cases)} cases, {len(times)} events, {invalid} invalid, {early} ended by the budget")
    median = times[len(times) // 2][0]
    print(f"CPU ms: median {median * 1e3:.1f}, p95 {p95 * 1e3:.1f}, longest {longest * 1e3:.1f} ({where})")
    print(", ".join(f"{name} {total}" for name, total in zip(score.NAMES, totals, strict=True)))
    return 1 if invalid else 0


if __name__ == "__main__":
    sys.exit(main())
