"""Fresh random cases, and how the planner does on them: `fresh.py FIRST LAST [--cpus MOST] [--out DIR] [--judge]`.

Each seed is one case: a CPU model people have (sometimes with CPUs off line or some kept for the host), domains with
every wish there is, some of them running with messy pins, and a stream of events. `--out` writes the cases; `--judge`
plays them and compares each event with the exact optimum from the same state (`optimum.py`, needs OR-tools).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
from typing import NamedTuple

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "..")]

import score  # noqa: E402


class Model(NamedTuple):
    """`order`: how CPUs are numbered: siblings far apart, adjacent, or sockets alternating. `kind`: what is special."""

    sockets: int
    nodes: int  # of a socket
    l3s: int  # of a node
    cores: int  # of an L3 domain
    threads: int
    order: str = "far"
    kind: str = ""


MODELS = {
    "5800x": Model(1, 1, 1, 8, 2),
    "9700k": Model(1, 1, 1, 8, 1),
    "e5": Model(1, 1, 1, 6, 2, "adjacent"),
    "3900x": Model(1, 1, 4, 3, 2),
    "9950x": Model(1, 1, 2, 8, 2),
    "7950x3d": Model(1, 1, 2, 8, 2, kind="x3d"),
    "7900x3d": Model(1, 1, 2, 6, 2, kind="x3d"),
    "12900k": Model(1, 1, 1, 8, 2, "adjacent", "8E"),
    "13900k": Model(1, 1, 1, 8, 2, "adjacent", "16E"),
    "285k": Model(1, 1, 1, 8, 1, kind="16E"),
    "155h": Model(1, 1, 1, 6, 2, "adjacent", "8E+2LP"),
    "7301": Model(1, 4, 2, 2, 2),
    "two small": Model(2, 1, 2, 3, 2),
    "2990wx": Model(1, 4, 2, 4, 2, kind="no memory"),
    "7f52": Model(1, 2, 8, 1, 2),
    "6130": Model(2, 1, 1, 16, 2, "alternating"),
    "3990x": Model(1, 1, 16, 4, 2),
    "7970x": Model(1, 1, 4, 8, 2),
    "7763 nps1": Model(2, 1, 8, 8, 2),
    "7763 nps4": Model(2, 4, 2, 8, 2),
    "9654": Model(1, 1, 12, 8, 2),
    "9654 nps4": Model(2, 4, 3, 8, 2),
    "8480": Model(2, 1, 1, 56, 2),
}


def size(model: Model) -> int:
    return model.sockets * model.nodes * model.l3s * model.cores * model.threads + sum(
        int("".join(filter(str.isdigit, part))) for part in model.kind.split("+") if part.endswith(("E", "P"))
    )


def host(model: Model, draw: random.Random) -> dict:
    total = model.sockets * model.nodes * model.l3s * model.cores
    nodes = model.sockets * model.nodes
    cpus = []
    for core in range(total):
        l3 = core // model.cores
        node = l3 // model.l3s
        big = model.kind == "x3d" and l3 % 2 == 0
        cls, mhz = (
            ("P", 5200)
            if "E" in model.kind
            else ("std", 5250 if big else 5700 if model.kind == "x3d" else 4500)
        )
        for thread in range(model.threads):
            number = core + thread * total
            if model.order == "adjacent":
                number = core * model.threads + thread
            elif model.order == "alternating":
                half = total // model.sockets
                number = core % half * model.sockets + core // half + thread * total
            cpus.append(
                {
                    "id": number,
                    "core": core,
                    "l3": l3,
                    "node": node,
                    "socket": node // model.nodes,
                    "cls": cls,
                    "mhz": mhz,
                }
            )
    for part in model.kind.split("+") if "E" in model.kind else ():
        cls = "LP" if part.endswith("LP") else "E"
        for _ in range(int(part.rstrip("ELP"))):
            number = len(cpus)
            where = {"l3": 0 if cls == "E" else 1, "node": 0, "socket": 0}
            cpus.append(
                {"id": number, "core": number, **where, "cls": cls, "mhz": 3900 if cls == "E" else 2500}
            )
    if draw.random() < 0.15:
        for _ in range(draw.randint(1, 2)):
            cpus.remove(draw.choice(cpus))
    cpus.sort(key=lambda cpu: cpu["id"])
    first = {}
    for cpu in cpus:
        first.setdefault(cpu["core"], cpu["id"])
    for cpu in cpus:
        cpu["core"] = first[cpu["core"]]
    l3_kib = {str(cpu["l3"]): 98304 if model.kind == "x3d" and cpu["l3"] % 2 == 0 else 32768 for cpu in cpus}
    near, far = draw.choice([(12, 32), (11, 21), (16, 28)])
    distance = [
        [10 if a == b else near if a // model.nodes == b // model.nodes else far for b in range(nodes)]
        for a in range(nodes)
    ]
    memory = [node for node in range(nodes) if model.kind != "no memory" or node % 2 == 0]
    must = draw.choice(
        [
            [],
            [],
            [0],
            sorted(c["id"] for c in cpus if c["core"] in list(first.values())[: draw.randint(1, 2)]),
        ]
    )
    return {
        "cpus": cpus,
        "l3_kib": l3_kib,
        "nodes": list(range(nodes)),
        "distance": distance,
        "memory_nodes": memory,
        "reserve": {
            "must": [c for c in must if any(cpu["id"] == c for cpu in cpus)],
            "min_cpus": draw.choice([1, 2, 2, 4]),
        },
        "gpu_nodes": sorted(draw.sample(range(nodes), draw.randint(0, min(nodes, 3)))),
    }


def domain(name: str, raw: dict, model: Model, draw: random.Random) -> dict:
    """Mostly what people run: guest cores of two threads, an L3 domain or less; and now and then anything."""
    l3 = model.cores * model.threads
    most = max(1, min(len(raw["cpus"]) * 2 // 3, 96))
    vcpus = draw.choice([2, 4, 4, 6, 8, 8, 12, 16, l3, l3, 2 * l3, 3 * l3, draw.randint(1, most)])
    vcpus = min(vcpus, most)
    threads = draw.choice([1, 2, 2, 2]) if model.threads == 2 else draw.choice([1, 1, 1, 2])
    if threads == 2 and vcpus % 2 and draw.random() < 0.9:
        vcpus = max(2, vcpus - 1)
    vm = {"name": name, "vcpus": vcpus, "threads": threads}
    if raw["gpu_nodes"] and draw.random() < 0.4:
        vm["gpu_node"] = draw.choice(raw["gpu_nodes"])
    if draw.random() < 0.25:
        vm["emulator"] = draw.choice([1, 1, 2])
    if threads == 1 and draw.random() < 0.3:
        vm["smt"] = "isolate"
    if draw.random() < 0.2:
        vm["prio"] = draw.choice([1, 2])
    if "E" in model.kind and draw.random() < 0.6:
        vm["class"] = draw.choice(["perf", "perf", "eff"])
    if (model.kind == "x3d" and draw.random() < 0.6) or draw.random() < 0.05:
        vm["prefer"] = draw.choice(["vcache", "freq"])
    for count in (4, 2):
        if (
            len(raw["nodes"]) > 1
            and vcpus % (count * threads) == 0
            and vcpus >= 2 * count
            and draw.random() < 0.3
        ):
            part = vcpus // count
            vm["cells"] = [list(range(i * part, (i + 1) * part)) for i in range(count)]
            break
    return vm


def messy(vms: list[dict], raw: dict, draw: random.Random) -> dict:
    """Pins as made by hand: in numeric order, whole cores in order, or anywhere."""
    must = set(raw["reserve"]["must"])
    how = draw.choice(["numeric", "cores", "anywhere"])
    order = [cpu for cpu in raw["cpus"] if cpu["id"] not in must]
    if how == "cores":
        order.sort(key=lambda cpu: (cpu["core"], cpu["id"]))
    elif how == "anywhere":
        draw.shuffle(order)
    ids = [cpu["id"] for cpu in order]
    if draw.random() < 0.5:
        ids = ids[2:] + ids[:2]
    placement = {}
    for vm in vms:
        if len(ids) - vm["vcpus"] < raw["reserve"]["min_cpus"]:
            placement[vm["name"]] = {"vcpus": None}
            continue
        placement[vm["name"]] = {"vcpus": ids[: vm["vcpus"]]}
        ids = ids[vm["vcpus"] :]
    return placement


def case(seed: int, most_cpus: int = 1 << 20) -> dict:
    draw = random.Random(seed)  # nobody guards a secret with it
    name = draw.choice([name for name, model in MODELS.items() if size(model) <= most_cpus])
    model = MODELS[name]
    raw = host(model, draw)
    number = 0
    running: dict[str, dict] = {}

    def new() -> dict:
        nonlocal number
        number += 1
        vm = domain(f"d{number}", raw, model, draw)
        running[vm["name"]] = vm
        return vm

    found = {"name": f"fresh-{seed}", "about": name, "host": raw}
    if draw.random() < 0.25:
        vms = [new() for _ in range(draw.randint(1, 4))]
        found["initial"] = {"vms": vms, "placement": messy(vms, raw, draw)}
    events = []
    for _ in range(draw.randint(4, 12)):
        wanted = sum(vm["vcpus"] for vm in running.values()) / len(raw["cpus"])
        kind = draw.choices(["start", "stop", "resize", "rebalance"], [6, 2 + 6 * wanted, 1.5, 0.5])[0]
        if not running or kind == "start":
            events.append({"event": "start", "vm": new()})
        elif kind == "stop":
            gone = draw.choice(sorted(running))
            del running[gone]
            events.append({"event": "stop", "vm": gone})
        elif kind == "resize":
            vm = draw.choice([running[name] for name in sorted(running)])
            if "cells" not in vm:
                vcpus = max(vm["threads"], vm["vcpus"] + vm["threads"] * draw.choice([-2, -1, 1, 2, 4]))
                running[vm["name"]] = {**vm, "vcpus": vcpus}
                events.append({"event": "resize", "vm": vm["name"], "vcpus": vcpus})
        else:
            events.append({"event": "rebalance"})
    return {**found, "events": events}


def large() -> list[dict]:
    """Hosts with very many domains that come and go: 1,024 CPUs with 300, and some that are full."""
    found = []
    for name, model, most, sizes in (
        ("1024 cpus, 300 domains", Model(2, 4, 8, 8, 2), 300, [2, 2, 4, 4]),
        ("1024 cpus, full", Model(2, 4, 8, 8, 2), 300, [2, 4, 8, 16]),
        ("384 cpus, full", Model(2, 4, 3, 8, 2), 100, [2, 4, 4, 8]),
    ):
        draw = random.Random(name)
        raw = {
            **host(model, random.Random(7)),
            "reserve": {"must": [0], "min_cpus": 8},
            "gpu_nodes": [0, 2, 5],
        }
        running: dict[str, int] = {}
        events = []
        for number in range(most + 20):
            full = sum(running.values()) > len(raw["cpus"]) - 16
            if full or (number >= most and draw.random() < 0.5):
                gone = draw.choice(sorted(running))
                del running[gone]
                events.append({"event": "stop", "vm": gone})
            vm = {"name": f"d{number}", "vcpus": draw.choice(sizes), "threads": 2}
            if draw.random() < 0.2:
                vm["gpu_node"] = draw.choice(raw["gpu_nodes"])
            running[vm["name"]] = vm["vcpus"]
            events.append({"event": "start", "vm": vm})
        found.append({"name": name, "about": name, "host": raw, "events": events})
    return found


def judge(cases: list[dict], *, exact: bool) -> int:
    """Every event that is worse than the optimum, and the sums. The exit status."""
    import optimum  # noqa: PLC0415  needs OR-tools
    from tests.bench import placement as bench  # noqa: PLC0415  which imports this

    events = worse = moved = least = needless = unjudged = better = 0
    for one in cases:
        for number, played in enumerate(bench.play(one)):
            vector = played.vector
            events += 1
            where = f"{one['name']} ({one['about']}) event {number}"
            if vector is None:
                worse += 1
                continue
            try:
                _, best, _ = optimum.best_step(*played.stage, threads=exact)
            except (ValueError, IndexError):  # the oracle places whole cores and found no valid answer
                unjudged += 1
                continue
            if vector[: score.CORE] > best[: score.CORE]:
                worse += 1
                print(f"{where}: WORSE\n  planner {vector}\n  optimum {best}", flush=True)
            elif vector[: score.CORE] < best[: score.CORE]:
                better += 1
            else:
                moved, least = moved + vector[score.CORE], least + best[score.CORE]
                if vector[score.CORE] > best[score.CORE]:
                    needless += 1
                    print(
                        f"{where}: {vector[score.CORE]} weighted moves instead of {best[score.CORE]}",
                        flush=True,
                    )
    print(f"{len(cases)} cases, {events} events: {worse} invalid or worse than the optimum in core terms, ")
    print(f"{better} better than the oracle's whole cores, {unjudged} without an oracle's answer")
    print(f"weighted moves {moved}, least {least}, needless in {needless} events")
    return int(bool(worse))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("first", type=int)
    parser.add_argument("last", type=int)
    parser.add_argument("--cpus", type=int, default=1 << 20, help="of the largest host")
    parser.add_argument("--out", help="folder to write the cases to")
    parser.add_argument("--judge", action="store_true", help="by the oracle that places whole cores (fast)")
    parser.add_argument(
        "--exact", action="store_true", help="on small hosts also by the one that places threads"
    )
    options = parser.parse_args()
    cases = [case(seed, options.cpus) for seed in range(options.first, options.last + 1)]
    if options.out:
        os.makedirs(options.out, exist_ok=True)
        for one in cases:
            with open(os.path.join(options.out, one["name"] + ".json"), "w", encoding="utf-8") as file:
                json.dump(one, file)
    return judge(cases, exact=options.exact) if options.judge or options.exact else 0


if __name__ == "__main__":
    sys.exit(main())
