"""What the daemon costs: memory, wake-ups while idle, time from a hook's request to the answer.

On the simulated desktop host, in the same run beside bare interpreters: an empty Python, and one that has only imported
trio, which is what any daemon on it starts from. `--seconds N` is how long idleness is watched (20).
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "daemon"), str(ROOT / "client")]

from hostler.connection import Connection  # noqa: E402
from hostler.errors import Unreachable  # noqa: E402
from hostlerd.host.simulated.guests import domain  # noqa: E402

ROUNDS = 15
UUID = "<uuid>11111111-1111-1111-1111-111111111111</uuid>"
XML = domain("win11", hostdevs=["0000:01:00.0"]).replace("<memory", f"{UUID}<memory")


def memory(pid: int) -> tuple[float, float]:
    """Resident and proportional set, MiB."""
    found = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        key, value = line.split(":")
        found[key] = int(value.split()[0]) / 1024
    return found["Rss"], found["Pss"]


def switches(pid: int) -> int:
    """Times any of its threads was woken and ran."""
    total = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        for line in status.read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches"):
                total += int(line.split()[1])
    return total


def bare(program: str) -> float:
    """Resident set of an interpreter that has run `program` and waits."""
    words = [sys.executable, "-c", f"{program}\nprint(flush=True)\ninput()"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        resident, _ = memory(process.pid)
        process.communicate(b"\n")
    return resident


def wait_up(socket: str) -> None:
    for _ in range(200):
        try:
            with Connection(socket) as connection:
                if connection.call("status", {})["pass"]:
                    return
        except Unreachable:
            pass
        time.sleep(0.05)
    sys.exit("the daemon does not answer")


def timed(socket: str, method: str, params: dict[str, object]) -> float:
    with Connection(socket) as connection:
        began = time.perf_counter()
        connection.call(method, params)
        return (time.perf_counter() - began) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=20.0)
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory() as runtime:
        socket = f"{runtime}/hostler.sock"
        environment = {"PYTHONPATH": f"{ROOT / 'daemon'}:{ROOT / 'client'}", "PATH": "/usr/bin:/bin"}
        words = [sys.executable, "-m", "hostlerd", "--sim", "--runtime", runtime]
        with subprocess.Popen(words, env=environment, stderr=subprocess.DEVNULL) as daemon:
            try:
                wait_up(socket)
                report(daemon.pid, socket, seconds)
            finally:
                daemon.terminate()


def report(pid: int, socket: str, seconds: float) -> None:
    prepare, release, status = [], [], []
    for _ in range(ROUNDS):
        prepare.append(timed(socket, "prepare", {"name": "win11", "xml": XML}))
        release.append(timed(socket, "release", {"name": "win11", "xml": XML}))
        status.append(timed(socket, "status", {}))
    resident, proportional = memory(pid)
    python, trio = bare("pass"), bare("import trio")
    print(f"memory    hostlerd {resident:.1f} MiB resident, {proportional:.1f} proportional")
    print(f"          {resident / python:.1f} x an empty Python ({python:.1f})")
    print(f"          {resident / trio:.2f} x one that imported trio ({trio:.1f})")
    for name, times in (("prepare", prepare), ("release", release), ("status", status)):
        print(
            f"{name:<9} median {statistics.median(times):.1f} ms, worst of {len(times)} {max(times):.1f} ms"
        )
    time.sleep(11)  # trio's idle worker threads end after 10 s
    before = switches(pid)
    time.sleep(seconds)
    print(f"idle      {switches(pid) - before} wake-ups in {seconds:.0f} s")


if __name__ == "__main__":
    main()
