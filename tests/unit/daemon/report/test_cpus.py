"""The JSON of `hostler cpus`."""

from __future__ import annotations

import json

from hostlerd.host.simulated.tree import Tree
from hostlerd.observe.cpus import observe_cpus
from hostlerd.report.cpus import cpus_json

CPU = "/sys/devices/system/cpu"


def host() -> Tree:
    tree = Tree()
    tree.put(f"{CPU}/online", "0,2-3\n")
    tree.put(f"{CPU}/isolated", "2-3\n")
    tree.put("/proc/meminfo", "MemTotal: 2048 kB\n")
    for cpu in range(4):
        tree.put(f"{CPU}/cpu{cpu}/topology/core_cpus_list", f"{cpu & 2}-{cpu | 1}\n")
        tree.put(f"{CPU}/cpu{cpu}/cpufreq/cpuinfo_max_freq", "4200000\n")
        tree.put(f"{CPU}/cpu{cpu}/cache/index3/level", "3\n")
        tree.put(f"{CPU}/cpu{cpu}/cache/index3/shared_cpu_list", "0-3\n")
        tree.put(f"{CPU}/cpu{cpu}/cache/index3/size", "32768K\n")
    return tree


def test_shape() -> None:
    found = cpus_json(observe_cpus(host()))
    offline = found["cpus"].pop(1)
    assert offline == {
        "id": 1,
        "core": None,
        "siblings": None,
        "socket": None,
        "node": None,
        "l3": None,
        "class": None,
        "max_mhz": None,
        "online": False,
    }
    assert found["cpus"][1] == {
        "id": 2,
        "core": 2,
        "siblings": [2, 3],
        "socket": 0,
        "node": 0,
        "l3": 0,
        "class": "uniform",
        "max_mhz": 4200,
        "online": True,
    }
    assert [cpu["id"] for cpu in found.pop("cpus")] == [0, 2, 3]
    assert found == {
        "online": [0, 2, 3],
        "sockets": 1,
        "cores": 2,
        "l3": [{"id": 0, "cpus": [0, 2, 3], "kib": 32768}],
        "nodes": [{"id": 0, "cpus": [0, 2, 3], "memory_kib": 2048, "distances": [10]}],
        "isolated": [2, 3],
        "nohz_full": [],
    }


def test_it_is_json_and_a_fraction_stays() -> None:
    tree = host()
    tree.put(f"{CPU}/cpu0/cpufreq/cpuinfo_max_freq", "4950195\n")
    found = json.loads(json.dumps(cpus_json(observe_cpus(tree))))
    assert found["cpus"][0]["max_mhz"] == 4950.195
