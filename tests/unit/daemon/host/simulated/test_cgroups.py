"""AllowedCPUs through systemd, and what the kernel makes of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostler.errors import HostFailed
from hostlerd.host.simulated.cgroups import ROOT, Cgroups
from hostlerd.host.simulated.host import SimulatedHost
from hostlerd.host.simulated.tree import Tree
from hostlerd.model.cpuset import format_cpu_list, parse_cpu_list

ALL = frozenset(range(16))


@pytest.fixture
def host() -> SimulatedHost:
    return SimulatedHost("desktop")


def effective(host: SimulatedHost, unit: str) -> str:
    return host.files.read(f"{ROOT}/{unit}/cpuset.cpus.effective").strip()


async def test_the_controller_comes_with_the_first_property_and_goes_with_the_last(
    host: SimulatedHost,
) -> None:
    before = host.files.flat(ROOT)
    assert not host.files.exists(f"{ROOT}/system.slice/cpuset.cpus")
    await host.units.set_allowed_cpus("system.slice", frozenset({0, 1}))
    assert effective(host, "system.slice") == "0-1"
    assert effective(host, "user.slice") == "0-15"
    assert host.files.read(f"{ROOT}/user.slice/cpuset.cpus") == "\n"
    assert await host.units.allowed_cpus(["system.slice", "user.slice", "none.slice"]) == {
        "system.slice": frozenset({0, 1}),
        "user.slice": frozenset(),
    }
    await host.units.set_allowed_cpus("system.slice", frozenset())
    assert host.files.flat(ROOT) == before


async def test_clearing_the_property_leaves_the_old_mask_on_while_the_controller_stays(
    host: SimulatedHost,
) -> None:
    await host.units.set_allowed_cpus("system.slice", frozenset({0, 1}))
    await host.units.set_allowed_cpus("user.slice", frozenset({0, 1}))
    await host.units.set_allowed_cpus("user.slice", frozenset())
    assert (await host.units.allowed_cpus(["user.slice"]))["user.slice"] == frozenset()
    assert effective(host, "user.slice") == "0-1"
    host.units.daemon_reload()
    assert effective(host, "user.slice") == "0-1"
    await host.units.set_allowed_cpus("user.slice", ALL)
    assert effective(host, "user.slice") == "0-15"


async def test_an_empty_slice_can_be_cleared(host: SimulatedHost) -> None:
    await host.units.set_allowed_cpus("system.slice", frozenset({0, 1}))
    await host.units.set_allowed_cpus("machine.slice", frozenset({0, 1}))
    await host.units.set_allowed_cpus("machine.slice", frozenset())
    assert effective(host, "machine.slice") == "0-15"


async def test_a_reload_keeps_what_is_set(host: SimulatedHost) -> None:
    await host.units.set_allowed_cpus("user.slice", frozenset({0, 1}))
    host.kernel.write(f"{ROOT}/user.slice/cpuset.cpus", "4-5\n")
    assert effective(host, "user.slice") == "4-5"
    host.units.daemon_reload()
    assert effective(host, "user.slice") == "0-1"


async def test_a_delegated_scope_needs_the_controller_as_long_as_it_lives(host: SimulatedHost) -> None:
    before = host.files.flat(ROOT)
    host.units.start("machine-a.scope", "/machine.slice/machine-a.scope", delegate=True)
    assert effective(host, "machine.slice/machine-a.scope") == "0-15"
    await host.units.set_allowed_cpus("machine.slice", frozenset(range(8)))
    assert effective(host, "machine.slice/machine-a.scope") == "0-7"
    host.units.stop("machine-a.scope")
    await host.units.set_allowed_cpus("machine.slice", frozenset())
    assert host.files.flat(ROOT) == before


async def test_a_scope_without_a_need_has_no_files_of_its_own(host: SimulatedHost) -> None:
    await host.units.set_allowed_cpus("machine.slice", frozenset(range(8)))
    host.units.start("docker-1.scope", "/machine.slice/docker-1.scope")
    assert not host.files.exists(f"{ROOT}/machine.slice/docker-1.scope/cpuset.cpus")
    await host.units.set_allowed_cpus("docker-1.scope", frozenset({1}))
    assert effective(host, "machine.slice/docker-1.scope") == "1"


async def test_a_list_with_a_cpu_that_the_host_lacks_is_not_taken(host: SimulatedHost) -> None:
    await host.units.set_allowed_cpus("user.slice", frozenset({0, 1}))
    await host.units.set_allowed_cpus("user.slice", frozenset({0, 99}))
    assert effective(host, "user.slice") == "0-1"
    assert (await host.units.allowed_cpus(["user.slice"]))["user.slice"] == frozenset({0, 99})


async def test_a_slice_that_is_not_there_yet_can_be_set(host: SimulatedHost) -> None:
    await host.units.set_allowed_cpus("games.slice", frozenset({1}))
    assert await host.units.allowed_cpus(["games.slice"]) == {"games.slice": frozenset({1})}
    host.units.start("a.service", "/games.slice/a.service")
    assert effective(host, "games.slice") == "1"


async def test_faults(host: SimulatedHost) -> None:
    host.kernel.faults.cause("unit-refuses", "user.slice", "Interactive authentication required.")
    with pytest.raises(HostFailed, match="Interactive"):
        await host.units.set_allowed_cpus("user.slice", frozenset({0}))
    host.kernel.faults.cause("unit-ignores", "init.scope")
    await host.units.set_allowed_cpus("system.slice", frozenset({0}))
    await host.units.set_allowed_cpus("init.scope", frozenset({0}))
    assert effective(host, "init.scope") == "0-15"
    with pytest.raises(HostFailed, match=r"Unit none.scope not found"):
        await host.units.set_allowed_cpus("none.scope", frozenset({0}))


async def test_version_1_has_no_cpuset_for_systemd() -> None:
    host = SimulatedHost("cgroup-v1")
    assert not host.files.exists(f"{ROOT}/cgroup.controllers")
    await host.units.set_allowed_cpus("user.slice", frozenset({0}))
    assert (await host.units.allowed_cpus(["user.slice"]))["user.slice"] == frozenset({0})
    assert host.files.read(f"{ROOT}/cpuset/cpuset.cpus") == "0-15\n"
    assert not host.files.exists(f"{ROOT}/user.slice")


SETS = st.frozensets(st.integers(0, 15))


@given(st.lists(st.tuples(st.sampled_from(["/a", "/a/b", "/a/b/c", "/d"]), SETS), max_size=12))
def test_effective_is_never_empty_and_never_more_than_above(writes: list[tuple[str, frozenset[int]]]) -> None:
    groups = Cgroups(Tree(), ALL)
    groups.boot()
    asked = dict[str, frozenset[int]]()
    for path in ("/a/b/c", "/d"):
        groups.make(path)
    groups.control("/a/b")
    for path, cpus in writes:
        groups.ask(path, cpus)
        asked[path] = cpus
    for path in ("/a", "/a/b", "/a/b/c", "/d"):
        here, above = groups.effective(path), groups.effective(path.rpartition("/")[0])
        assert here
        assert here <= above
        assert here == ((asked.get(path, frozenset()) & above) or above)


def test_a_populated_group_is_not_emptied() -> None:
    groups = Cgroups(Tree(), ALL)
    groups.boot()
    groups.make("/a/b", populated=True)
    groups.make("/a/c")
    groups.control("/a")
    for path in ("/a", "/a/b", "/a/c"):
        groups.ask(path, frozenset({1}))
    groups.ask("/a/c", frozenset())
    for path in ("/a", "/a/b"):
        with pytest.raises(OSError, match="No space left"):
            groups.ask(path, frozenset())
    groups.remove("/a/b")
    groups.ask("/a", frozenset())


@given(SETS)
def test_lists_are_canonical(cpus: frozenset[int]) -> None:
    groups = Cgroups(Tree(), ALL)
    groups.boot()
    groups.make("/a")
    groups.control("")
    groups.write("/a", "cpuset.cpus", ",".join(str(cpu) for cpu in sorted(cpus)) + "\n")
    assert groups.tree.read(f"{ROOT}/a/cpuset.cpus") == format_cpu_list(cpus) + "\n"
    assert parse_cpu_list(groups.tree.read(f"{ROOT}/a/cpuset.cpus")) == cpus


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("cpuset.cpus", "x"),
        ("cpuset.cpus", "99"),
        ("cpuset.cpus.partition", "isolation"),
        ("cpuset.mems", "0"),
    ],
)
def test_what_is_refused(name: str, text: str) -> None:
    groups = Cgroups(Tree(), ALL)
    groups.boot()
    groups.make("/a")
    groups.control("")
    with pytest.raises(OSError):  # EINVAL or EACCES
        groups.write("/a", name, text)
    groups.write("/a", "cpuset.cpus.partition", "member")
