"""kill -9 after every single change that starting and stopping a domain makes, each on a host of its own.

A minute or two: not part of the story, but told like it (`--crashes`).
"""

from __future__ import annotations

import os
import signal
import time

from hostlerd.host.simulated.story.stage import Stage
from hostlerd.host.simulated.story.sunny import CARD, pinned
from hostlerd.host.simulated.story.telling import Telling

QUIET = 0.3
"""Seconds without a change after which the last one is taken to have been made."""


def _crash(stage: Stage, tell: Telling, action: str, number: int) -> bool:
    """Kill after the change of this number; False when there are not so many."""
    stage.start()
    stage.settled()
    before = stage.remember()
    stage.simulate("define", name="win11", devices=CARD[0])
    if action == "stop":
        stage.simulate("start", name="win11")
        pinned(stage, "win11", 4)
        stage.settled()
    stage.simulate("fault", name="die-after-writes", value=str(number))
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
    tell.check(f"after change {number} of a {action}", held, [status, state, differences, hung])
    stage.end()
    return True


def play(folder: str, tell: Telling) -> None:
    for action in ("start", "stop"):
        tell.scene(f"Killed in the middle of a {action}, started again: the host is as it was")
        number = 1
        while True:
            place = os.path.join(folder, f"{action}-{number}")
            os.mkdir(place)
            if not _crash(Stage(place), tell, action, number):
                break
            number += 1
