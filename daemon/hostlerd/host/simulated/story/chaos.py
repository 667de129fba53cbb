"""Random things happen to one host; when all domains are stopped it has to be as it was. Told with `--chaos STEPS`.

The seed is told, and `--seed` plays the same steps again.
"""

from __future__ import annotations

import random
import signal
import time

from hostler.errors import HostlerError
from hostlerd.host.simulated.story.stage import Stage
from hostlerd.host.simulated.story.telling import Telling

GUESTS = {
    "win11": {"devices": "0000:01:00.0", "cores": "2", "iothreads": "1"},
    "other": {"devices": "0000:01:00.1", "cores": "1"},
    "linux": {"devices": "0000:0b:00.3", "cores": "2", "managed": "no"},
    "fixed": {"devices": "0000:0b:00.1", "pins": "0=3;1=11", "cores": "1"},
    "small": {"cores": "2", "threads": "1"},
    "router": {"devices": "0000:05:00.0"},
}
ACTIONS = (
    ("start",) * 6
    + ("stop",) * 4
    + ("power-off", "attach", "detach", "kill", "restart-libvirtd", "fails", "pin")
    + ("plug-usb", "unplug-usb", "storm-usb") * 2
)
PORT = "0000:0b:00.3"
"""A USB controller, and what is plugged in there is on bus 2 while it is the host's."""
POLICY = """\
[[usb]]
match = { vendor = "0951" }
domain = "small"
"""


def _step(stage: Stage, chance: random.Random) -> list[str]:
    """Up to three things at once, maybe with a kill among them; what they were and what was said to them."""
    things = [
        (chance.choice(ACTIONS), chance.choice(list(GUESTS))) for _ in range(chance.choice((1, 1, 2, 3)))
    ]
    going = {" ".join(words): stage.begin("simulate", *words) for words in map(_words, things) if words}
    told = list[str]()
    if len(going) < len(things):
        time.sleep(chance.random() * 0.3)
        stage.end(signal.SIGKILL)
        stage.start()
        told.append("kill -9 of the daemon")
    for words, process in going.items():
        done = stage.finish(process)
        told.append(f"{words}: {done.text.strip().splitlines()[-1][-90:] if done.text.strip() else ''}")
    return told


def _words(thing: tuple[str, str]) -> list[str]:
    """The words of a client's call; none for a kill."""
    action, name = thing
    match action:
        case "kill":
            return []
        case "restart-libvirtd":
            return [action]
        case "fails":
            return ["fault", "name=start-fails", f"object={name}"]
        case "attach" | "detach":
            return [action, f"name={name}", f"address={PORT}"]
        case "plug-usb":
            return [action, "device=stick", "port=2-1"]
        case "unplug-usb" | "storm-usb":
            return [action, "port=2-1"]
        case "pin":
            return [action, f"name={name}", "vcpu=0", "cpus=5"]
        case _:
            return [action, f"name={name}"]


def _ask(stage: Stage, action: str, **params: object) -> str:
    try:
        stage.simulate(action, **params)
    except HostlerError as error:
        return error.sentence[-100:].replace("\n", " ")
    return "done"


def play(stage: Stage, tell: Telling, steps: int, seed: int) -> None:
    tell.scene(f"{steps} random things happen (--seed {seed})")
    chance = random.Random(seed)  # noqa: S311  # a test's dice
    with open(stage.policy, "w", encoding="utf-8") as file:
        file.write(POLICY)
    stage.start()
    stage.settled()
    before = stage.remember()
    for name, guest in GUESTS.items():
        stage.simulate("define", name=name, **guest)
    for number in range(1, steps + 1):
        tell.command(f"# {number}", "\n".join(_step(stage, chance)))
        for name in GUESTS:
            if chance.random() < 0.5:
                _ask(stage, "lift", name="start-fails", object=name)
        if chance.random() < 0.3:  # else the next thing happens while the daemon works
            stage.settled()
    for name in GUESTS:
        _ask(stage, "lift", name="start-fails", object=name)
    stage.settled()
    for name, domain in stage.show()["domains"].items():
        if domain["state"] != "shut off":
            _ask(stage, "stop", name=name)
    users = {port: device["user"] for port, device in stage.show()["usb"].items()}
    tell.check("no domain has a USB device", not any(users.values()), users)
    differences = stage.differences(before)
    tell.check("with all domains stopped every file is as it was", not differences, differences)
    state = stage.settled()
    tell.check("the daemon has nothing to do", state == "converged", stage.client("status").text)
    hung = stage.show()["hung"]
    tell.check("no file was read that could have hung", not hung, hung)
    tell.check("the daemon made no mistake", "Traceback" not in stage.log(100000), stage.log(30))
