"""`hostlerd offline`, as a program and as a function."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.unit.daemon.observe.recorded import shared

from hostlerd import offline
from hostlerd.host.simulated.host import SimulatedHost
from hostlerd.observe.domain_xml import parse_domain

TREE = Path(__file__).parents[3]
GPU = "0000:01:00.0"
WIN11 = """<domain type='kvm'><name>win11</name><vcpu>4</vcpu><devices><hostdev type='pci' managed='yes'><source>
<address bus='1'/></source></hostdev></devices></domain>"""


class Ran(NamedTuple):
    status: int
    json: Any
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def one(*words: str | Path) -> Ran:
        status = offline.main([str(word) for word in words])
        out, err = capsys.readouterr()
        return Ran(status, json.loads(out) if out else None, err)

    return one


@pytest.fixture
def desktop(tmp_path: Path) -> Path:
    """The simulated desktop, recorded in a folder."""
    host = SimulatedHost("desktop", parse=parse_domain)
    host.files.save(str(tmp_path / "desktop"))
    return tmp_path / "desktop"


@pytest.fixture
def win11(tmp_path: Path) -> Path:
    path = tmp_path / "win11.xml"
    path.write_text(WIN11)
    return path


def test_cpus(run: Run, desktop: Path) -> None:
    ran = run("cpus", "--root", desktop)
    assert (ran.status, ran.err) == (0, "")
    assert ran.json["online"] == sorted(ran.json["online"]) != []


def test_devices_have_owners_and_companions(run: Run, desktop: Path) -> None:
    ran = run("devices", "--root", desktop)
    assert ran.status == 0
    devices = {device["address"]: device for device in ran.json}
    assert devices[GPU]["owner"]["kind"] == "host"
    assert devices[GPU]["companions"] == [f"0000:01:00.{n}" for n in (1, 2, 3)]


def test_the_plan_of_a_host_at_rest_is_empty(run: Run, desktop: Path) -> None:
    assert run("plan", "--root", desktop) == Ran(0, {"steps": [], "refusals": [], "converged": True}, "")


def test_the_plan_of_a_start(run: Run, desktop: Path, win11: Path) -> None:
    for words in (["--xml", win11], ["--domain", win11], ["--xml", win11, "--domain", "win11"]):
        ran = run("plan", "--root", desktop, *words)
        assert ran.status == 0
        assert not ran.json["converged"]
        assert {step["object"] for step in ran.json["steps"] if step["kind"] == "unbind"} >= {GPU}
        [placement] = ran.json["placements"]
        assert (placement["domain"], placement["mode"], len(placement["vcpus"])) == ("win11", "dedicated", 4)
        assert placement["terms"][0]["reached"] == "each of its 4 vCPUs"


def test_a_domain_of_the_recorded_host_is_found_by_name(run: Run, desktop: Path) -> None:
    (desktop / "etc/libvirt/qemu").mkdir(parents=True)
    (desktop / "etc/libvirt/qemu/win11.xml").write_text(WIN11)
    assert run("plan", "--root", desktop, "--domain", "win11").json["steps"] != []
    for name in ("other", "../qemu/win11"):
        ran = run("plan", "--root", desktop, "--domain", name)
        assert (ran.status, ran.json["error"]["name"]) == (1, "org.hostler1.Error.BadInput")


def test_a_policy_counts_and_a_wrong_one_is_refused(run: Run, desktop: Path, tmp_path: Path) -> None:
    policy = tmp_path / "hostler.toml"
    policy.write_text(f"[[device]]\nname = 'g'\nmatch = {{ address = '{GPU}' }}\nwhen_idle = 'vfio'\n")
    assert run("plan", "--root", desktop, "--policy", policy).json["steps"] != []
    policy.write_text("[hots]\n")
    ran = run("plan", "--root", desktop, "--policy", policy)
    assert (ran.status, "hots" in ran.err) == (1, True)
    assert run("plan", "--root", desktop, "--policy", tmp_path / "none.toml").status == 1


def test_a_refused_start_is_status_4(run: Run, desktop: Path, tmp_path: Path) -> None:
    path = tmp_path / "two.xml"
    path.write_text(WIN11.replace("bus='1'", "bus='0x77'"))
    ran = run("plan", "--root", desktop, "--xml", path)
    assert ran.status == 4
    assert ran.json["refusals"][0]["object"]


@pytest.mark.parametrize("verb", ["cpus", "devices", "plan"])
@pytest.mark.parametrize("content", [None, b"", b"no tar"])
def test_a_root_that_is_none(run: Run, tmp_path: Path, verb: str, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "root").write_bytes(content)
    ran = run(verb, "--root", tmp_path / "root")
    assert ran.status == 1
    assert ran.json["error"]["name"] == "org.hostler1.Error.BadInput"
    assert ran.err.startswith(f"hostlerd: {tmp_path / 'root'}")
    assert ran.err.count("\n") == 1


def test_devices_need_no_processors(run: Run, tmp_path: Path) -> None:
    (tmp_path / "sys/bus/pci/devices" / GPU).mkdir(parents=True)
    (tmp_path / "sys/bus/pci/devices" / GPU / "class").write_text("0x030000\n")
    assert run("devices", "--root", tmp_path).json[0]["address"] == GPU
    assert run("cpus", "--root", tmp_path).status == 1


def test_domains_lists_every_file(run: Run, win11: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.xml"
    wrong.write_text(WIN11.replace("<vcpu>4", "<vcpu>four"))
    ran = run("domains", "--xml", wrong, win11, tmp_path / "nowhere.xml")
    assert ran.status == 1
    assert [one["file"] for one in ran.json] == [str(wrong), str(win11), str(tmp_path / "nowhere.xml")]
    assert ran.json[0] == {"file": str(wrong), "error": "<vcpu>: the count 'four' is not a number"}
    assert ran.json[1]["gpu"] == "passthrough"
    assert "error" in ran.json[2]
    assert ran.err.count("\n") == 2
    assert run("domains", "--xml", win11).status == 0


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["nothing"],
        ["cpus"],
        ["cpus", "--root"],
        ["domains"],
        ["cpus", "--root", "/", "--no"],
        ["--root", "/"],
    ],
)
def test_usage(run: Run, words: list[str]) -> None:
    ran = run(*words)
    assert (ran.status, ran.json) == (2, None)
    assert ran.err.startswith("usage: hostlerd offline")


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert offline.main(["--help"]) == 0
    assert "recorded hosts" in capsys.readouterr().out


def python(*words: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(str(TREE / folder) for folder in ("daemon", "client"))
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, check=False, env=environment
    )


def test_it_starts_without_what_only_the_daemon_needs() -> None:
    done = python(
        "-c",
        "import sys, hostlerd.offline\n"
        "heavy = {'trio', 'libvirt', 'dbus_next', 'dbus_fast', 'asyncio', 'pyudev', 'msgpack'}\n"
        "print(sorted(heavy & set(sys.modules)))",
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_this_machine_as_a_program() -> None:
    done = python("-m", "hostlerd", "offline", "cpus", "--root", "/")
    assert (done.returncode, done.stderr) == (0, "")
    assert (
        len(json.loads(done.stdout)["online"])
        == len(Path("/proc/cpuinfo").read_text().split("processor\t")) - 1
    )


def test_a_reader_that_goes_away_is_no_fault() -> None:
    command = [
        sys.executable,
        "-c",
        "import sys\nfrom hostlerd import offline\nsys.exit(offline.main(sys.argv[1:]))",
    ]
    path = os.pathsep.join(str(TREE / folder) for folder in ("daemon", "client"))
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [*command, "cpus", "--root", "/"],
        stdout=write,
        stderr=subprocess.PIPE,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


def test_every_recorded_host(run: Run) -> None:
    for path in sorted(shared("topologies").iterdir()):
        for verb in ("cpus", "devices", "plan"):
            assert run(verb, "--root", path).status == 0
