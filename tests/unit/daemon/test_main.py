"""The daemon as a process, on the simulated host: start, answer, read the policy again, stop, start again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hostler.connection import Connection
from hostler.errors import BadInput, HostFailed, Refused, Unreachable
from hostlerd.host.simulated.guests import domain

GPU = "0000:01:00.0"
LIMIT = 20.0
ROOT = Path(__file__).parents[3]


def call(runtime: Path, method: str, **params: object) -> dict:
    with Connection(str(runtime / "hostler.sock")) as connection:
        return connection.call(method, params)


def start(runtime: Path, host: str = "desktop") -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'daemon'}:{ROOT / 'client'}"}
    process = subprocess.Popen(
        [sys.executable, "-m", "hostlerd", "--sim", host, "--runtime", str(runtime)],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if call(runtime, "status")["pass"]:
                break
        except Unreachable:
            pass
        time.sleep(0.05)
    return process


def end(process: subprocess.Popen[str], number: int = signal.SIGTERM) -> tuple[int, str]:
    process.send_signal(number)
    _, errors = process.communicate(timeout=LIMIT)
    return process.returncode, errors


@contextmanager
def daemon(runtime: Path, host: str = "desktop") -> Iterator[subprocess.Popen[str]]:
    process = start(runtime, host)
    try:
        yield process
    finally:
        if process.poll() is None:
            end(process, signal.SIGKILL)


def test_it_answers_and_stops_when_asked(tmp_path: Path):
    with daemon(tmp_path) as process:
        assert call(tmp_path, "status")["state"] == "converged"
        assert call(tmp_path, "plan")["converged"]
        status, errors = end(process)
    assert status == 0
    assert "Traceback" not in errors


def test_two_daemons_do_not_share_a_runtime_directory(tmp_path: Path):
    with daemon(tmp_path):
        second = subprocess.run(
            [sys.executable, "-m", "hostlerd", "--sim", "--runtime", str(tmp_path)],
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
            env={**os.environ, "PYTHONPATH": f"{ROOT / 'daemon'}:{ROOT / 'client'}"},
        )
        assert second.returncode == 1
        assert "another hostlerd uses" in second.stderr


def test_the_main_job_survives_a_kill_while_the_domain_runs(tmp_path: Path):
    with daemon(tmp_path) as process:
        before = call(tmp_path, "simulate", action="show")
        call(tmp_path, "simulate", action="define", xml=domain("win11", hostdevs=[GPU]))
        call(tmp_path, "simulate", action="start", name="win11")
        end(process, signal.SIGKILL)
    with daemon(tmp_path):
        assert call(tmp_path, "status")["state"] in ("converged", "working")
        owner = next(d["owner"] for d in call(tmp_path, "devices")["devices"] if d["address"] == GPU)
        assert owner == {"kind": "domain", "who": "win11"}
        call(tmp_path, "simulate", action="stop", name="win11")
        after = call(tmp_path, "simulate", action="show")
        assert after["devices"] == before["devices"]
        assert after["slices"] == before["slices"]


def test_a_card_that_is_pulled_out_from_under_its_domain_is_said_to_whoever_asks(tmp_path: Path):
    """On this kernel no event tells of it before the domain lets go."""
    with daemon(tmp_path):
        call(tmp_path, "simulate", action="define", xml=domain("win11", hostdevs=[GPU]))
        call(tmp_path, "simulate", action="start", name="win11")
        status = call(tmp_path, "status")
        assert status["sleep"] == {"refused": True, "why": f"win11 has {GPU}"}
        deadline = time.monotonic() + LIMIT
        while call(tmp_path, "status")["state"] != "converged" and time.monotonic() < deadline:
            time.sleep(0.05)  # while a pass is under way one is told what the last one saw
        with pytest.raises(HostFailed, match="the kernel waits"):
            call(tmp_path, "simulate", action="unplug", address=GPU)
        (refusal,) = call(tmp_path, "status")["refusals"]
        assert refusal["remedy"] == "stop win11"
        call(tmp_path, "simulate", action="stop", name="win11")
        deadline = time.monotonic() + LIMIT
        while (status := call(tmp_path, "status"))["refusals"] and time.monotonic() < deadline:
            time.sleep(0.05)
        assert status["refusals"] == []
        assert status["sleep"] == {"refused": False, "why": None}


def test_a_refusal_reaches_virsh_in_our_words(tmp_path: Path):
    with daemon(tmp_path):
        call(tmp_path, "simulate", action="define", xml=domain("router", hostdevs=["0000:05:00.0"]))
        with pytest.raises(HostFailed, match=r"0000:06:00\.0.*is in IOMMU group.*and is the host's"):
            call(tmp_path, "simulate", action="start", name="router")


def test_a_broken_policy_never_replaces_one_in_force(tmp_path: Path):
    policy = tmp_path / "hostler.toml"
    policy.write_text(
        '[[device]]\nname = "gaming"\nmatch = { address = "0000:01:00.0" }\nwhen_idle = "vfio"\n'
    )
    with daemon(tmp_path) as process:
        owned = {d["address"]: d["owner"]["kind"] for d in call(tmp_path, "devices")["devices"]}
        assert owned[GPU] == "idle"
        policy.write_text('[[device]]\nname = "gaming"\nwhen_idel = "host"\n')
        with pytest.raises(BadInput, match=r"hostler\.toml:3: unknown key .when_idel."):
            call(tmp_path, "reload")
        process.send_signal(signal.SIGHUP)
        assert call(tmp_path, "status")["state"] == "converged"
        owned = {d["address"]: d["owner"]["kind"] for d in call(tmp_path, "devices")["devices"]}
        assert owned[GPU] == "idle"
        policy.unlink()
        assert call(tmp_path, "reload") == {"changed": True}
        deadline = time.monotonic() + LIMIT
        while time.monotonic() < deadline:
            owned = {d["address"]: d["owner"]["kind"] for d in call(tmp_path, "devices")["devices"]}
            if owned[GPU] == "host":
                break
        assert owned[GPU] == "host"


def test_a_broken_policy_at_the_start_is_said_and_nothing_is_bound(tmp_path: Path):
    (tmp_path / "hostler.toml").write_text("[host\n")
    with daemon(tmp_path):
        status = call(tmp_path, "status")
        assert status["state"] == "degraded"
        assert status["degraded"][0]["object"] == "policy"
        (tmp_path / "hostler.toml").write_text("")
        call(tmp_path, "reload")


def test_requests_that_make_no_sense_are_answered(tmp_path: Path):
    with daemon(tmp_path):
        for method, params, error in (
            ("nonsense", {}, BadInput),
            ("retry", {"object": "0000:99:00.0"}, BadInput),
            ("retry", {}, BadInput),
            ("prepare", {"name": "x", "xml": "<domain"}, BadInput),
            ("prepare", {"name": "x", "xml": 7}, BadInput),
            ("domains", {"name": "nobody"}, BadInput),
            ("plan", {"domain": "nobody"}, BadInput),
        ):
            with pytest.raises(error):
                call(tmp_path, method, **params)
        xml = domain("alien", hostdevs=["0000:99:00.0"]).replace(
            "<memory", "<uuid>11111111-1111-1111-1111-111111111111</uuid><memory"
        )
        with pytest.raises(Refused, match="no such PCI function"):
            call(tmp_path, "prepare", name="alien", xml=xml)
        deadline = time.monotonic() + LIMIT  # the answer comes while the pass is still under way
        while call(tmp_path, "status")["state"] != "converged" and time.monotonic() < deadline:
            time.sleep(0.05)
        assert call(tmp_path, "status")["state"] == "converged"


def test_a_release_with_broken_xml_still_ends_the_claim(tmp_path: Path):
    with daemon(tmp_path):
        xml = domain("win11", hostdevs=[GPU]).replace(
            "<memory", "<uuid>11111111-1111-1111-1111-111111111111</uuid><memory"
        )
        assert GPU in call(tmp_path, "prepare", name="win11", xml=xml)["devices"]
        call(tmp_path, "release", name="win11", xml="<domain")
        owners = {d["address"]: d["owner"]["kind"] for d in call(tmp_path, "devices")["devices"]}
        assert owners[GPU] == "host"


def test_offline_needs_nothing_but_msgpack():
    """The base wheel alone reads recorded hosts: no trio, libvirt, udev or bus is imported."""
    program = (
        "import sys\n"
        "from hostlerd.__main__ import main\n"
        "assert main(['offline', 'cpus', '--root', '/']) == 0\n"
        "heavy = {'trio', 'libvirt', 'pyudev', 'dbus_next', 'dbus_fast', 'systemd.daemon'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'daemon'}:{ROOT / 'client'}"},
    )
    assert done.returncode == 0, done.stderr


def test_sim_needs_a_place_of_its_own():
    done = subprocess.run(
        [sys.executable, "-m", "hostlerd", "--sim"],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'daemon'}:{ROOT / 'client'}"},
    )
    assert done.returncode == 2
    assert "--runtime" in done.stderr


def test_doctor_sees_what_the_daemon_sees_by_the_policy_in_force(tmp_path: Path):
    with daemon(tmp_path):
        call(tmp_path, "simulate", action="define", xml=domain("win11", hostdevs=[GPU], cores=2, threads=2))
        found = _until(
            lambda: call(tmp_path, "doctor"), lambda found: "=1-2,9-10 " in found["command_line"]["realtime"]
        )
        assert found["state"] == "fine"
        assert {row["id"]: row["severity"] for row in found["findings"]}["daemon"] == "ok"
        assert "nohz_full=1-2,9-10 " in found["command_line"]["realtime"]
        assert found["command_line"]["how"][1] == "update-grub"
        (tmp_path / "hostler.toml").write_text(
            '[domains]\nprofile = "realtime"\n[host]\nhousekeeping = { cpus = "1" }\n'
        )
        call(tmp_path, "reload")
        found = call(tmp_path, "doctor")
        # One core more than with the other profiles: in a partition the emulator has one of its own.
        assert "nohz_full=2,4-5,10,12-13 " in found["command_line"]["realtime"]
        assert "realtime" in {row["id"] for row in found["findings"]}


def _until(ask: Callable[[], dict], enough: Callable[[dict], object]) -> dict:
    """The answer, once it is enough: libvirt's snapshot comes a moment after the definition."""
    deadline = time.monotonic() + LIMIT
    while not enough(found := ask()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found
