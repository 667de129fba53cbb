#!/usr/bin/env python3
# ruff: noqa: B905, EXE001, I001, PLC0415
# fmt: off
"""Acceptance summary of a planner's answers.

  accept.py ANSWERS_DIR [--regret]     ANSWERS_DIR/NAME.json per case (format: score.py)

Against the stored optimum chain (expected.json): steps whose core terms
(T1..T8) equal or beat it, first differing term, weighted migrations.
--regret (needs OR-tools): each step is compared with the exact optimum computed
from the planner's own previous placement, so an early choice is not charged twice.
"""
import glob
import json
import os
import sys
from collections import Counter
from score import CORE, N, NAMES, Host, mem_nodes, score_case, timeline

HERE = os.path.dirname(os.path.abspath(__file__))


def regret(case, answer):
    import optimum
    host = Host(case["host"])
    init = case.get("initial", {})
    pv = {v["name"]: v for v in init.get("vms", [])}
    prev = init.get("placement") or {}
    mem = {n: mem_nodes(host, pv[n], prev[n]["vcpus"]) for n in prev if prev[n].get("vcpus")}
    for (vms, _), st in zip(timeline(case), answer["steps"]):
        _, best, _ = optimum.best_step(host, vms, pv, prev, mem)
        yield best
        pl = st["vms"]
        mem = {n: m for n, m in mem.items() if n in vms and pl[n].get("vcpus")}
        for n, vm in vms.items():
            if n not in mem and pl[n].get("vcpus"):
                mem[n] = mem_nodes(host, vm, pl[n]["vcpus"])
        pv, prev = vms, pl


def main():
    args = [a for a in sys.argv[1:] if not a.startswith("--")]
    if len(args) != 1:
        sys.exit(__doc__)
    with open(os.path.join(HERE, "expected.json")) as f:
        expected = json.load(f)
    steps = good = invalid = missing = 0
    mig = opt_mig = 0
    first, tot, opt_tot = Counter(), [0] * N, [0] * N
    for f in sorted(glob.glob(os.path.join(HERE, "cases", "*.json"))):
        with open(f) as fh:
            case = json.load(fh)
        path = os.path.join(args[0], case["name"] + ".json")
        if not os.path.exists(path):
            missing += 1
            steps += len(case["events"])
            continue
        with open(path) as fh:
            ans = json.load(fh)
        res = score_case(case, ans)
        if not res["valid"]:
            invalid += 1
            steps += len(case["events"])
            print("INVALID", case["name"], res["steps"][-1] if res["steps"] else res)
            continue
        ref = list(regret(case, ans)) if "--regret" in sys.argv else expected[case["name"]]
        for i, (s, e) in enumerate(zip(res["steps"], ref)):
            v = s["vector"]
            steps += 1
            mig += v[CORE]
            opt_mig += e[CORE]
            for k in range(N):
                tot[k] += v[k]
                opt_tot[k] += e[k]
            if v[:CORE] <= e[:CORE]:
                good += 1
            else:
                k = next(k for k in range(CORE) if v[k] != e[k])
                first[NAMES[k]] += 1
                print(f"{case['name']} step {i}: {NAMES[k]} {v[k]} vs {e[k]}")
    print(f"steps {steps}  core terms at optimum {good} ({100 * good / max(steps, 1):.1f}%)  "
          f"invalid cases {invalid}  missing {missing}")
    print(f"weighted migrations {mig} vs {opt_mig}; first differing term {dict(first)}")
    print("names  ", NAMES)
    print("planner", tot)
    print("optimum", opt_tot)
    sys.exit(0 if good == steps else 1)


if __name__ == "__main__":
    main()
