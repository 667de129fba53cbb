#!/usr/bin/env python3
# ruff: noqa: B905, EXE001, N806, PERF401
# fmt: off
"""Score a vCPU placement against the objective (lower is better, compared
lexicographically).

  score.py CASE.json PLACEMENT.json       -> JSON on stdout, exit 1 if invalid

PLACEMENT.json: {"steps": [{"vms": {NAME: {"vcpus": [cpu, ...] | null,
                                            "emulator": [cpu, ...], "idle": [cpu, ...]}}}, ...]}
One entry per event of the case.  "vcpus": null means the VM floats on the host
pool (not dedicated).  "idle" are CPUs kept empty for that VM (a sibling thread
nobody else may use).  Everything no VM owns belongs to the host.

Vector:
  core terms      T1 undedicated   dedicated CPUs wanted but not given
                  T2 displaced     vCPUs of a running VM on a node that holds none of its memory
                                   (guest memory pinned by VFIO cannot follow)
                  T3 smt           guest cores not on one host core + host cores shared by two owners
                  T4 class         vCPUs on the wrong core type + vCPUs off the VM's majority type
                  T5 node_span     NUMA nodes + sockets spanned beyond the minimum
                  T6 locality      distance of vCPUs to the VM's GPU node and to memory
                  T7 l3_span       L3 domains spanned beyond the minimum
                  T8 cache_pref    vCPUs off the V-cache / high-clock domain asked for
  stability       T9 migrations    running vCPUs moved (1 same L3, 2 other L3, 4 other node)
  secondary       T10 cpu0         1 when CPU 0's core is not wholly the host's
                  T11 gpu_room     vCPUs of VMs without a GPU on NUMA nodes that have one
                                   (only where some node has none)
                  T12 l3_shared    VMs sharing an L3 with another VM
                  T13 free_l3      minus the number of L3 domains left wholly free
"""
import json
import sys
from collections import Counter

NAMES = ["undedicated", "displaced", "smt", "class", "node_span", "locality", "l3_span",
         "cache_pref", "migrations", "cpu0", "gpu_room", "l3_shared", "free_l3"]
CORE = 8
N = len(NAMES)


class Host:
    def __init__(self, host):
        self.raw = host
        self.cpu = {c["id"]: c for c in host["cpus"]}
        self.ids = sorted(self.cpu)
        self.cores, self.l3s, self.nodes, self.sockets = {}, {}, {}, {}
        for c in host["cpus"]:
            self.cores.setdefault(c["core"], []).append(c["id"])
            self.l3s.setdefault(c["l3"], []).append(c["id"])
            self.nodes.setdefault(c["node"], []).append(c["id"])
            self.sockets.setdefault(c["socket"], []).append(c["id"])
        for g in (self.cores, self.l3s, self.nodes, self.sockets):
            for v in g.values():
                v.sort()
        self.kib = {int(k): v for k, v in host["l3_kib"].items()}
        self.max_kib = max(self.kib.values())
        self.max_mhz = max(c["mhz"] for c in host["cpus"])
        self.gpu_nodes = set(host.get("gpu_nodes", []))
        self.gpu_some = 0 < len(self.gpu_nodes) < len(host["nodes"])
        self.smt = max(len(v) for v in self.cores.values())
        self.must = set(host["reserve"]["must"])
        self.min_cpus = host["reserve"]["min_cpus"]

    def dist(self, a, b):
        i, j = self.raw["nodes"].index(a), self.raw["nodes"].index(b)
        return self.raw["distance"][i][j]

    def near_memory(self, at):
        """Nodes that count as holding memory placed on the nodes `at`: those nodes,
        and memory-less nodes whose nearest memory is there."""
        out = set(at)
        for n in self.raw["nodes"]:
            if n not in self.raw["memory_nodes"]:
                best = min(self.dist(n, x) for x in self.raw["memory_nodes"])
                if any(self.dist(n, x) == best for x in at):
                    out.add(n)
        return out

    def min_groups(self, groups, need, per_core=False):
        """Fewest groups that hold `need` vCPUs on an empty host."""
        caps = []
        for ids in groups.values():
            caps.append(len({self.cpu[i]["core"] for i in ids}) if per_core else len(ids))
        n = 0
        for c in sorted(caps, reverse=True):
            if need <= 0:
                break
            need -= c
            n += 1
        return max(n, 1)


def vm_threads(vm):
    return vm.get("threads", 1)


def units(vm):
    """vCPU index groups over which span is judged (guest NUMA cells or the VM)."""
    return vm.get("cells") or [list(range(vm["vcpus"]))]


def timeline(case):
    """Yield (running VMs dict, event) after each event."""
    running = {}
    for v in case.get("initial", {}).get("vms", []):
        running[v["name"]] = dict(v)
    for ev in case["events"]:
        running = {k: dict(v) for k, v in running.items()}
        if ev["event"] == "start":
            running[ev["vm"]["name"]] = dict(ev["vm"])
        elif ev["event"] == "stop":
            running.pop(ev["vm"])
        elif ev["event"] == "resize":
            running[ev["vm"]].update({k: ev[k] for k in ("vcpus", "threads") if k in ev})
        elif ev["event"] != "rebalance":
            raise ValueError(ev["event"])
        yield running, ev


def own(p):
    return [] if p.get("vcpus") is None else list(p["vcpus"]) + list(p.get("emulator", [])) + list(p.get("idle", []))


def mem_nodes(host, vm, placed):
    """Per guest cell: the nodes its memory sits on (where its vCPUs were at start)."""
    out = []
    for cell in units(vm):
        nodes = {host.cpu[placed[i]]["node"] for i in cell if i < len(placed)}
        m = nodes & set(host.raw["memory_nodes"])
        if not m:
            m = {min(host.raw["memory_nodes"], key=lambda x: host.dist(n, x)) for n in nodes}
        out.append(sorted(m))
    return out


def check(host, vms, placement, prev_vms=None, prev=None):
    errs, owner = [], {}
    for name in vms:
        if name not in placement:
            errs.append(f"{name}: no placement")
    for name, p in placement.items():
        if name not in vms:
            errs.append(f"{name}: placed but not running")
            continue
        vm = vms[name]
        if p.get("vcpus") is None:
            if vm.get("was_dedicated_required"):
                errs.append(f"{name}: must be dedicated")
            continue
        if len(p["vcpus"]) != vm["vcpus"]:
            errs.append(f"{name}: {len(p['vcpus'])} pins for {vm['vcpus']} vCPUs")
        for c in own(p):
            if c not in host.cpu:
                errs.append(f"{name}: no such CPU {c}")
            elif c in host.must:
                errs.append(f"{name}: takes host CPU {c}")
            elif c in owner:
                errs.append(f"{name}: CPU {c} already owned by {owner[c]}")
            else:
                owner[c] = name
        if len(p.get("emulator", [])) > vm.get("emulator", 0):
            errs.append(f"{name}: more emulator CPUs than asked")
    if len(host.ids) - len(owner) < host.min_cpus:
        errs.append(f"host keeps {len(host.ids) - len(owner)} CPUs, needs {host.min_cpus}")
    if prev is not None and not errs:
        risen = max((vms[n].get("prio", 0) for n in vms
                     if placement[n].get("vcpus") is not None
                     and (n not in prev or prev[n].get("vcpus") is None
                          or prev_vms[n]["vcpus"] != vms[n]["vcpus"])), default=-1)
        for n in vms:
            if (n in prev and prev[n].get("vcpus") is not None and placement[n].get("vcpus") is None
                    and prev_vms[n]["vcpus"] == vms[n]["vcpus"] and vms[n].get("prio", 0) >= risen):
                errs.append(f"{n}: running dedicated VM demoted for an equal or lower priority VM")
    return errs, owner


def vector(host, vms, placement, prev_vms=None, prev=None, mem=None):
    """Objective of one state.  mem: {vm: [[nodes] per cell]} for VMs whose memory is already placed."""
    errs, owner = check(host, vms, placement, prev_vms, prev)
    if errs:
        return None, errs
    t = [0] * N
    l3_users, touched = {}, {host.cpu[c]["l3"] for c in host.must}
    for name, vm in vms.items():
        p = placement[name]
        w = 10 ** vm.get("prio", 0)
        if p.get("vcpus") is None:
            t[0] += 10 * vm["vcpus"] * w
            continue
        t[0] += (vm.get("emulator", 0) - len(p.get("emulator", []))) * w
        pins, th = p["vcpus"], vm_threads(vm)
        C = [host.cpu[c] for c in pins]
        if th > 1:
            for g in range(0, vm["vcpus"], th):
                cores = {C[i]["core"] for i in range(g, min(g + th, vm["vcpus"]))}
                t[2] += len(cores) > 1
            # two guest cores folded onto one host core
            per = Counter()
            for g in range(0, vm["vcpus"], th):
                for k in {C[i]["core"] for i in range(g, min(g + th, vm["vcpus"]))}:
                    per[k] += 1
            t[2] += sum(v - 1 for v in per.values())
        elif vm.get("smt") == "isolate":
            t[2] += sum(v - 1 for v in Counter(c["core"] for c in C).values())
        cls = Counter(c["cls"] for c in C)
        if vm.get("class") == "perf":
            t[3] += sum(v for k, v in cls.items() if k in ("E", "LP"))
        elif vm.get("class") == "eff":
            t[3] += sum(v for k, v in cls.items() if k == "P")
        t[3] += len(C) - max(cls.values())
        iso = vm.get("smt") == "isolate" and th == 1
        for cell in units(vm):
            cc = [C[i] for i in cell if i < len(C)]
            if not cc:
                continue
            t[4] += len({c["node"] for c in cc}) - host.min_groups(host.nodes, len(cc), iso)
            t[4] += len({c["socket"] for c in cc}) - host.min_groups(host.sockets, len(cc), iso)
            t[6] += len({c["l3"] for c in cc}) - host.min_groups(host.l3s, len(cc), iso)
        emu = [host.cpu[c] for c in p.get("emulator", [])]
        m = (mem or {}).get(name)
        where = {i: j for j, cell in enumerate(units(vm)) for i in cell}
        for i, c in list(enumerate(C)) + [(None, c) for c in emu]:
            at = None if m is None else m[where[i]] if i is not None else sorted({x for y in m for x in y})
            if vm.get("gpu_node") is not None:
                t[5] += host.dist(c["node"], vm["gpu_node"]) - 10
            t[5] += min(host.dist(c["node"], x) for x in (at or host.raw["memory_nodes"])) - 10
            if at and i is not None and c["node"] not in host.near_memory(at):
                t[1] += 1
        if vm.get("gpu_node") is None and host.gpu_some:
            t[10] += sum(c["node"] in host.gpu_nodes for c in C)
        if vm.get("prefer") == "vcache":
            t[7] += sum(host.kib[c["l3"]] < host.max_kib for c in C)
        elif vm.get("prefer") == "freq":
            t[7] += sum(c["mhz"] < host.max_mhz for c in C)
        q = (prev or {}).get(name)
        if q and q.get("vcpus") is not None:
            for a, b in zip(q["vcpus"], pins):
                if a != b:
                    A, B = host.cpu[a], host.cpu[b]
                    t[8] += 4 if A["node"] != B["node"] else 2 if A["l3"] != B["l3"] else 1
        for l3 in {c["l3"] for c in C}:
            l3_users.setdefault(l3, set()).add(name)
        touched |= {host.cpu[c]["l3"] for c in own(p)}
    for ids in host.cores.values():
        owners = {owner.get(c, "") for c in ids}
        if owners != {""}:
            t[2] += len(owners) - 1
    boot = min(host.ids)
    t[9] = int(any(c in owner for c in host.cores[host.cpu[boot]["core"]]))
    t[11] = sum(len(v) - 1 for v in l3_users.values())
    t[12] = -len(set(host.l3s) - touched)
    return t, []


def score_case(case, placement):
    host = Host(case["host"])
    init = case.get("initial", {})
    prev_vms = {v["name"]: v for v in init.get("vms", [])}
    prev = init.get("placement") or {}
    mem = {n: mem_nodes(host, prev_vms[n], prev[n]["vcpus"]) for n in prev if prev[n].get("vcpus")}
    steps, ok = [], True
    todo = list(timeline(case))
    if len(placement["steps"]) != len(todo):
        return {"valid": False, "errors": ["wrong number of steps"], "steps": []}
    for (vms, ev), st in zip(todo, placement["steps"]):
        pl = st["vms"]
        v, errs = vector(host, vms, pl, prev_vms, prev, mem)
        if v is None:
            steps.append({"event": ev, "errors": errs})
            ok = False
            break
        steps.append({"vector": v})
        mem = {n: m for n, m in mem.items() if n in vms and pl[n].get("vcpus")}
        for n, vm in vms.items():
            if n not in mem and pl[n].get("vcpus"):
                mem[n] = mem_nodes(host, vm, pl[n]["vcpus"])
        prev_vms, prev = vms, pl
    res = {"case": case["name"], "valid": ok, "names": NAMES, "steps": steps}
    if ok:
        vs = [s["vector"] for s in steps]
        res["sum"] = [sum(v[i] for v in vs) for i in range(N)]
        res["final"] = vs[-1]
    return res


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with open(sys.argv[1]) as f:
        case = json.load(f)
    with open(sys.argv[2]) as f:
        pl = json.load(f)
    res = score_case(case, pl)
    print(json.dumps(res, indent=1))
    sys.exit(0 if res["valid"] else 1)


if __name__ == "__main__":
    main()
