"""Where the kernel lets a domain's threads run."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.daemon.decide.cards import GPU, WIN11, domain, observed
from tests.unit.daemon.decide.pinning.virt import run

from hostlerd.host.files import RootFiles
from hostlerd.model.ledger import Ledger, PinRecord
from hostlerd.observe.threads import affinities, affinity_of, observe_affinity

THREADS = {
    100: ("qemu-system-x86", "0-1"),
    101: ("call_rcu", "0-7"),
    102: ("CPU 0/KVM", "2"),
    103: ("CPU 11/TCG", "3,7"),
    104: ("IO iothread2", "0"),
    105: ("CPU x/KVM", "0"),
    106: ("CPU 1/KVM", "nonsense"),
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for tid, (comm, allowed) in THREADS.items():
        folder = tmp_path / f"proc/100/task/{tid}"
        folder.mkdir(parents=True)
        (folder / "comm").write_text(comm + "\n")
        (folder / "status").write_text(
            f"Name:\t{comm}\nCpus_allowed:\tff\nCpus_allowed_list:\t{allowed}\nMems_allowed:\t1\n"
        )
    pids = tmp_path / "run/libvirt/qemu"
    pids.mkdir(parents=True)
    (pids / "win11.pid").write_text("100")
    return tmp_path


def test_threads_are_known_by_their_names(root: Path) -> None:
    assert affinities(RootFiles(str(root)), "win11") == {
        ("emulator", 0): {0, 1},
        ("vcpu", 0): {2},
        ("vcpu", 11): {3, 7},
        ("iothread", 2): {0},
    }


def test_one_of_them(root: Path) -> None:
    files = RootFiles(str(root))
    assert affinity_of(files, "win11", ("vcpu", 11)) == {3, 7}
    assert affinity_of(files, "win11", ("emulator", 0)) == {0, 1}
    assert affinity_of(files, "win11", ("vcpu", 1)) is None
    assert affinity_of(files, "win11", ("vcpu", 2)) is None
    assert affinity_of(files, "other", ("emulator", 0)) is None


def test_what_is_not_there_is_not_known(root: Path) -> None:
    files = RootFiles(str(root))
    assert affinities(files, "other") == {}
    (root / "run/libvirt/qemu/win11.pid").write_text("4711")
    assert affinities(files, "win11") == {}
    (root / "run/libvirt/qemu/win11.pid").write_text("")
    assert affinities(files, "win11") == {}


@pytest.mark.parametrize(("kernel", "looked"), [((6, 1), True), ((6, 2), False), ((0, 0), False)])
def test_only_kernels_that_forget_and_domains_that_we_pinned_are_looked_at(
    root: Path, kernel: tuple[int, int], looked: bool
) -> None:
    running = (run(domain(WIN11, GPU)),)
    ledger = Ledger(pins={WIN11: PinRecord(uuid=WIN11)})
    state = observed(running=running, ledger=ledger, kernel=kernel)
    found = observe_affinity(RootFiles(str(root)), state, running)
    assert found == ({WIN11: {0: {2}, 11: {3, 7}}} if looked else {})
    unpinned = observed(running=running, kernel=kernel)
    assert observe_affinity(RootFiles(str(root)), unpinned, running) == {}
