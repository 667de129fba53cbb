"""The pools of the simulated kernel, held to mm/hugetlb.c."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostlerd.host.simulated.guests import domain
from hostlerd.host.simulated.host import SimulatedHost
from hostlerd.observe.domain_xml import parse_domain

FOLDER = "/sys/devices/system/node/node{node}/hugepages/hugepages-{size}kB"
GLOBAL = "/sys/kernel/mm/hugepages/hugepages-2048kB"


def nr(node: int = 0, size: int = 2048) -> str:
    return FOLDER.format(node=node, size=size) + "/nr_hugepages"


def counts(host: SimulatedHost, node: int = 0, size: int = 2048) -> tuple[int, ...]:
    folder = FOLDER.format(node=node, size=size)
    return tuple(int(host.files.read(f"{folder}/{name}_hugepages")) for name in ("nr", "free", "surplus"))


@pytest.fixture
def host() -> SimulatedHost:
    return SimulatedHost("server")


def test_fewer_than_asked_for_without_a_word(host: SimulatedHost) -> None:
    host.kernel.write(nr(), "100000000")
    assert counts(host) == (32768, 32768, 0)  # half of the node's 128 GiB
    assert counts(host, 1) == (0, 0, 0)
    host.kernel.write(nr(0, 1 << 20), "1")
    assert counts(host, 0, 1 << 20) == (0, 0, 0)
    assert host.files.read(f"{GLOBAL}/nr_hugepages") == "32768\n"


def test_what_is_in_use_becomes_surplus_and_goes_when_it_is_let_go_of(host: SimulatedHost) -> None:
    host.kernel.write(nr(), "100")
    guest = parse_domain(domain("a", memory_mib=120, hugepages=[0]))
    taken = host.kernel.hugepages.take(guest, 0)
    assert counts(host) == (100, 40, 0)
    host.kernel.write(nr(), "10")
    assert counts(host) == (60, 0, 50)
    host.kernel.write(nr(), "20")
    assert counts(host) == (60, 0, 40)
    host.kernel.hugepages.let_go(taken)
    assert counts(host) == (20, 20, 0)


def test_reserved_pages_are_kept_free(host: SimulatedHost) -> None:
    host.kernel.write(nr(), "100")
    host.kernel.hugepages.reserve(2048, 30)
    host.kernel.write(nr(), "10")
    assert counts(host) == (30, 30, 20)
    host.kernel.write(nr(), "30")
    host.kernel.write(nr(1), "50")
    host.kernel.write(nr(), "0")
    assert counts(host) == (0, 0, 0)  # those of the other node will do


@pytest.mark.parametrize("text", ["", "x", "-1"])
def test_no_number(host: SimulatedHost, text: str) -> None:
    if text:
        with pytest.raises(OSError, match="Invalid argument"):
            host.kernel.write(nr(), text)
    else:
        host.kernel.write(nr(), text)
    assert counts(host) == (0, 0, 0)


def test_memory_in_pieces_until_something_is_done(host: SimulatedHost) -> None:
    for fault, file in (("fragmented", "compact_memory"), ("cached", "drop_caches")):
        host.kernel.faults.cause(fault, "0", "10")
        host.kernel.write(nr(), "50")
        assert counts(host) == (10, 10, 0)
        host.kernel.write(nr(), "4")
        host.kernel.write(nr(), "50")
        assert counts(host) == (10, 10, 0)
        host.kernel.write(f"/proc/sys/vm/{file}", "1")
        host.kernel.write(nr(), "50")
        assert counts(host) == (50, 50, 0)
        host.kernel.write(nr(), "0")


def test_qemu_takes_from_the_nodes_it_is_bound_to(host: SimulatedHost) -> None:
    host.kernel.write(nr(0), "10")
    host.kernel.write(nr(1), "50")
    bound = parse_domain(domain("a", memory_mib=100, hugepages=[0], nodes="0"))
    with pytest.raises(OSError, match="Cannot allocate memory"):
        host.kernel.hugepages.take(bound, 0)
    assert (counts(host, 0), counts(host, 1)) == ((10, 10, 0), (50, 50, 0))
    anywhere = parse_domain(domain("a", memory_mib=100, hugepages=[0]))
    assert host.kernel.hugepages.take(anywhere, 0) == [[0, 2048, 10], [1, 2048, 40]]


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["write", "take", "let go"]), st.integers(0, 200)), max_size=20))
def test_the_numbers_always_agree(actions: list[tuple[str, int]]) -> None:
    host, taken = SimulatedHost("desktop"), 0
    for action, number in actions:
        total, free, surplus = counts(host)
        pages = host.kernel.hugepages
        match action:
            case "write":
                host.kernel.write(nr(), str(number))
                total, _, surplus = counts(host)
                assert total - surplus == number
            case "take":
                pages._put(0, 2048, total, free - min(free, number), surplus)
                taken += min(free, number)
            case _:
                pages.let_go([[0, 2048, min(taken, number)]])
                taken -= min(taken, number)
        total, free, surplus = counts(host)
        assert total == free + taken
        assert 0 <= surplus <= total
