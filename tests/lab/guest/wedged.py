"""remove() that never returns: one device is lost until it does, and nothing else is."""

import os
import time

from . import asked, modules, pci, service, snapshot
from .domains import Domain
from .programs import holds, run
from .report import Report, scenario

CARD, SOUND, OTHER = "0000:01:00.0", "0000:01:00.1", "0000:02:00.0"


def answers() -> float:
    """Seconds of one `hostler status`, as a user waits for it."""
    began = time.monotonic()
    run("hostler", "status", "--json", limit=30.0)
    return time.monotonic() - began


@scenario(
    "refused within the hook's limit",
    "says that it hangs",
    "answers meanwhile",
    "is degraded",
    "companion is home",
    "another domain starts",
    "another domain stops",
    "no read hangs",
    "restart does not wait",
    "still degraded after the restart",
    "refused from then on",
    "home when it has returned",
    "starts then",
)
def never_returns(report: Report) -> None:
    modules.bind(CARD, never_return=1)
    before = snapshot.take()
    victim = Domain(name="victim", vcpus=2, threads=2, hostdevs=(CARD,), managed=False)
    waits: list[float] = []

    began = time.monotonic()
    with service.KillAt("unbind", do=lambda: waits.extend(answers() for _ in range(3))) as watch:
        answer = asked.prepare(victim)
    took = time.monotonic() - began
    report.check(
        "refused within the hook's limit", answer.status == 1 and took < 31.0, f"{took:.1f} s; {answer}"
    )
    report.check("says that it hangs", CARD in answer.err, answer.err)
    report.check("answers meanwhile", watch.fired and waits and max(waits) < 5.0, waits)
    report.note(f"refused after {took:.1f} s; `hostler status` meanwhile: {[round(w, 2) for w in waits]} s")
    asked.release(victim)

    status = run("hostler", "status", "--json").out
    report.check("is degraded", CARD in status and '"degraded"' in status, status)
    report.within(
        "companion is home",
        30.0,
        lambda: pci.driver(SOUND) == before.drivers[SOUND],
        lambda: pci.driver(SOUND),
    )
    with Domain(name="other", vcpus=2, threads=2, hostdevs=(OTHER,), managed=False).defined() as other:
        started = other.start()
        report.check("another domain starts", started.ok and pci.on_vfio(OTHER), started)
        if started.ok:
            other.destroy()
        report.check(
            "another domain stops",
            holds(lambda: pci.driver(OTHER) == before.drivers[OTHER], 30.0),
            pci.driver(OTHER),
        )
    stuck = run("sh", "-c", "ps -eo stat,pid,comm,args | grep '^D' | grep -v ' ps '").out
    ours = [line for line in stuck.splitlines() if "hostler" in line and "writing.py" not in line]
    report.equal("no read hangs", ours, [])

    began = time.monotonic()
    done = run("systemctl", "restart", "hostlerd.service", limit=120.0)
    took = time.monotonic() - began
    report.check(
        "restart does not wait", done.ok and service.active() and took < 60.0, f"{took:.1f} s; {done}"
    )
    report.note(f"restart took {took:.1f} s")
    status = run("hostler", "status", "--json").out
    report.check("still degraded after the restart", CARD in status and '"degraded"' in status, status)
    answer = asked.prepare(victim)
    report.check("refused from then on", answer.status == 1 and "degraded" in answer.err, answer)
    asked.release(victim)

    modules.parameter("never_return", 0)
    holds(lambda: modules.removing() == 0, 30.0)
    home = holds(lambda: pci.driver(CARD) == modules.LABGPU, 40.0)
    report.check("home when it has returned", home, f"{pci.driver(CARD)}; {run('hostler', 'status').out}")
    if not home:
        run("hostler", "retry", CARD)
    answer = asked.prepare(victim)
    report.check("starts then", answer.ok and pci.on_vfio(CARD), answer)
    asked.release(victim)
    holds(lambda: not before.differences(snapshot.take()), 30.0)
    modules.calm()
    report.note(f"kernel {os.uname().release}")


SCENARIOS = (never_returns,)
