"""How long it takes to find who has a device open among many processes, beside lsof and fuser in the same run.

The processes are real: `--processes` (2,000) sleeping children of one program, each with `--files` (14) files of the
kinds a desktop's have (pipes, sockets, /dev/null, a log, eventfd), every 200th of which has a device node open. It is
the first of NODES that may be opened here. All three have to find the same processes; hostler reads maps as well.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "daemon"), str(ROOT / "client")]

from hostlerd.host.files import RootFiles  # noqa: E402
from hostlerd.model.devices import Function  # noqa: E402
from hostlerd.observe import nodes  # noqa: E402
from hostlerd.observe.holders import holders  # noqa: E402
from hostlerd.observe.nodes import Node  # noqa: E402

NODES = ("/dev/dri/card0", "/dev/snd/controlC0", "/dev/fuse", "/dev/loop-control", "/dev/hpet", "/dev/kvm")
ROUNDS = 7
ADDRESS = "0000:00:00.0"

POPULATION = """
import mmap, os, signal, socket, sys
node, count, files = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
log = os.open(sys.argv[4], os.O_RDWR | os.O_CREAT)
for number in range(count):
    if os.fork():
        continue
    kept = [log]
    while len(kept) < files:
        kept += [os.open("/dev/null", os.O_RDWR), *os.pipe(), *(s.detach() for s in socket.socketpair())]
        kept += [os.eventfd(0), os.dup(log)]
    if number % 200 == 0:
        os.open(node, os.O_RDONLY)
    signal.pause()
    os._exit(0)
print("ready", flush=True)
sys.stdin.read()
os.killpg(0, signal.SIGTERM)
"""


def node_to_hold() -> str:
    """A character device that anybody with the right may have open any number of times."""
    for node in NODES:
        try:
            os.close(os.open(node, os.O_RDONLY))
        except OSError:
            continue
        return node
    sys.exit(f"none of {', '.join(NODES)} can be opened here: run it as root")


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", type=int, default=2000)
    parser.add_argument("--files", type=int, default=14)
    options = parser.parse_args()
    node = node_to_hold()
    log = f"/tmp/hostler-bench-{os.getpid()}"
    words = [sys.executable, "-S", "-c", POPULATION, node, str(options.processes), str(options.files), log]
    before = memory()
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as population:
        try:
            assert population.stdout is not None
            population.stdout.readline()
            wait_for(population.pid, options.processes)
            report(node, before)
        finally:
            os.killpg(population.pid, signal.SIGKILL)
            os.unlink(log)


def wait_for(group: int, count: int) -> None:
    """Until the last of them sleeps: its files are open then."""
    for _ in range(200):
        found = sum(f" {group} " in stat_of(pid) for pid in os.listdir("/proc") if pid.isdecimal())
        if found > count:
            time.sleep(1)
            return
        time.sleep(0.1)
    sys.exit("the processes do not start")


def stat_of(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""


def memory() -> int:
    """KiB that are free for programs."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))


def report(node: str, before: int) -> None:
    files = RootFiles("/")
    wanted = Node(path=node, number=files.device(node))
    nodes.nodes = lambda *_: iter((wanted,))  # type: ignore[assignment]  # the node need not be a PCI function's
    function = Function(address=ADDRESS, vendor=1, device=1, class_code=0x030000)
    ours = {holder.pid for holder in holders(files, [function])}
    pids = [pid for pid in os.listdir("/proc") if pid.isdecimal()]
    opened = sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids if os.access(f"/proc/{pid}/fd", os.R_OK))
    print(f"population  {len(pids)} processes, {opened} files, {(before - memory()) >> 10} MiB for it")
    print(f"found       {len(ours)} that have {node} open")
    times = {"hostler": [timed(lambda: holders(files, [function])) for _ in range(ROUNDS)]}
    for program, command in (("lsof", ["lsof", "-t", node]), ("fuser", ["fuser", node])):
        if shutil.which(program) is None:
            print(f"{program:<11} is not installed here")
            continue
        theirs = asked(command)
        agrees = "the same" if theirs == ours else f"others: {sorted(theirs ^ ours)}"
        times[program] = [timed(lambda: asked(command)) for _ in range(ROUNDS)]  # noqa: B023
        print(f"{program:<11} finds {agrees}")
    mine = statistics.median(times["hostler"])
    for name, its in times.items():
        median = statistics.median(its)
        print(
            f"{name:<11} median of {ROUNDS} {median:.0f} ms, {median / mine:.2f} x hostler, worst {max(its):.0f} ms"
        )


def asked(command: Sequence[str]) -> set[int]:
    answer = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return {int(word) for word in answer.split()}


if __name__ == "__main__":
    main()
