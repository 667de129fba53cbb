"""A USB stick that belongs to a domain: it goes there when it is plugged in, and comes back."""

from __future__ import annotations

import json
import signal

from hostlerd.host.simulated.story.stage import Stage
from hostlerd.host.simulated.story.sunny import CARD
from hostlerd.host.simulated.story.telling import Telling

PORT = "2-1"
"""Of the host's own controller: the card's goes with the card."""
POLICY = """\
[[usb]]
name = "dongle"
match = { vendor = "0951", product = "1666" }
domain = "win11"
"""
LIMIT = 10.0


def play(stage: Stage, tell: Telling) -> None:
    tell.scene("A USB stick for a running domain", "The policy says that 0951:1666 is win11's.")
    before = stage.remember()
    stage.simulate("define", name="win11", devices=CARD[0])
    _policy(stage, tell, POLICY)
    stage.client("simulate", "plug-usb", "device=stick", f"port={PORT}")
    tell.command(f"hostler simulate plug-usb device=stick port={PORT}", "")
    stage.settled()
    tell.check("it is the host's while the domain does not run", _user(stage) is None, _user(stage))
    stage.client("simulate", "start", "name=win11")
    tell.command("hostler simulate start name=win11", "")
    tell.check("the domain gets it when it runs", _goes_to(stage, "win11"), stage.show()["usb"])
    usb = _listed(stage)
    tell.command("hostler domains --json | jq '.[].hostdevs[]'", "\n".join(map(json.dumps, usb)))
    tell.check("`hostler domains` lists it", len(usb) == 1, usb)
    stage.client("simulate", "storm-usb", f"port={PORT}", "times=20")
    tell.command(f"hostler simulate storm-usb port={PORT} times=20", "")
    tell.check(
        "twenty times out and in again, it is the domain's", _goes_to(stage, "win11"), stage.show()["usb"]
    )
    stage.end(signal.SIGKILL)
    stage.start()
    tell.command("hostlerd", "killed, and started again")
    stage.simulate("unplug-usb", port=PORT)
    stage.until(lambda: not _listed(stage), LIMIT)
    tell.check("pulled out, it is no longer listed", not _listed(stage), _listed(stage))
    stage.client("simulate", "stop", "name=win11")
    _policy(stage, tell, "")
    tell.check("nothing is left of it", stage.show()["usb"] == {}, stage.show()["usb"])
    differences = stage.differences(before)
    tell.check("every file of the host is as it was", not differences, differences)


def _policy(stage: Stage, tell: Telling, text: str) -> None:
    with open(stage.policy, "w", encoding="utf-8") as file:
        file.write(text)
    done = stage.client("reload")
    tell.command("hostler reload", done.text)
    tell.check("the policy is in force", done.status == 0, done.text)


def _user(stage: Stage) -> object:
    """The domain whose QEMU has the stick open."""
    return stage.show()["usb"][PORT]["user"]


def _goes_to(stage: Stage, name: str) -> bool:
    return stage.until(lambda: _user(stage) == name and stage.settled() == "converged", LIMIT)


def _listed(stage: Stage) -> list[object]:
    domains = stage.client("domains", "--json").json
    return [device for domain in domains for device in domain["hostdevs"] if device["kind"] == "usb"]
