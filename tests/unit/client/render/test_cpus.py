"""The map of the topology, from a laptop to two large sockets."""

from typing import Any

import pytest

from hostler.render import cpus
from hostler.render.text import Style, columns_of


def make(
    sockets: int, caches: int, cores: int, threads: int, *, isolated: tuple[int, ...] = (), **more: Any
) -> dict[str, Any]:
    """`caches` a socket, `cores` a cache; siblings are numbered after all cores, as Linux does on x86."""
    total = sockets * caches * cores
    found = [
        {
            "id": core + thread * total,
            "core": core,
            "siblings": [core + number * total for number in range(threads)],
            "socket": core // (caches * cores),
            "node": core // (caches * cores),
            "l3": core // cores * cores,
            "class": "uniform",
            "max_mhz": 3700,
            "online": True,
        }
        for thread in range(threads)
        for core in range(total)
    ]
    nodes = [
        {
            "id": node,
            "cpus": [cpu["id"] for cpu in found if cpu["node"] == node],
            "memory_kib": 65536000,
            "distances": [10 if node == other else 32 for other in range(sockets)],
        }
        for node in range(sockets)
    ]
    return {
        "online": [cpu["id"] for cpu in found],
        "sockets": sockets,
        "cores": total,
        "cpus": found,
        "l3": [{"id": first, "cpus": [], "kib": 32768} for first in range(0, total, cores)],
        "nodes": nodes,
        "isolated": list(isolated),
        "nohz_full": [],
        **more,
    }


def test_a_small_host() -> None:
    assert cpus.render(make(1, 1, 4, 2)).splitlines() == [
        "8 CPUs on line, 4 cores, 1 socket, 1 level-3 cache, 1 NUMA node, up to 3.70 GHz",
        "",
        "socket 0",
        "  L3 32 MiB  0+4 1+5 2+6 3+7",
        "",
        "memory 62.5 GiB",
    ]


def test_isolated_cpus_are_marked() -> None:
    text = cpus.render(make(1, 1, 4, 2, isolated=(1, 5, 2), nohz_full=[1]))
    assert "0+4   1^+5^ 2^+6  3+7" in text
    assert "hands off: 1-2,5" in text
    assert "while one task runs: 1" in text
    assert "\033[33m1^+5^\033[0m" in cpus.render(make(1, 1, 4, 2, isolated=(1, 5)), Style(color=True))


def test_dedicated_cpus_are_marked_with_whom_they_are_for() -> None:
    isolation = {"cpus": [2, 6], "for": ["win11"]}
    text = cpus.render(make(1, 1, 4, 2, isolated=(1, 2)), isolation=isolation)
    assert "0+4   1^+5  2*+6* 3+7" in text
    assert "* dedicated to win11: 2,6\n^ isolated" in text


def test_a_large_host() -> None:
    lines = cpus.render(make(2, 12, 8, 2)).splitlines()
    assert lines[0].startswith("384 CPUs on line, 192 cores, 2 sockets, 24 level-3 caches, 2 NUMA nodes")
    assert len([line for line in lines if "L3 32 MiB" in line]) == 24
    assert "  L3 32 MiB  96+288  97+289  98+290  99+291  100+292 101+293 102+294 103+295" in lines
    assert "node 1: CPUs 96-191,288-383, 62.5 GiB, distances 32 10" in lines


@pytest.mark.parametrize("width", [40, 60, 80, 200])
@pytest.mark.parametrize("shape", [(1, 1, 4, 2), (2, 12, 8, 2), (2, 1, 96, 2)])
def test_the_map_keeps_to_the_terminal_and_shows_every_cpu(shape: tuple[int, ...], width: int) -> None:
    topology = make(*shape)
    lines = cpus.render(topology, Style(width=width)).splitlines()
    rows = [line for line in lines if "+" in line]
    assert all(columns_of(line) <= width for line in rows)
    shown = {
        int(cpu) for row in rows for cell in row.replace("L3 32 MiB", "").split() for cpu in cell.split("+")
    }
    assert shown == set(topology["online"])


def test_kinds_of_cpus_have_a_line_of_their_own() -> None:
    topology = make(1, 1, 8, 1)
    for cpu in topology["cpus"]:
        fast = cpu["id"] < 4
        cpu.update({"class": "performance" if fast else "efficiency", "max_mhz": 5400 if fast else 4100})
        cpu["core"] = cpu["id"] // 2 * 2 if fast else cpu["id"]
    text = cpus.render(topology)
    assert "  L3 32 MiB performance 5.40 GHz  0+1 2+3\n" in text
    assert "  L3 32 MiB efficiency 4.10 GHz   4   5   6   7\n" in text


def test_off_line_cpus_and_a_host_without_caches() -> None:
    topology = make(1, 1, 4, 1, l3=[])
    for cpu in topology["cpus"]:
        cpu["l3"] = None
    topology["cpus"][3] = dict.fromkeys(topology["cpus"][3]) | {"id": 3, "online": False}
    text = cpus.render(topology)
    assert "no level-3 cache known" in text
    assert "  no L3  0 1 2\n" in text
    assert text.endswith("off line: 3")


def test_nodes_within_a_socket_are_named() -> None:
    topology = make(1, 2, 2, 1)
    topology["nodes"] *= 2
    for cpu in topology["cpus"]:
        cpu["node"] = cpu["id"] // 2
    assert "  L3 32 MiB node 1  2 3\n" in cpus.render(topology)


def test_an_answer_with_little_in_it() -> None:
    assert cpus.render({}).startswith("0 CPUs on line")
