#!/usr/bin/env python3
# ruff: noqa: B007, C416, E501, EXE001, F401, F841, I001, N803, N806, PLW2901, RUF005, RUF059, SIM300
# fmt: off
"""Exact per-step optimum of the objective in score.py, with CP-SAT (OR-tools).

  optimum.py [CASE.json ...]     writes optimum/NAME.json (placement + vectors)

Each step is solved lexicographically given the previous step's optimum
placement (myopic chain).  Two models:
  * bucket model: counts per (VM, guest cell, L3 domain x core type); exact when
    every VM owns whole cores, which is the case whenever that is feasible and
    the previous placement is itself whole-core;
  * thread model: one boolean per (vCPU, CPU); exact always, used on hosts of
    up to 32 CPUs.  The better of the two (by score.py) is kept, and the two
    must agree when both apply.
"""
import glob
import json
import os
import sys
import time
from ortools.sat.python import cp_model
from score import Host, N, NAMES, mem_nodes, timeline, units, vector, vm_threads, check

LIMIT = float(os.environ.get("LIMIT", "60"))      # seconds per core term
SECONDARY = float(os.environ.get("SECONDARY", "5"))  # seconds per secondary term
SMALL = 32


def lex(model, terms, hint_vars=None):
    """Minimise the linear expressions in order; returns (solver, values, proven)."""
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 2
    solver.parameters.max_time_in_seconds = LIMIT
    vals, proven = [], []
    for n, t in enumerate(terms):
        solver.parameters.max_time_in_seconds = LIMIT if n < 9 else SECONDARY
        model.minimize(t)
        st = solver.solve(model)
        if st not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
            return None, None, []
        proven.append(st == cp_model.OPTIMAL)
        v = round(solver.objective_value)
        vals.append(v)
        model.add(t <= v)
        if hint_vars:
            model.clear_hints()
            for x in hint_vars:
                model.add_hint(x, solver.value(x))
    return solver, vals, proven


def common(model, host, vms, prev_vms, prev):
    ded = {v: model.new_bool_var(f"ded_{v}") for v in vms}
    newly = {v for v in vms if v not in prev or prev[v].get("vcpus") is None or prev_vms[v]["vcpus"] != vms[v]["vcpus"]}
    for v in vms:
        if v in newly:
            continue
        higher = [ded[n] for n in newly if vms[n].get("prio", 0) > vms[v].get("prio", 0)]
        model.add_bool_or([ded[v]] + higher)
    return ded


def displaced(host, node, at):
    return int(bool(at) and node not in host.near_memory(at))


def flat(mem):
    return sorted({x for y in mem for x in y}) if mem else None


def dist_cost(host, vm, node, at):
    c = min(host.dist(node, x) for x in (at or host.raw["memory_nodes"])) - 10
    if vm.get("gpu_node") is not None:
        c += host.dist(node, vm["gpu_node"]) - 10
    return c


def pref_cost(host, vm, cpu):
    if vm.get("prefer") == "vcache":
        return int(host.kib[cpu["l3"]] < host.max_kib)
    if vm.get("prefer") == "freq":
        return int(cpu["mhz"] < host.max_mhz)
    return 0


def cls_wrong(vm, cls):
    return int((vm.get("class") == "perf" and cls in ("E", "LP")) or (vm.get("class") == "eff" and cls == "P"))


def move_w(A, B):
    return 4 if A["node"] != B["node"] else 2 if A["l3"] != B["l3"] else 1


# ---------------------------------------------------------------- buckets
def make_buckets(host):
    """Interchangeable cores: {(l3, type, threads): [core, ...]}, host-only cores left out."""
    must_cores = {host.cpu[c]["core"] for c in host.must}
    buckets = {}
    for core, ids in host.cores.items():
        if core not in must_cores:
            a = host.cpu[ids[0]]
            buckets.setdefault((a["l3"], a["cls"], len(ids)), []).append(core)
    return buckets


def solve_buckets(host, vms, prev_vms, prev, mem):
    m = cp_model.CpModel()
    ded = common(m, host, vms, prev_vms, prev)
    boot_core = host.cpu[min(host.ids)]["core"]
    buckets = make_buckets(host)
    bs = sorted(buckets)
    rep = {b: host.cpu[host.cores[buckets[b][0]][0]] for b in bs}
    core_b = {k: b for b in bs for k in buckets[b]}
    T = [[] for _ in range(N)]
    u, e, c, usedl, allv = {}, {}, {}, {}, []
    for v, vm in vms.items():
        th = vm_threads(vm)
        cells = units(vm)
        iso = vm.get("smt") == "isolate" and th == 1
        w = 10 ** vm.get("prio", 0)
        T[0].append(10 * w * vm["vcpus"] * (1 - ded[v]))
        want = vm.get("emulator", 0)
        for b in bs:
            S = b[2]
            cap = len(buckets[b])
            c[v, b] = m.new_int_var(0, cap, "")
            e[v, b] = m.new_int_var(0, want, "")
            tot = []
            for j, cell in enumerate(cells):
                k = len([i for i in cell if i < vm["vcpus"]])
                u[v, j, b] = m.new_int_var(0, k // th if th > 1 else k, "")
                tot.append(u[v, j, b])
            n = sum(tot) * th
            m.add(S * c[v, b] >= n + e[v, b])
            if iso:
                m.add(c[v, b] >= sum(tot))
            if th > 1 and S < th:
                m.add(c[v, b] >= n + e[v, b])
                T[2].append(sum(tot))
            m.add(c[v, b] <= cap * ded[v])
            m.add(e[v, b] <= want * ded[v])
            T[3].append(cls_wrong(vm, b[1]) * n)
            mm = mem.get(v)
            T[5].append(dist_cost(host, vm, rep[b]["node"], flat(mm)) * e[v, b])
            for j in range(len(cells)):
                at = mm[j] if mm else None
                T[5].append(dist_cost(host, vm, rep[b]["node"], at) * u[v, j, b] * th)
                T[1].append(displaced(host, rep[b]["node"], at) * u[v, j, b] * th)
            T[7].append(pref_cost(host, vm, rep[b]) * n)
            if vm.get("gpu_node") is None and host.gpu_some and rep[b]["node"] in host.gpu_nodes:
                T[10].append(n)
        T[0].append(w * (want * ded[v] - sum(e[v, b] for b in bs)))
        m.add(sum(e[v, b] for b in bs) <= want * ded[v])
        clss = sorted({b[1] for b in bs})
        if len(clss) > 1:
            maj = {k: m.new_bool_var("") for k in clss}
            m.add_exactly_one(maj.values())
            mi = m.new_int_var(0, vm["vcpus"], "")
            for k in clss:
                nk = sum(u[v, j, b] * th for j in range(len(cells)) for b in bs if b[1] == k)
                m.add(mi >= vm["vcpus"] * ded[v] - nk - vm["vcpus"] * (1 - maj[k]))
            T[3].append(mi)
        for j, cell in enumerate(cells):
            k = len([i for i in cell if i < vm["vcpus"]])
            m.add(sum(u[v, j, b] for b in bs) * th == k * ded[v])
            for key, idx, groups in (("node", 4, host.nodes), ("socket", 4, host.sockets), ("l3", 6, host.l3s)):
                for g in groups:
                    mine = [u[v, j, b] for b in bs if rep[b][key] == g]
                    if not mine:
                        continue
                    x = m.new_bool_var("")
                    m.add(sum(mine) <= k * x)
                    T[idx].append(x)
                    if key == "l3":
                        usedl.setdefault((v, g), []).append(x)
                T[idx].append(-host.min_groups(groups, k, iso) * ded[v])
        q = prev.get(v)
        if q and q.get("vcpus") is not None:
            for j, cell in enumerate(cells):
                cur = {}
                for i in cell:
                    if i < min(len(q["vcpus"]), vm["vcpus"]):
                        kk = host.cpu[q["vcpus"][i]]["core"]
                        if kk in core_b:
                            cur[core_b[kk]] = cur.get(core_b[kk], 0) + 1
                flow = {}
                for b0, nb in cur.items():
                    for b1 in bs:
                        flow[b0, b1] = m.new_int_var(0, nb, "")
                        if b0 != b1:
                            T[8].append(move_w(rep[b0], rep[b1]) * flow[b0, b1])
                    m.add(sum(flow[b0, b1] for b1 in bs) == nb).only_enforce_if(ded[v])
                for b1 in bs:
                    m.add(sum(flow[b0, b1] for b0 in cur) <= u[v, j, b1] * th)
                if boot_core in core_b and any(host.cpu[x]["core"] == boot_core for x in q["vcpus"]):
                    b0 = core_b[boot_core]
                    if b0 in cur:
                        out = sum(flow[b0, b1] for b1 in bs if b1 != b0)
                        stay = m.new_bool_var("")
                        m.add(out >= 1).only_enforce_if(stay.negated())
                        m.add(ded[v] == 1).only_enforce_if(stay)
                        T[9].append(stay)
    for b in bs:
        m.add(sum(c[v, b] for v in vms) <= len(buckets[b]))
    tot_owned = sum(b[2] * c[v, b] for v in vms for b in bs)
    m.add(len(host.ids) - tot_owned >= host.min_cpus)
    if boot_core in core_b:
        b0 = core_b[boot_core]
        full = m.new_bool_var("")
        m.add(sum(c[v, b0] for v in vms) <= len(buckets[b0]) - 1).only_enforce_if(full.negated())
        T[9].append(full)
    for g in host.l3s:
        us = []
        for v in vms:
            xs = usedl.get((v, g))
            if xs:
                x = m.new_bool_var("")
                m.add_max_equality(x, xs)
                us.append(x)
        if us:
            s = m.new_int_var(0, len(vms), "")
            m.add(s >= sum(us) - 1)
            T[11].append(s)
        if not any(host.cpu[cc]["l3"] == g for cc in host.must):
            f = m.new_bool_var("")
            for v in vms:
                for b in bs:
                    if b[0] == g:
                        m.add(c[v, b] == 0).only_enforce_if(f)
            T[12].append(-f)
    hints = list(u.values()) + list(c.values()) + list(e.values()) + list(ded.values())
    solver, vals, proven = lex(m, [sum(t) for t in T], hints)
    if solver is None:
        return None
    n_u = {k: solver.value(x) for k, x in u.items()}
    n_e = {k: solver.value(x) for k, x in e.items()}
    n_c = {k: solver.value(x) for k, x in c.items()}
    n_d = {k: solver.value(x) for k, x in ded.items()}
    return materialise(host, vms, prev, buckets, n_d, n_u, n_e, n_c), proven


def materialise(host, vms, prev, buckets, ded, u, e, c):
    """Counts per bucket -> pins, keeping every vCPU that may stay where it is."""
    bs = sorted(buckets)
    core_b = {k: b for b in bs for k in buckets[b]}
    boot_core = host.cpu[min(host.ids)]["core"]
    pl, free = {}, {b: set(buckets[b]) for b in bs}
    state = {}
    for v, vm in vms.items():
        if not ded[v]:
            pl[v] = {"vcpus": None}
            continue
        th, cells, q = vm_threads(vm), units(vm), prev.get(v)
        qv = q["vcpus"] if q and q.get("vcpus") is not None else []
        pins = [None] * vm["vcpus"]
        cores_used = {b: [] for b in bs}
        for b in bs:
            lim = c[v, b]
            by_core = {}
            for j, cell in enumerate(cells):
                for i in cell:
                    if i < min(len(qv), vm["vcpus"]) and core_b.get(host.cpu[qv[i]]["core"]) == b:
                        by_core.setdefault(host.cpu[qv[i]]["core"], []).append((j, i))
            left = {j: u[v, j, b] * th for j in range(len(cells))}
            for k, mem_ in sorted(by_core.items(), key=lambda kv: (-len(kv[1]), kv[0] == boot_core, kv[0])):
                keep = []
                for j, i in mem_:
                    if left[j] > 0:
                        left[j] -= 1
                        keep.append(i)
                if keep and (len(cores_used[b]) < lim) and (th == 1 or len(keep) >= min(th, b[2])):
                    for i in keep:
                        pins[i] = qv[i]
                    cores_used[b].append(k)
                    free[b].discard(k)
                else:
                    for j, i in mem_:
                        if i in keep:
                            left[j] += 1
        state[v] = (pins, cores_used)
    for v, (pins, cores_used) in state.items():
        vm = vms[v]
        th, cells, q = vm_threads(vm), units(vm), prev.get(v) or {}
        iso = vm.get("smt") == "isolate" and th == 1
        emu, idle = [], []
        for b in bs:
            lim = c[v, b]
            while len(cores_used[b]) < lim:
                k = min(free[b], key=lambda x: (x == boot_core, x))
                free[b].discard(k)
                cores_used[b].append(k)
            slots = {k: [x for x in host.cores[k] if x not in pins] for k in cores_used[b]}
            for j, cell in enumerate(cells):
                need = u[v, j, b] * th
                have = sum(1 for i in cell if i < vm["vcpus"] and pins[i] is not None and core_b.get(host.cpu[pins[i]]["core"]) == b)
                todo = [i for i in cell if i < vm["vcpus"] and pins[i] is None][: need - have]
                if th > 1 and b[2] >= th:
                    whole = [k for k in cores_used[b] if len(slots[k]) == len(host.cores[k])]
                    for g in range(0, len(todo), th):
                        k = whole.pop(0)
                        for i in todo[g:g + th]:
                            pins[i] = slots[k].pop(0)
                else:
                    for i in todo:
                        ks = [k for k in cores_used[b] if slots[k] and (not iso or len(slots[k]) == len(host.cores[k]))]
                        k = min(ks, key=lambda x: (len(slots[x]), x)) if not iso else ks[0]
                        pins[i] = slots[k].pop(0)
            want = e[v, b]
            rest = [x for k in cores_used[b] for x in slots[k]]
            emu += rest[:want]
            idle += rest[want:]
        pl[v] = {"vcpus": pins, "emulator": emu, "idle": idle}
    return pl


# ---------------------------------------------------------------- threads
def solve_threads(host, vms, prev_vms, prev, mem):
    m = cp_model.CpModel()
    ded = common(m, host, vms, prev_vms, prev)
    T = [[] for _ in range(N)]
    x, e, d = {}, {}, {}
    ids = [c for c in host.ids if c not in host.must]
    own = {}
    hints = []
    for v, vm in vms.items():
        th, w, want = vm_threads(vm), 10 ** vm.get("prio", 0), vm.get("emulator", 0)
        iso = vm.get("smt") == "isolate" and th == 1
        T[0].append(10 * w * vm["vcpus"] * (1 - ded[v]))
        q = prev.get(v)
        where = {i: j for j, cell in enumerate(units(vm)) for i in cell}
        for i in range(vm["vcpus"]):
            at = mem[v][where[i]] if v in mem else None
            for cc in ids:
                x[v, i, cc] = m.new_bool_var("")
                C = host.cpu[cc]
                T[1].append(displaced(host, C["node"], at) * x[v, i, cc])
                T[3].append(cls_wrong(vm, C["cls"]) * x[v, i, cc])
                T[5].append(dist_cost(host, vm, C["node"], at) * x[v, i, cc])
                T[7].append(pref_cost(host, vm, C) * x[v, i, cc])
                if vm.get("gpu_node") is None and host.gpu_some and C["node"] in host.gpu_nodes:
                    T[10].append(x[v, i, cc])
                if q and q.get("vcpus") is not None and i < len(q["vcpus"]) and q["vcpus"][i] != cc:
                    T[8].append(move_w(host.cpu[q["vcpus"][i]], C) * x[v, i, cc])
            m.add(sum(x[v, i, cc] for cc in ids) == ded[v])
        for cc in ids:
            e[v, cc] = m.new_bool_var("")
            d[v, cc] = m.new_bool_var("")
            T[5].append(dist_cost(host, vm, host.cpu[cc]["node"], flat(mem.get(v))) * e[v, cc])
            own[v, cc] = sum(x[v, i, cc] for i in range(vm["vcpus"])) + e[v, cc] + d[v, cc]
            m.add(d[v, cc] <= ded[v])
        m.add(sum(e[v, cc] for cc in ids) <= want * ded[v])
        T[0].append(w * (want * ded[v] - sum(e[v, cc] for cc in ids)))
        if th > 1:
            for g in range(0, vm["vcpus"], th):
                grp = [i for i in range(g, min(g + th, vm["vcpus"]))]
                on = {}
                for k, kc in host.cores.items():
                    kk = [cc for cc in kc if cc in ids]
                    if not kk:
                        continue
                    on[k] = m.new_bool_var("")
                    for i in grp:
                        m.add(sum(x[v, i, cc] for cc in kk) <= on[k])
                # cores used by the guest core beyond one: a mismatch (0/1)
                mm = m.new_bool_var("")
                m.add(sum(on.values()) <= 1 + (th - 1) * mm)
                T[2].append(mm)
                x.setdefault(("on", v), []).append(on)
            for k in host.cores:
                us = [on[k] for on in x[("on", v)] if k in on]
                if us:
                    s = m.new_int_var(0, len(us), "")
                    m.add(s >= sum(us) - 1)
                    T[2].append(s)
        elif iso:
            for k, kc in host.cores.items():
                s = m.new_int_var(0, 8, "")
                m.add(s >= sum(x[v, i, cc] for i in range(vm["vcpus"]) for cc in kc if cc in ids) - 1)
                T[2].append(s)
        clss = sorted({c["cls"] for c in host.cpu.values()})
        if len(clss) > 1:
            maj = {k: m.new_bool_var("") for k in clss}
            m.add_exactly_one(maj.values())
            mi = m.new_int_var(0, vm["vcpus"], "")
            for k in clss:
                nk = sum(x[v, i, cc] for i in range(vm["vcpus"]) for cc in ids if host.cpu[cc]["cls"] == k)
                m.add(mi >= vm["vcpus"] * ded[v] - nk - vm["vcpus"] * (1 - maj[k]))
            T[3].append(mi)
        for cell in units(vm):
            cell = [i for i in cell if i < vm["vcpus"]]
            for key, idx, groups in (("node", 4, host.nodes), ("socket", 4, host.sockets), ("l3", 6, host.l3s)):
                for g in groups:
                    b = m.new_bool_var("")
                    m.add(sum(x[v, i, cc] for i in cell for cc in groups[g] if cc in ids) <= len(cell) * b)
                    T[idx].append(b)
                T[idx].append(-host.min_groups(groups, len(cell), iso) * ded[v])
    for cc in ids:
        m.add(sum(own[v, cc] for v in vms) <= 1)
    m.add(len(host.ids) - sum(own[v, cc] for v in vms for cc in ids) >= host.min_cpus)
    for k, kc in host.cores.items():
        vs = []
        for v in vms:
            b = m.new_bool_var("")
            for cc in kc:
                if cc in ids:
                    m.add(own[v, cc] <= b)
            vs.append(b)
        h = m.new_bool_var("")
        for cc in kc:
            if cc in ids:
                m.add(sum(own[v, cc] for v in vms) + h >= 1)
            else:
                m.add(h == 1)
        s = m.new_int_var(0, len(vms) + 1, "")
        m.add(s >= sum(vs) + h - 1)
        T[2].append(s)
        if min(host.ids) in kc:
            t = m.new_bool_var("")
            for b in vs:
                m.add(t >= b)
            T[9].append(t)
    for g, gc in host.l3s.items():
        us = []
        for v, vm in vms.items():
            b = m.new_bool_var("")
            for cc in gc:
                if cc in ids:
                    m.add(sum(x[v, i, cc] for i in range(vm["vcpus"])) <= b)
            us.append(b)
        if us:
            s = m.new_int_var(0, len(us), "")
            m.add(s >= sum(us) - 1)
            T[11].append(s)
        if not any(cc in host.must for cc in gc):
            f = m.new_bool_var("")
            for v in vms:
                for cc in gc:
                    if cc in ids:
                        m.add(own[v, cc] == 0).only_enforce_if(f)
            T[12].append(-f)
    hints = [b for key, b in x.items() if len(key) == 3] + list(e.values()) + list(d.values()) + list(ded.values())
    solver, vals, proven = lex(m, [sum(t) for t in T], hints)
    if solver is None:
        return None
    pl = {}
    for v, vm in vms.items():
        if not solver.value(ded[v]):
            pl[v] = {"vcpus": None}
            continue
        pl[v] = {"vcpus": [next(cc for cc in ids if solver.value(x[v, i, cc])) for i in range(vm["vcpus"])],
                 "emulator": [cc for cc in ids if solver.value(e[v, cc])],
                 "idle": [cc for cc in ids if solver.value(d[v, cc])]}
    return pl, proven


def best_step(host, vms, prev_vms, prev, mem, threads=True):
    out, info = [], {}
    if not vms:
        return {}, vector(host, {}, {})[0], {"proven": True}
    t0 = time.time()
    r = solve_buckets(host, vms, prev_vms, prev, mem)
    info["bucket_s"] = round(time.time() - t0, 3)
    if r:
        v, errs = vector(host, vms, r[0], prev_vms, prev, mem)
        info["bucket"] = v or errs
        if v:
            out.append((v, r[0], r[1]))
    if threads and len(host.ids) <= SMALL:
        t0 = time.time()
        r = solve_threads(host, vms, prev_vms, prev, mem)
        info["thread_s"] = round(time.time() - t0, 3)
        if r:
            v, errs = vector(host, vms, r[0], prev_vms, prev, mem)
            info["thread"] = v or errs
            if v:
                out.append((v, r[0], r[1]))
    v, pl, proven = min(out, key=lambda o: o[0])
    info["proven"] = all(proven[:9])
    info["proven_terms"] = proven
    return pl, v, info


def solve_case(case, threads=True):
    host = Host(case["host"])
    init = case.get("initial", {})
    prev_vms = {v["name"]: v for v in init.get("vms", [])}
    prev = init.get("placement") or {}
    mem = {n: mem_nodes(host, prev_vms[n], prev[n]["vcpus"]) for n in prev if prev[n].get("vcpus")}
    steps = []
    for vms, ev in timeline(case):
        pl, v, info = best_step(host, vms, prev_vms, prev, mem, threads)
        steps.append({"vms": pl, "vector": v, "info": info})
        mem = {n: mm for n, mm in mem.items() if n in vms and pl[n].get("vcpus")}
        for n, vm in vms.items():
            if n not in mem and pl[n].get("vcpus"):
                mem[n] = mem_nodes(host, vm, pl[n]["vcpus"])
        prev_vms, prev = vms, pl
    return {"case": case["name"], "names": NAMES, "steps": steps}


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    files = sys.argv[1:] or sorted(glob.glob(os.path.join(here, "cases", "*.json")))
    os.makedirs(os.path.join(here, "optimum"), exist_ok=True)
    for f in files:
        with open(f) as fh:
            case = json.load(fh)
        t0 = time.time()
        res = solve_case(case)
        with open(os.path.join(here, "optimum", case["name"] + ".json"), "w") as fh:
            json.dump(res, fh, separators=(",", ":"))
        tot = [sum(s["vector"][i] for s in res["steps"]) for i in range(N)]
        odd = [i for i, s in enumerate(res["steps"]) if "thread" in s["info"] and s["info"].get("bucket") != s["info"]["thread"]]
        print(f"{case['name']:26s} {time.time() - t0:6.1f}s steps={len(res['steps'])} sum={tot} "
              f"proven={all(s['info'].get('proven') for s in res['steps'])} differ@{odd} "
              f"max_step={max(s['info'].get('bucket_s', 0) for s in res['steps'])}s", flush=True)


if __name__ == "__main__":
    main()
