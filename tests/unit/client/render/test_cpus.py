"""The map of the topology, from a laptop to two large sockets.

`python -m tests.unit.client.render.test_cpus` writes the maps in snapshots/ anew; look at what it changed.
"""

import re
from pathlib import Path
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


SNAPSHOTS = Path(__file__).parent / "snapshots"
WIDTHS = (40, 80, 200)


def owned(
    topology: dict[str, Any], *domains: tuple[str, list[int]], reserved: tuple[int, ...] = ()
) -> dict[str, Any]:
    """Each domain with its vCPUs on these CPUs; the rest is the host's."""
    owners = {
        cpu: {"cpu": cpu, "kind": "vcpu", "domain": name, "vcpu": vcpu}
        for name, cpus in domains
        for vcpu, cpu in enumerate(cpus)
    }
    for cpu in topology["cpus"]:
        kind = "host" if cpu["online"] else "offline"
        kind = (
            "reserved" if cpu["id"] in reserved else "isolated" if cpu["id"] in topology["isolated"] else kind
        )
        nobody = {"cpu": cpu["id"], "kind": kind, "domain": None, "vcpu": None}
        owners.setdefault(cpu["id"], nobody)
    hosts = [cpu for cpu, owner in owners.items() if owner["domain"] is None]
    return {**topology, "owners": [owners[cpu] for cpu in sorted(owners)], "housekeeping": hosts}


def changed(topology: dict[str, Any], cpu: int, **more: Any) -> None:
    next(owner for owner in topology["owners"] if owner["cpu"] == cpu).update(more)


def small() -> dict[str, Any]:
    topology = owned(make(1, 1, 4, 2), ("win11", [1, 5, 2]), ("work", [3]), reserved=(0, 4))
    changed(topology, 6, kind="idle", domain="win11")
    changed(topology, 3, kind="pinned")
    changed(topology, 7, kind="emulator", domain="work")
    return topology


def hybrid() -> dict[str, Any]:
    topology = make(1, 1, 24, 1)
    for cpu in topology["cpus"]:
        fast = cpu["id"] < 16
        cpu.update({"class": "performance" if fast else "efficiency", "max_mhz": 5400 if fast else 4100})
        cpu["core"] = cpu["id"] // 2 * 2 if fast else cpu["id"]
    topology["cpus"][23] = dict.fromkeys(topology["cpus"][23]) | {"id": 23, "online": False}
    return owned(topology | {"isolated": [21, 22]}, ("games on windows", list(range(4, 16))))


def x3d() -> dict[str, Any]:
    topology = make(1, 2, 8, 2)
    topology["l3"][0]["kib"] = 98304
    for cpu in topology["cpus"]:
        cpu["max_mhz"] = 5250 if cpu["l3"] == 0 else 5700
    game = [cpu for core in range(1, 8) for cpu in (core, core + 16)]
    return owned(topology, ("game", game), ("build", [8, 24, 9, 25]))


def epyc() -> dict[str, Any]:
    pairs = [
        [cpu for core in range(first, first + 8) for cpu in (core, core + 192)] for first in range(8, 192, 8)
    ]
    return owned(make(2, 12, 8, 2), *((f"guest{n:02}", cpus) for n, cpus in enumerate(pairs[:20])))


HOSTS = {"small": small, "hybrid": hybrid, "x3d": x3d, "epyc": epyc}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("host", HOSTS)
def test_a_map_looks_as_it_did(host: str, width: int) -> None:
    assert (
        cpus.render(HOSTS[host](), Style(width=width)) + "\n"
        == (SNAPSHOTS / f"{host}-{width}.txt").read_text()
    )


def cores_of(text: str) -> list[list[int]]:
    """The cores of a map: threads have no space between them."""
    part = text.partition("socket 0")[2].partition("\n\nnode")[0].partition("\nmemory")[0]
    part = re.sub(r"\n +\+", "+", part)
    part = re.sub(r"L3 \d+, [0-9.]+ MiB|, node \d+|socket \d+", "", part)
    return [
        [int(re.match(r"\d+", thread)[0]) for thread in cell.split("+")]  # type: ignore[index]
        for cell in part.split()
        if cell[0].isdecimal()
    ]


@pytest.mark.parametrize("width", [30, 40, 60, 80, 120, 200, None])
@pytest.mark.parametrize("shape", [(1, 1, 4, 2), (2, 12, 8, 2), (2, 1, 96, 2), (1, 1, 8, 8), (4, 16, 8, 2)])
def test_a_map_keeps_to_the_terminal_and_shows_every_core_once(
    shape: tuple[int, ...], width: int | None
) -> None:
    plain = make(*shape)
    total, threads = shape[0] * shape[1] * shape[2], shape[3]
    some = [(f"d{n}", [n, n + total] if threads > 1 else [n]) for n in range(1, total, 3)]
    for topology in (plain, owned(plain, *some)):
        text = cpus.render(topology, Style(width=width))
        if width is not None:
            assert max(map(columns_of, text.splitlines())) <= width
        wanted = [[core + number * total for number in range(threads)] for core in range(total)]
        assert sorted(cores_of(text)) == wanted


def test_a_small_host() -> None:
    assert cpus.render(make(1, 1, 4, 2)).splitlines() == [
        "8 CPUs on line, 4 cores, 1 socket, 1 level-3 cache, 1 NUMA node, up to 3.70 GHz",
        "",
        "socket 0",
        "  L3 0, 32 MiB  0+4 1+5 2+6 3+7",
        "",
        "memory 62.5 GiB",
    ]


def test_isolated_cpus_are_marked() -> None:
    text = cpus.render(make(1, 1, 4, 2, isolated=(1, 5, 2), nohz_full=[1]))
    assert "0+4   1^+5^ 2^+6  3+7" in text
    assert "hands off: 1-2,5" in text
    assert "while one task runs: 1" in text
    assert "\033[33m1^\033[0m+\033[33m5^\033[0m" in cpus.render(
        make(1, 1, 4, 2, isolated=(1, 5)), Style(color=True)
    )


def test_each_domain_has_a_letter_and_a_colour() -> None:
    topology = owned(make(1, 1, 4, 2), ("work", [1, 5]), ("game", [2, 6]), reserved=(0,))
    text = cpus.render(topology)
    assert "0*+4      1=B0+5=B1 2=A0+6=A1 3+7" in text
    assert "A  game: 2 vCPUs on 2,6\nB  work: 2 vCPUs on 1,5\n" in text
    assert "*  the host's, never given away (housekeeping.cpus): 0" in text
    painted = cpus.render(topology, Style(color=True))
    assert "\033[32m1=B0\033[0m+\033[32m5=B1\033[0m" in painted
    assert "\033[36m2=A0\033[0m" in painted
    assert "\033[36mA  game: 2 vCPUs on 2,6\033[0m" in painted
    assert re.sub("\033\\[[0-9]+m", "", painted) == text


def test_who_is_asked_about_comes_last_so_that_letters_stay() -> None:
    topology = owned(make(1, 1, 4, 2), ("b", [1, 5]), ("a", [2, 6]))
    assert "1=B0" in cpus.render(topology)
    assert "1=A0" in cpus.render(topology | {"what_if": {"domain": "a"}})


def test_many_domains_and_a_cpu_that_three_have() -> None:
    topology = owned(make(1, 1, 32, 1), *((f"d{n:02}", [n]) for n in range(28)))
    for name in ("d30", "d31"):
        topology["owners"].append({"cpu": 0, "kind": "pinned", "domain": name, "vcpu": None})
    text = cpus.render(topology)
    assert "  0=A0&AC!&.." in text
    assert "26=AA0" in text
    assert "AA  d26: 1 vCPU on 26\n" in text


def test_a_name_steers_no_terminal() -> None:
    text = cpus.render(owned(make(1, 1, 4, 1), ("a\033[2J\nb", [1])), Style(width=40))
    assert "\033" not in text
    assert "a?[2J b" in text


def test_a_large_host() -> None:
    lines = cpus.render(make(2, 12, 8, 2)).splitlines()
    assert lines[0].startswith("384 CPUs on line, 192 cores, 2 sockets, 24 level-3 caches, 2 NUMA nodes")
    assert len([line for line in lines if " 32 MiB" in line]) == 24
    assert "  L3 96, 32 MiB   96+288  97+289  98+290  99+291  100+292 101+293 102+294 103+295" in lines
    assert "node 1: CPUs 96-191,288-383, 62.5 GiB, distances 32 10" in lines


def test_kinds_of_cpus_have_a_line_of_their_own() -> None:
    topology = make(1, 1, 8, 1)
    for cpu in topology["cpus"]:
        fast = cpu["id"] < 4
        cpu.update({"class": "performance" if fast else "efficiency", "max_mhz": 5400 if fast else 4100})
        cpu["core"] = cpu["id"] // 2 * 2 if fast else cpu["id"]
    text = cpus.render(topology)
    assert "  L3 0, 32 MiB, performance, 5.40 GHz  0+1 2+3\n" in text
    assert "  L3 0, 32 MiB, efficiency, 4.10 GHz   4   5   6   7\n" in text


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
    assert "  L3 2, 32 MiB, node 1  2 3\n" in cpus.render(topology)


def test_an_answer_with_little_in_it() -> None:
    assert cpus.render({}).startswith("0 CPUs on line")


if __name__ == "__main__":
    for name, build in HOSTS.items():
        for columns in WIDTHS:
            (SNAPSHOTS / f"{name}-{columns}.txt").write_text(
                cpus.render(build(), Style(width=columns)) + "\n"
            )
