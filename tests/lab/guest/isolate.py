"""Programs on CPUs of their own under a real systemd: where the kernel lets them run, and what the host may use.

The command line as root and as other users, the bus by dbus-next; the daemon is killed, systemd reloaded.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

from . import asked, cpus, service, snapshot
from .domains import Domain
from .main import PAIR
from .programs import Done, holds, need, run
from .report import Report, scenario

BACK = "slices as they were"
RULES = "/etc/polkit-1/rules.d/10-lab.rules"
MAY = """polkit.addRule(function(action, subject) {
    if (action.id == "org.hostler1.claim-cpus") { return polkit.Result.YES; }
});
"""
CLIENT = """
import asyncio, os, sys
from dbus_next import BusType, Message, Variant
from dbus_next.aio import MessageBus

async def main():
    bus = await MessageBus(bus_type=BusType.SYSTEM, negotiate_unix_fd=True).connect()
    answer = await bus.call(Message(
        destination="org.hostler1", path="/org/hostler1", interface="org.hostler1.Manager", member="Isolate",
        signature="ua{sv}", body=[2, {"same_l3": Variant("b", True), "name": Variant("s", "by-bus")}]))
    if answer.error_name:
        print(answer.error_name, answer.body, flush=True)
        return
    print(answer.signature, answer.body[1], len(answer.unix_fds), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    os.close(answer.unix_fds[0])
    print("closed", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)

asyncio.run(main())
"""
LIMIT = 60.0


def _host() -> cpus.Set:
    """What the host's own slices may use, all together."""
    return frozenset().union(*(cpus.effective(unit) for unit in cpus.HOST_SLICES))


def _interrupts() -> cpus.Set:
    """Where the kernel puts interrupts that are new."""
    with open("/proc/irq/default_smp_affinity", encoding="ascii") as file:
        mask = int(file.read().strip().replace(",", ""), 16)
    return frozenset(cpu for cpu in range(mask.bit_length()) if mask >> cpu & 1)


def _cgroup(pid: int) -> str:
    with open(f"/proc/{pid}/cgroup", encoding="ascii") as file:
        return file.read().strip().removeprefix("0::")


def _has(pid: int) -> cpus.Set:
    """Where it may run once it is in a scope of ours; empty before."""
    return cpus.allowed(str(pid)) if "hostler-claim-" in _cgroup(pid) else frozenset()


@contextlib.contextmanager
def _isolated(*words: str) -> Iterator[subprocess.Popen[str]]:
    """A program that sleeps, which is on its CPUs."""
    process = subprocess.Popen(["hostler", "isolate", *words, "--", "sleep", "1000"], text=True)
    try:
        holds(lambda: "sleep" in _command(process.pid), LIMIT, every=0.05)
        yield process
    finally:
        process.kill()
        process.wait()


def _command(pid: int) -> str:
    with open(f"/proc/{pid}/comm", encoding="utf-8") as file:
        return file.read()


def _claims() -> list[dict[str, object]]:
    """As the last pass left it; none before the first. What else the status says is not of interest here."""
    found: list[dict[str, object]] = json.loads(run("hostler", "status", "--json").out).get("claims", [])
    return found


def _returned(report: Report, before: snapshot.Snapshot) -> None:
    left = snapshot.differences(before)
    holds(lambda: not _claims(), 20.0)
    report.equal(BACK, (left, _claims()), ([], []))


@scenario(
    "below hostler.slice",
    "as many CPUs as asked for",
    "of one L3",
    "the host keeps off exactly these",
    "its children, too",
    "hostler.slice is not confined",
    "new interrupts keep off, too",
    "status names it",
    "still so after a daemon-reload",
    "its status is the answer",
    BACK,
)
def program(report: Report) -> None:
    before = snapshot.take()
    with _isolated("--cpus", "4", "--same-l3") as process:
        report.check("below hostler.slice", _cgroup(process.pid).startswith("/hostler.slice/hostler-claim-"))
        has = _has(process.pid)
        report.equal("as many CPUs as asked for", len(has), 4)
        report.check("of one L3", has and has <= cpus.l3(min(has)), has)
        report.equal("the host keeps off exactly these", _host(), cpus.online() - has)
        inside = run(
            "hostler", "isolate", "--cpus=2", "sh", "-c", "grep Cpus_allowed_list /proc/self/status; exit 42"
        )
        theirs = cpus.parse(inside.out.split()[-1]) if inside.out else frozenset()
        report.check("its children, too", len(theirs) == 2 and not theirs & has, inside)
        report.equal("hostler.slice is not confined", cpus.effective("hostler.slice"), cpus.online())
        report.within(
            "new interrupts keep off, too",
            20.0,
            lambda: not _interrupts() & has,
            lambda: sorted(_interrupts()),
        )
        holds(lambda: len(_claims()) == 1, 10.0)  # the one inside has let go
        shown = [(c["pid"], c["cpus"]) for c in _claims()]
        report.equal("status names it", shown, [(process.pid, sorted(has))])
        need("systemctl", "daemon-reload")
        report.equal(
            "still so after a daemon-reload", (_has(process.pid), _host()), (has, cpus.online() - has)
        )
        report.equal("its status is the answer", inside.status, 42)
    _returned(report, before)


@scenario("refused with who has them", "nothing was changed", BACK)
def not_enough(report: Report) -> None:
    before = snapshot.take()
    with _isolated("--cpus", "4", "--name", "first") as process:
        has = _has(process.pid)
        many = str(len(cpus.online()))
        refused = run("hostler", "isolate", "--cpus", many, "touch", "/run/ran")
        report.check("refused with who has them", refused.status == 4 and "first has" in refused.err, refused)
        report.equal(
            "nothing was changed",
            (_has(process.pid), _host(), os.path.exists("/run/ran")),
            (has, cpus.online() - has, False),
        )
    _returned(report, before)


@scenario(
    "killed and back",
    "it kept its CPUs",
    "the host still keeps off",
    "status names it",
    BACK,
)
def killed_daemon(report: Report) -> None:
    """The end of the descriptor is gone with the daemon; the scope is what is left to go by."""
    before = snapshot.take()
    with _isolated("--cpus", "4") as process:
        has = _has(process.pid)
        service.kill()
        report.check("killed and back", service.active())
        report.equal("it kept its CPUs", _has(process.pid), has)
        report.equal("the host still keeps off", _host(), cpus.online() - has)
        holds(lambda: bool(_claims()), 20.0)
        report.equal("status names it", [c["pid"] for c in _claims()], [process.pid])
    _returned(report, before)


@scenario("points hit", "had or given back at each", BACK)
def killed_while_it_asks(report: Report) -> None:
    before = snapshot.take()
    hit: list[str] = []
    wrong: list[str] = []
    for kind, at in (("allowed-cpus", "begin"), ("scope", "begin"), ("scope", "end")):
        with service.KillAt(kind, at=at, limit=30.0) as killer:
            asks = subprocess.Popen(["hostler", "isolate", "--cpus=4", "sleep", "1000"])
            holds(lambda killer=killer: killer.fired, 20.0, every=0.05)
        if killer.fired:
            hit.append(f"{at} of {kind}")
            service.wait_back(killer.pid)
        kept = holds(lambda asks=asks: bool(_has(asks.pid)) and "sleep" in _command(asks.pid), 3.0)
        has = _has(asks.pid) if asks.poll() is None else frozenset()
        if kept and _host() & has:
            wrong.append(f"{at} of {kind}: has {sorted(has)}, the host {sorted(_host())}")
        asks.kill()
        asks.wait()
        if left := snapshot.differences(before):
            wrong.append(f"{at} of {kind}: {left}")
    report.equal("points hit", len(hit), 3)
    report.equal("had or given back at each", wrong, [])
    _returned(report, before)


@scenario(
    "nobody may not, by polkit",
    "a user may, within the limit",
    "and no more than that",
    "another user has a limit of their own",
    "all together have one",
    "root has none",
    BACK,
)
def users(report: Report) -> None:
    before = snapshot.take()
    denied = _as("nobody", "--cpus=2", "true")
    report.check("nobody may not, by polkit", denied.status == 5 and "claim-cpus" in denied.err, denied)
    with open(RULES, "w", encoding="ascii") as file:
        file.write(MAY)
    service.policy("[claims]\nusers_at_most = 2\nat_most = 3\n")
    try:
        holds(lambda: _as("nobody", "--cpus=2", "true").ok, 20.0)  # polkit has seen the rule
        allowed = _as("nobody", "--cpus=2", "true")
        report.check("a user may, within the limit", allowed.ok, allowed)
        more = _as("nobody", "--cpus=3", "true")
        report.check("and no more than that", more.status == 4 and "users_at_most = 2" in more.err, more)
        held = subprocess.Popen(
            ["runuser", "-u", "nobody", "--", "hostler", "isolate", "--cpus=2", "sleep", "1000"]
        )
        holds(lambda: len(_claims()) == 1 and bool(_claims()[0]["cpus"]), 20.0)
        again = _as("nobody", "--cpus=1", "true")
        other = _as("daemon", "--cpus=2", "true")
        report.check("another user has a limit of their own", "users_at_most" in again.err, again)
        report.check("all together have one", other.status == 4 and "at_most = 3" in other.err, other)
        root = run("hostler", "isolate", "--cpus=4", "true")
        report.check("root has none", root.ok, root)
        run("pkill", "-KILL", "-u", "nobody", "sleep")
        held.wait(20.0)
        _returned(report, before)
    finally:
        os.unlink(RULES)
        service.policy("")


def _as(user: str, *words: str) -> Done:
    return run("runuser", "-u", user, "--", "hostler", "isolate", *words)


@scenario(
    "answers with a descriptor",
    "moved while it waited",
    "the host keeps off exactly these",
    "closed, it may run anywhere",
    BACK,
)
def by_bus(report: Report) -> None:
    before = snapshot.take()
    client = subprocess.Popen(
        [sys.executable, "-c", CLIENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert client.stdin is not None
    assert client.stdout is not None
    try:
        words = client.stdout.readline().split()
        ok = report.check("answers with a descriptor", len(words) == 3 and words[0::2] == ["hss", "1"], words)
        has = _has(client.pid)
        report.check("moved while it waited", ok and has == cpus.parse(words[1]), (sorted(has), words))
        report.equal("the host keeps off exactly these", _host(), cpus.online() - has)
        client.stdin.write("\n")
        client.stdin.flush()
        client.stdout.readline()
        report.within(
            "closed, it may run anywhere",
            20.0,
            lambda: cpus.allowed(str(client.pid)) == _host() == cpus.online(),
            lambda: (sorted(cpus.allowed(str(client.pid))), sorted(_host())),
        )
    finally:
        client.send_signal(signal.SIGKILL)
        client.wait()
    _returned(report, before)


@scenario("starts beside a domain", "they share no CPU", "the domain's stay when it ends", BACK)
def beside_a_domain(report: Report) -> None:
    """Prepared by its hook and not started: where its two vCPUs will be is the planner's until then."""
    before = snapshot.take()
    domain = Domain(name="beside", vcpus=2, threads=2, hostdevs=PAIR[:1], managed=False)
    prepared = asked.prepare(domain)
    with _isolated("--cpus", "2") as process:
        has = _has(process.pid)
        report.check("starts beside a domain", prepared.ok and len(has) == 2, prepared)
        report.check("they share no CPU", len(cpus.online() - _host() - has) == 2, (sorted(_host()), has))
    report.within(
        "the domain's stay when it ends",
        20.0,
        lambda: len(cpus.online() - _host()) == 2,
        lambda: sorted(_host()),
    )
    asked.release(domain)
    _returned(report, before)


SCENARIOS = (program, not_enough, killed_daemon, killed_while_it_asks, users, by_bus, beside_a_domain)
