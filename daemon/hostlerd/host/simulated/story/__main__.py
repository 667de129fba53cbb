"""`python -m hostlerd.host.simulated.story [--keep] [--crashes | --chaos STEPS]`: exit status 0 if every check held."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time

from hostler.errors import HostlerError
from hostlerd.host.simulated.story import beginning, chaos, crashes, pages, pins, quiet, rainy, sunny, usb
from hostlerd.host.simulated.story.stage import Stage
from hostlerd.host.simulated.story.telling import Telling


def main() -> int:
    parser = argparse.ArgumentParser(prog="./dev run", description="Play the main job on a simulated host.")
    parser.add_argument(
        "--keep", action="store_true", help="leave journal, state and log of the daemon there"
    )
    parser.add_argument(
        "--crashes", action="store_true", help="instead: kill -9 at every change, some minutes"
    )
    parser.add_argument("--chaos", type=int, metavar="STEPS", help="instead: so many random things")
    parser.add_argument(
        "--seed", type=int, default=int(time.time()) % 10000, help="play these random things again"
    )
    given = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="hostler-")
    stage, tell = Stage(folder), Telling()
    try:
        if given.crashes:
            crashes.play(folder, tell)
        elif given.chaos is not None:
            chaos.play(stage, tell, given.chaos, given.seed)
        else:
            stage.start()
            sunny.play(stage, tell)
            pins.play(stage, tell)
            quiet.play(stage, tell)
            usb.play(stage, tell)
            pages.play(stage, tell)
            rainy.play(stage, tell)
            beginning.play(folder, tell)
    except HostlerError as error:
        tell.check("the story comes to its end", held=False, seen=error.sentence)
    finally:
        stage.end()
        if tell.failed and not given.crashes:
            print(f"\nthe daemon's last words:\n{stage.log(40)}", file=sys.stderr)
        if given.keep:
            print(f"kept in {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return tell.end()


sys.exit(main())
