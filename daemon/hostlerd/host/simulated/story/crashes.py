"""kill -9 before and after every single change of starting and stopping a domain, each on a host of its own.

Some minutes: not part of the story, but told like it (`--crashes`).
"""

from __future__ import annotations

import os
import signal
import time
from itertools import count, product

from hostlerd.host.simulated.story.stage import Stage
from hostlerd.host.simulated.story.sunny import CARD, pinned
from hostlerd.host.simulated.story.telling import Telling

QUIET = 0.3
"""Seconds without a change after which the last one is taken to have been made."""


def _crash(stage: Stage, tell: Telling, action: str, moment: str, number: int) -> bool:
    """Kill before or after the change of this number; False when there are not so many."""
    stage.start()
    stage.settled()
    before = stage.remember()
    stage.simulate("define", name="win11", devices=CARD[0])
    if action == "stop":
        stage.simulate("start", name="win11")
        pinned(stage, "win11", 4)
        stage.settled()
    stage.simulate("fault", name=f"die-{moment}-writes", value=str(number))
    stage.client("simulate", action, "name=win11")
    if stage.answers():
        time.sleep(QUIET)
    if stage.answers():
        stage.end()
        return False
    status = stage.wait()
    stage.start()
    state = stage.settled()
    if stage.show()["domains"]["win11"]["state"] == "running":
        stage.simulate("stop", name="win11")
    differences = stage.differences(before)
    hung = stage.show()["hung"]
    held = status == -signal.SIGKILL and state == "converged" and not differences and not hung
    tell.check(f"{moment} change {number} of a {action}", held, [status, state, differences, hung])
    stage.end()
    return True


def play(folder: str, tell: Telling) -> None:
    for action, moment in product(("start", "stop"), ("before", "after")):
        tell.scene(f"Killed {moment} a change of a {action}, started again: the host is as it was")
        for number in count(1):
            place = os.path.join(folder, f"{action}-{moment}-{number}")
            os.mkdir(place)
            if not _crash(Stage(place), tell, action, moment, number):
                break
