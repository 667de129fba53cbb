"""Huge pages: added before a domain starts, taken away when it is gone, and what is said where there are too few."""

from __future__ import annotations

import os
import signal

from hostlerd.host.simulated.story.stage import Stage
from hostlerd.host.simulated.story.telling import Telling

POOL = "node0 2048kB"
POLICY = "[domains]\nhugepages = { compact = true }\n"


def play(stage: Stage, tell: Telling) -> None:
    tell.scene(
        "Huge pages",
        "big asks for 1 GiB of huge pages, and the host has none. They are added before it starts, and go with it.",
    )
    stage.simulate("define", name="big", cores=1, threads=1, memory=1024, hugepages="0")
    plan = stage.client("plan", "--domain", "big")
    tell.command("hostler plan --domain big", plan.text)
    tell.check("the plan shows it", "0 -> 512" in plan.out, plan.out)
    _start(stage, tell)
    tell.check("512 pages of 2 MiB are there, and in use", _pool(stage) == (512, 0), _pool(stage))
    tell.command("hostler status", stage.client("status").text)
    stage.end(signal.SIGKILL)
    stage.start()
    tell.check(
        "a daemon that is killed and started again leaves them", _pool(stage) == (512, 0), _pool(stage)
    )
    _stop(stage, tell)
    tell.check("they are gone with it", _pool(stage) == (0, 0), _pool(stage))
    stage.simulate("fault", name="fragmented", object="0", value="100")
    refused = _start(stage, tell)
    tell.check(
        "memory is in pieces: the start is refused, with how many",
        "100 of 512 can be had" in refused,
        refused,
    )
    tell.check("and none are left behind", _pool(stage) == (0, 0), _pool(stage))
    _policy(stage, tell, POLICY)
    _start(stage, tell)
    tell.check("where policy lets it, memory is moved together first", _pool(stage) == (512, 0), _pool(stage))
    _stop(stage, tell)
    _policy(stage, tell, "")
    stage.simulate("undefine", name="big")


def _pool(stage: Stage) -> tuple[int, int]:
    """Total and free, from the kernel's side."""
    pool = stage.show()["hugepages"].get(POOL, {"total": 0, "free": 0})
    return pool["total"], pool["free"]


def _start(stage: Stage, tell: Telling) -> str:
    done = stage.client("simulate", "start", "name=big")
    tell.command("hostler simulate start name=big", done.text)
    stage.settled()
    return done.text


def _stop(stage: Stage, tell: Telling) -> None:
    tell.command("hostler simulate stop name=big", stage.client("simulate", "stop", "name=big").text)
    stage.settled()


def _policy(stage: Stage, tell: Telling, text: str) -> None:
    if text:
        with open(stage.policy, "w", encoding="utf-8") as file:
            file.write(text)
    elif os.path.exists(stage.policy):
        os.unlink(stage.policy)
    tell.command("hostler reload", stage.client("reload").text)
