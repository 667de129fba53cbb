"""Fast and small cores, as different machines tell them."""

from __future__ import annotations

from collections import Counter

from tests.unit.daemon.observe.recorded import tree

from hostlerd.model.cpus import CoreClass
from hostlerd.observe.cpus import observe_cpus

CPU = "/sys/devices/system/cpu"
PERFORMANCE, EFFICIENCY = CoreClass.PERFORMANCE, CoreClass.EFFICIENCY
LOW_POWER, UNIFORM = CoreClass.LOW_POWER, CoreClass.UNIFORM


def classes(
    values: dict[str, list[int]],
    *,
    l3: dict[int, str] | None = None,
    l2: list[str] | None = None,
    **more: str,
) -> list[CoreClass]:
    """`values`: file below a CPU's folder to its value for each CPU."""
    files = dict(more)
    for name, column in values.items():
        for cpu, value in enumerate(column):
            files[f"{CPU}/cpu{cpu}/topology/"] = ""
            files[f"{CPU}/cpu{cpu}/{name}"] = f"{value}\n"
    for level, sets in ((3, l3 or {}), (2, dict(enumerate(l2 or [])))):
        for cpu, members in sets.items():
            files[f"{CPU}/cpu{cpu}/cache/index{level}/level"] = f"{level}\n"
            files[f"{CPU}/cpu{cpu}/cache/index{level}/shared_cpu_list"] = f"{members}\n"
    return [cpu.core_class for cpu in observe_cpus(tree(files)).cpus]


MAX, BASE = "cpufreq/cpuinfo_max_freq", "cpufreq/base_frequency"
PMU = {"/sys/devices/cpu_core/cpus": "0-3\n", "/sys/devices/cpu_atom/cpus": "4-7\n"}


def test_intels_own_lists_come_first() -> None:
    assert classes({MAX: [5000] * 8}, **PMU) == [PERFORMANCE] * 4 + [EFFICIENCY] * 4


def test_atoms_outside_the_l3_are_low_power() -> None:
    """Meteor Lake: the two LP-E cores are on another die."""
    found = classes({MAX: [4800] * 4 + [3800] * 2 + [2500] * 2}, l3=dict.fromkeys(range(6), "0-5"), **PMU)
    assert found == [PERFORMANCE] * 4 + [EFFICIENCY] * 2 + [LOW_POWER] * 2


def test_much_slower_atoms_are_low_power_where_no_l3_is_told() -> None:
    found = classes({MAX: [4800] * 4 + [3800] * 2 + [2500] * 2}, **PMU)
    assert Counter(found) == {PERFORMANCE: 4, EFFICIENCY: 2, LOW_POWER: 2}


def test_the_low_power_list_of_newer_kernels() -> None:
    more = {**PMU, "/sys/devices/cpu_atom/cpus": "4-5\n", "/sys/devices/cpu_lowpower/cpus": "6-7\n"}
    assert classes({MAX: [5000] * 8}, **more) == [PERFORMANCE] * 4 + [EFFICIENCY] * 2 + [LOW_POWER] * 2


def test_one_kind_that_is_left_is_uniform() -> None:
    more = {"/sys/devices/cpu_core/cpus": "0-3\n", "/sys/devices/cpu_atom/cpus": "\n"}
    assert classes({MAX: [5000] * 4}, **more) == [UNIFORM] * 4


def test_capacities_of_arm() -> None:
    """DGX Spark: X925 at 997 to 1024, A725 at 718 to 731."""
    assert classes({"cpu_capacity": [718, 731, 997, 1017, 1024]}) == [EFFICIENCY] * 2 + [PERFORMANCE] * 3
    assert classes({"cpu_capacity": [160, 498, 1024]}) == [EFFICIENCY] * 2 + [PERFORMANCE]


def test_favoured_cores_are_no_class() -> None:
    assert set(classes({MAX: [5200, 5000, 5100, 5600]})) == {UNIFORM}


def test_the_two_dies_of_an_x3d_are_one_class() -> None:
    assert set(classes({MAX: [5250] * 4 + [5700] * 4})) == {UNIFORM}


def test_compact_cores_of_amd_are_efficiency() -> None:
    assert classes({MAX: [5100] * 4 + [3300] * 8}) == [PERFORMANCE] * 4 + [EFFICIENCY] * 8


def test_three_tiers_of_clocks() -> None:
    assert classes({MAX: [4800, 3800, 2500]}) == [PERFORMANCE, EFFICIENCY, LOW_POWER]


def test_a_missing_clock_says_nothing() -> None:
    assert set(classes({MAX: [4800, 3800, 0]})) == {UNIFORM}


def test_base_clocks_count_where_level_2_is_shared_otherwise() -> None:
    """Arrow Lake without its PMUs: 5.2 and 4.6 GHz at most; Speed Select differs in the base clock alone."""
    clocks = {MAX: [5200] * 4 + [4600] * 4, BASE: [4200] * 4 + [3600] * 4}
    own, fours = [str(cpu) for cpu in range(8)], ["0", "1", "2", "3", *["4-7"] * 4]
    assert classes(clocks, l2=fours) == [PERFORMANCE] * 4 + [EFFICIENCY] * 4
    assert set(classes(clocks, l2=own)) == {UNIFORM}
