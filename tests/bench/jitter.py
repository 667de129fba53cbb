"""How long a domain's vCPUs wait for a CPU beside a busy host: unpinned, pinned alone, isolated as our profile has it.

    jitter.py [--suite bookworm|trixie]

Boots the lab (some ten minutes): a real kernel with eight CPUs, all emulated by one thread in turn. So what is measured
is what the guest's scheduler does with its CPUs (run delay, /proc/PID/task/TID/schedstat), not the clock: wake-up
latencies would be the emulator's. Rounds are paired and their conditions shuffled; the ratio of a round is what counts.
tests/lab/guest/jitter.py is what runs in there, and says where each thread may run and does.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests")]

from lab.boots import boot  # noqa: E402

AIM, BACK = 5.0, 0.3
"""The median ratio unpinned/isolated, and how near the first figure comes again after release."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--suite", default="bookworm", choices=("bookworm", "trixie"))
    options = parser.parse_args()
    outcome = boot(options.suite, "jitter")
    notes = [json.loads(note) for note in outcome.notes.get("run_delay", ()) if note.startswith("{")]
    rounds = [note for note in notes if "unpinned" in note]
    released = next((note["released"] for note in notes if "released" in note), [])
    if not rounds or not released:
        print(f"no figures: {outcome.failure or outcome.errors}", file=sys.stderr)
        return 1
    print(
        f"{options.suite}: {len(rounds)} rounds; run delay in ms a second and vCPU, share of a CPU that each had"
    )
    for number, one in enumerate(rounds, 1):
        cells = "  ".join(f"{name} {one[name][0]:8.2f} {one[name][1]:4.0%}" for name in sorted(one))
        print(f"  round {number}: {cells}  unpinned/isolated {_ratio(one):6.1f}")
    ratios = [_ratio(one) for one in rounds]
    pinned = [one["unpinned"][0] / max(one["pinned"][0], 0.01) for one in rounds]
    first = statistics.median(one["unpinned"][0] for one in rounds)
    again = statistics.median(delay for delay, _ in released)
    print(f"  median ratio unpinned/pinned {statistics.median(pinned):.1f}, unpinned/isolated "
          f"{statistics.median(ratios):.1f} (aim: {AIM:.0f})")  # fmt: skip
    print(
        f"  released: {again:.2f} against {first:.2f} before, {again / first - 1:+.0%} (aim: within {BACK:.0%})"
    )
    wrong = [f"{check}: {result.detail}" for (_, check), result in outcome.results.items() if not result.ok]
    for line in wrong:
        print(f"  WRONG {line}")
    return 1 if wrong else 0


def _ratio(one: dict[str, list[float]]) -> float:
    return one["unpinned"][0] / max(one["isolated"][0], 0.01)


if __name__ == "__main__":
    sys.exit(main())
