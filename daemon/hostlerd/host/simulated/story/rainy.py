"""What goes wrong: refusals, failures after the hook, cards that come and go, a daemon that is killed, a wrong policy.

Each scene begins and ends with a host at rest.
"""

from __future__ import annotations

import signal

from hostlerd.host.simulated.guests import domain
from hostlerd.host.simulated.story.stage import Stage
from hostlerd.host.simulated.story.sunny import CARD, on_vfio, pinned
from hostlerd.host.simulated.story.telling import Telling

NETWORK, FOREIGN = "0000:05:00.0", "0000:06:00.0"
PLUGGED = ["0000:04:00.0", "0000:04:00.1"]
POLICY = """\
[[device]]
name = "spare"
match = { address = "0000:04:00.0" }
when_idle = "vfio"
"""
UNIT = "ollama.service"
STOPPING = """\
[[device]]
name = "gaming"
match = { address = "0000:01:00.0" }
holders = "stop"
"""
WRONG_POLICY = POLICY.replace("when_idle", "when_idel")


def _starts(stage: Stage, tell: Telling, name: str, devices: str) -> tuple[bool, str]:
    stage.simulate("define", name=name, devices=devices)
    done = stage.client("simulate", "start", f"name={name}")
    tell.command(f"hostler simulate start name={name}", done.text)
    return done.status == 0, done.text


def _as_before(stage: Stage, tell: Telling, before: dict[str, str]) -> None:
    differences = stage.differences(before)
    tell.check("every file of the host is as it was", not differences, differences)
    state = stage.settled()
    tell.check("the daemon has nothing to do", state == "converged", state)


def foreign_member(stage: Stage, tell: Telling) -> None:
    tell.scene(
        "A device that cannot be given away alone",
        f"The network card {NETWORK} shares its IOMMU group with the SATA controller {FOREIGN}, and no policy lets a "
        "domain take that along.",
    )
    before, writes = stage.remember(), stage.show()["writes"]
    started, text = _starts(stage, tell, "router", NETWORK)
    tell.check("it does not start", not started, text)
    tell.check("libvirt's error names the other device", FOREIGN in text, text)
    now = stage.show()["writes"]
    tell.check("nothing was written to the kernel", now == writes, now - writes)
    _as_before(stage, tell, before)


def in_use(stage: Stage, tell: Telling) -> None:
    tell.scene(
        "A card that somebody has open",
        "ollama.service has it open. A driver may wait for ever for somebody who has its device open, so nothing is "
        "written before they have gone.",
    )
    stage.simulate("start-unit", unit=UNIT, path=f"/system.slice/{UNIT}")
    stage.simulate(
        "hold", address=CARD[0], pid="4711", command="ollama", uid="0", cgroup=f"/system.slice/{UNIT}"
    )
    before, writes = stage.remember(), stage.show()["writes"]
    started, text = _starts(stage, tell, "win11", CARD[0])
    tell.check("it does not start", not started, text)
    tell.check("libvirt's error names the program", "ollama" in text and "process 4711" in text, text)
    tell.check("nothing was written to the kernel", stage.show()["writes"] == writes, stage.show()["writes"])
    _as_before(stage, tell, before)


def stopped_and_started(stage: Stage, tell: Telling) -> None:
    tell.scene("The same with `holders = stop` in the policy")
    with open(stage.policy, "w", encoding="utf-8") as file:
        file.write(STOPPING)
    stage.client("reload")
    started, text = _starts(stage, tell, "win11", CARD[0])
    tell.check("it starts", started, text)
    tell.check(
        "the card and its companions are on VFIO", on_vfio(stage.show()) == CARD, on_vfio(stage.show())
    )
    tell.check("the unit is stopped", UNIT not in stage.show()["units"], stage.show()["units"])
    stage.client("simulate", "stop", "name=win11")
    tell.check("the card is the host's again", not on_vfio(stage.show()), on_vfio(stage.show()))
    tell.check("the unit runs again", UNIT in stage.show()["units"], stage.show()["units"])
    with open(stage.policy, "w", encoding="utf-8") as file:
        file.write("")
    stage.client("reload")
    stage.simulate("stop-unit", unit=UNIT)


def claimed(stage: Stage, tell: Telling) -> None:
    tell.scene("A device that another domain has")
    before = stage.remember()
    _starts(stage, tell, "win11", CARD[0])
    started, text = _starts(stage, tell, "second", CARD[1])
    tell.check("the second one does not start", not started, text)
    tell.check("libvirt's error names the domain that has it", "win11" in text, text)
    tell.check("the first one keeps the card", on_vfio(stage.show()) == CARD, on_vfio(stage.show()))
    stage.client("simulate", "stop", "name=win11")
    _as_before(stage, tell, before)


def unknown_device(stage: Stage, tell: Telling) -> None:
    tell.scene("A device that is not there")
    before = stage.remember()
    started, text = _starts(stage, tell, "ghost", "0000:99:00.0")
    tell.check(
        "it does not start, and the error names the device", not started and "0000:99:00.0" in text, text
    )
    _as_before(stage, tell, before)


def fails_after_prepare(stage: Stage, tell: Telling) -> None:
    tell.scene(
        "A start that fails after the card was handed over",
        "QEMU ends by itself; libvirt sends no event for that.",
    )
    before = stage.remember()
    stage.simulate("fault", name="start-fails", object="win11")
    started, text = _starts(stage, tell, "win11", CARD[0])
    stage.simulate("lift", name="start-fails", object="win11")
    tell.check(
        "libvirt tells QEMU's words",
        not started and "process exited while connecting to monitor" in text,
        text,
    )
    _as_before(stage, tell, before)


def hotplug(stage: Stage, tell: Telling) -> None:
    tell.scene(
        "A card that belongs to domains is plugged in", "The policy says `when_idle = vfio` for 0000:04:00.0."
    )
    with open(stage.policy, "w", encoding="utf-8") as file:
        file.write(POLICY)
    done = stage.client("reload")
    tell.command("hostler reload", done.text)
    tell.check("the policy is in force", done.status == 0, done.text)
    stage.settled()
    stage.client("simulate", "plug", "card=second")
    tell.command("hostler simulate plug card=second", "")
    stage.until(lambda: on_vfio(stage.show())[:1] == PLUGGED[:1], 10.0)
    stage.settled()
    shown = stage.show()
    tell.check("it is on VFIO", PLUGGED[0] in on_vfio(shown), shown["devices"].get(PLUGGED[0]))
    stage.client("simulate", "unplug", f"address={PLUGGED[0]}")
    tell.command(f"hostler simulate unplug address={PLUGGED[0]}", "")
    stage.until(lambda: PLUGGED[0] not in stage.show()["devices"], 10.0)
    state = stage.settled()
    tell.check("that it went away is no error", state == "converged", stage.client("status").text)


def wrong_policy(stage: Stage, tell: Telling) -> None:
    tell.scene("A policy with a slip of the pen")
    with open(stage.policy, "w", encoding="utf-8") as file:
        file.write(WRONG_POLICY)
    done = stage.client("reload")
    tell.command("hostler reload", done.text)
    tell.check("it is refused with exit status 1", done.status == 1, done.status)
    named = all(word in done.text for word in ("hostler.toml", "4", "when_idel", "when_idle"))
    tell.check("the error has the file, the line, the wrong key and the nearest right one", named, done.text)
    stage.client("simulate", "plug", "card=second")
    stage.until(lambda: on_vfio(stage.show())[:1] == PLUGGED[:1], 10.0)
    tell.check(
        "the policy before it is still in force", PLUGGED[0] in on_vfio(stage.show()), stage.show()["devices"]
    )
    stage.client("simulate", "unplug", f"address={PLUGGED[0]}")
    with open(stage.policy, "w", encoding="utf-8") as file:
        file.write("")
    done = stage.client("reload")
    tell.check("an empty one is right again", done.status == 0, done.text)
    stage.settled()


def killed_half_way(stage: Stage, tell: Telling) -> None:
    tell.scene(
        "The daemon is killed in the middle of a handoff",
        "SIGKILL right after its sixth change to the host: overrides are set, the first function is off its driver.",
    )
    before = stage.remember()
    stage.simulate("define", name="win11", devices=CARD[0])
    stage.simulate("fault", name="die-after-writes", value="6")
    done = stage.client("simulate", "start", "name=win11")
    tell.command("hostler simulate start name=win11", done.text)
    status = stage.wait()
    tell.check("the daemon is gone", status == -signal.SIGKILL, status)
    tell.check("the host is between the two states now", stage.remember() != before)
    hook = stage.client("hook", "win11", "prepare", "begin", "-", stdin=domain("win11"))
    tell.check("without a daemon libvirt's hook lets domains start", hook.status == 0, hook.text)
    gone = stage.client("status")
    tell.command("hostler status", gone.text)
    tell.check("the client says that there is no daemon, with exit status 3", gone.status == 3, gone.status)
    stage.start()
    tell.command("hostlerd", "started again")
    _as_before(stage, tell, before)


def killed_while_running(stage: Stage, tell: Telling) -> None:
    tell.scene("The daemon is killed while a domain runs", "The domain has to go on as if nothing had been.")
    before = stage.remember()
    _starts(stage, tell, "win11", CARD[0])
    pinned(stage, "win11", 4)
    stage.settled()
    there = stage.remember()
    pins = stage.show()["domains"]["win11"]["pins"]
    stage.end(signal.SIGKILL)
    stage.start()
    tell.command("hostlerd", "started again")
    stage.settled()
    differences = stage.differences(there)
    tell.check("devices and CPUs are as they were: it was adopted", not differences, differences)
    now = stage.show()["domains"]["win11"]["pins"]
    tell.check("its vCPUs were not moved", now == pins, now)
    stage.client("simulate", "stop", "name=win11")
    tell.command("hostler simulate stop name=win11", "")
    _as_before(stage, tell, before)


def libvirtd_goes_away(stage: Stage, tell: Telling) -> None:
    tell.scene("libvirtd goes away", "The domain runs on, then ends while nobody can hear of it.")
    before = stage.remember()
    _starts(stage, tell, "win11", CARD[0])
    pinned(stage, "win11", 4)
    stage.client("simulate", "stop-libvirtd")
    tell.command("hostler simulate stop-libvirtd", "")
    stage.settled()
    tell.check("the domain keeps its card", on_vfio(stage.show()) == CARD, on_vfio(stage.show()))
    stage.client("simulate", "power-off", "name=win11")
    tell.command("hostler simulate power-off name=win11", "")
    stage.client("simulate", "start-libvirtd")
    tell.command("hostler simulate start-libvirtd", "")
    _as_before(stage, tell, before)


SCENES = (
    foreign_member,
    in_use,
    stopped_and_started,
    claimed,
    unknown_device,
    fails_after_prepare,
    hotplug,
    wrong_policy,
    killed_half_way,
    killed_while_running,
    libvirtd_goes_away,
)


def play(stage: Stage, tell: Telling) -> None:
    for scene in SCENES:
        scene(stage, tell)
    hung = stage.show()["hung"]
    tell.check("at no time was a file read that could have hung", not hung, hung)
