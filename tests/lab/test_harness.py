"""The lab's own parts, without a guest: what a wrong one would hide."""

import json
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from threading import Thread

import pytest

from lab import hardware, image, recipe, stage
from lab.boots import Outcome, Result
from lab.guest import attempts, cpus, jobs, programs, service, snapshot
from lab.guest.domains import HALTING, Domain
from lab.guest.groups import GROUPS
from lab.guest.report import Report, scenario
from lab.qmp import Qmp, QmpError

pytestmark = pytest.mark.main


def test_a_check_that_was_never_answered_is_red(tmp_path: Path) -> None:
    outcome = Outcome(folder=str(tmp_path), errors={"one": "Traceback"}, failure="hung")
    outcome.results["one", "first"] = Result(ok=True, detail="")
    outcome.results["two", "first"] = Result(ok=False, detail="found 1")
    assert outcome.result("one", "first").ok
    assert not outcome.result("one", "second").ok
    assert "Traceback" in outcome.result("one", "second").detail
    assert "found 1" in outcome.result("two", "first").detail
    assert "hung" in outcome.result("three", "first").detail


def test_a_check_must_be_named(tmp_path: Path) -> None:
    report = Report(scenario="s", names=("named",), path=str(tmp_path / "results"))
    report.check("named", ok=True)
    with pytest.raises(KeyError):
        report.check("other", ok=True)
    with pytest.raises(ValueError, match="twice"):
        scenario("same", "same")


def test_scenarios_are_told_apart() -> None:
    for group in GROUPS.values():
        names = [found.__name__ for found in group.scenarios]
        assert len(names) == len(set(names))
        assert {found.phase for found in group.scenarios} == set(range(1, group.phases + 1))


def test_recipe_has_a_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    before = recipe.fingerprint("bookworm")
    assert before != recipe.fingerprint("trixie")
    monkeypatch.setitem(recipe.FILES, "etc/hostname", "other\n")
    assert recipe.fingerprint("bookworm") != before


def test_a_changed_module_makes_a_new_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert {"labgpu/Kbuild", "labgpu/labgpu.c", "labvfio/Kbuild", "labvfio/labvfio.c"} <= set(
        recipe.module_sources()
    )
    before = recipe.fingerprint("bookworm")
    shutil.copytree(recipe.MODULES, tmp_path / "modules")
    monkeypatch.setattr(recipe, "MODULES", str(tmp_path / "modules"))
    assert recipe.fingerprint("bookworm") == before
    with (tmp_path / "modules/labgpu/labgpu.c").open("a") as file:
        file.write("/* changed */\n")
    assert recipe.fingerprint("bookworm") != before


def test_images_of_other_recipes_take_turns(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOSTLER_CACHE", str(tmp_path))
    kept = []
    for age in range(image.KEPT + 1):
        folder = tmp_path / f"lab/bookworm-{age:012x}"
        folder.mkdir(parents=True)
        os.utime(folder, (1000 - age, 1000 - age))
        kept.append(folder)
    other, dead = tmp_path / "lab/trixie-000000000000", tmp_path / "lab/bookworm-building-x"
    other.mkdir()
    dead.mkdir()
    image.remove_old("bookworm")
    assert [folder.exists() for folder in kept] == [True] * (image.KEPT - 1) + [False] * 2
    assert other.exists()
    assert not dead.exists()


def test_only_ovmf_leaves_the_screen_to_the_firmware() -> None:
    plain, efi = hardware.arguments("seabios"), hardware.arguments("ovmf")
    assert not any("pflash" in word for word in plain)
    assert any(hardware.OVMF_CODE in word for word in efi)
    assert "modprobe.blacklist=bochs" in efi[-1]
    assert "bochs" not in plain[-1]


def test_what_does_not_end_is_not_waited_for() -> None:
    # A child keeps the pipe open after the kill, as a process does that no signal reaches.
    began = time.monotonic()
    done = programs.run("sh", "-c", "sleep 20 & wait", limit=0.2)
    assert not done.ok
    assert "longer than" in done.err
    assert time.monotonic() - began < 10


def test_attempts_are_left_alone(tmp_path: Path) -> None:
    fifo = str(tmp_path / "fifo")
    os.mkfifo(fifo)
    (tmp_path / "file").write_text("text")
    assert attempts.stuck([fifo, str(tmp_path / "file")], 0.5) == [fifo]
    attempt = attempts.write(str(tmp_path / "absent/file"), "text")
    assert attempt.ends(10)
    assert attempt.status
    assert "absent" in attempt.printed
    writing = attempts.write(fifo, "text")
    assert not writing.ends(0.2)
    assert writing.state() == "S"
    writing.kill()
    assert writing.ends(10)


def test_cpu_lists() -> None:
    assert cpus.parse("0-2,7\n") == {0, 1, 2, 7}
    assert cpus.parse("\n") == frozenset()


def test_siblings_are_asked_for_only_where_the_guest_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpus, "siblings", lambda cpu: frozenset({cpu & ~1, cpu | 1}))

    def pinned(*where: int) -> cpus.Threads:
        vcpus = {vcpu: frozenset({cpu}) for vcpu, cpu in enumerate(where)}
        return cpus.Threads(vcpus=vcpus, emulator=frozenset(), iothreads={}, others={})

    assert jobs.siblings_kept(pinned(2, 3, 6, 7), 2)
    assert not jobs.siblings_kept(pinned(2, 4, 3, 5), 2)
    assert jobs.siblings_kept(pinned(2, 4), 1)
    assert not pinned(2, 2).single


def test_snapshots_tell_every_difference() -> None:
    before = snapshot.Snapshot(
        drivers={"a": "x"}, overrides={"a": "(null)\n"}, slices={"system.slice": [0, 1]}
    )
    after = snapshot.Snapshot(drivers={}, overrides={"a": "\n"}, slices={"system.slice": [0]})
    assert len(before.differences(after)) == 3
    assert not before.differences(snapshot.Snapshot.from_json(before.to_json()))


def test_kill_waits_for_its_step(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    journal.write_text('{"begin": 1, "kind": "unbind", "object": "old"}\n')
    victim = subprocess.Popen(["sleep", "60"])
    monkeypatch.setattr(service, "JOURNAL", str(journal))
    monkeypatch.setattr(service, "pid", lambda: victim.pid)
    try:
        with service.KillAt("unbind", at="end"), journal.open("a") as file:
            for line in ('{"begin": 2, "kind": "probe"}', '{"begin": 3, "kind": "unbind"}', '{"end": 2}'):
                file.write(line + "\n")
            file.flush()
            with pytest.raises(subprocess.TimeoutExpired):
                victim.wait(0.2)
            file.write('{"end": 3}\n')
            file.flush()
            assert victim.wait(10) == -9
    finally:
        victim.kill()
        victim.wait()


def test_qmp_answers_and_refuses(tmp_path: Path) -> None:
    path = str(tmp_path / "qmp")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        serving = Thread(target=_serve, args=(server,))
        serving.start()
        with Qmp(path) as qmp:
            assert qmp.execute("query-status") == {"status": "running"}
            with pytest.raises(QmpError, match="no such slot"):
                qmp.execute("device_add", bus="rp9")
        serving.join()


def _serve(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection, connection.makefile("rwb") as file:
        file.write(b'{"QMP": {}}\n')
        file.flush()
        answers: dict[str, object] = {
            "qmp_capabilities": {"return": {}},
            "query-status": {"return": {"status": "running"}},
            "device_add": {"error": {"desc": "no such slot"}},
        }
        for line in file:
            file.write(b'{"event": "NIC_RX_FILTER_CHANGED"}\n')
            file.write(json.dumps(answers[json.loads(line)["execute"]]).encode() + b"\n")
            file.flush()


def test_files_reach_the_disk(tmp_path: Path) -> None:
    folder, disk = tmp_path / "stage", tmp_path / "disk.img"
    (folder / "usr/bin").mkdir(parents=True)
    (folder / "usr/bin/tool").write_text("#!/bin/sh\n")
    (folder / "usr/bin/tool").chmod(0o755)
    (folder / "etc/wants").mkdir(parents=True)
    os.symlink("/usr/bin/tool", folder / "etc/wants/tool")
    path = {"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}
    subprocess.run(["mke2fs", "-q", "-t", "ext4", disk, "8M"], env=path, check=True)
    stage.install(str(folder), str(disk))
    shown = subprocess.run(
        ["debugfs", "-R", "stat /usr/bin/tool", disk], env=path, capture_output=True, text=True, check=True
    )
    assert "Mode:  0755" in shown.stdout
    assert "User:     0" in shown.stdout


def test_domain_xml_says_only_what_was_asked() -> None:
    xml = Domain(name="d", vcpus=4, threads=2, hostdevs=("0000:07:02.1",)).xml()
    assert "bus='0x07' slot='0x02' function='0x1'" in xml
    assert "cores='2' threads='2'" in xml
    assert "vcpupin" not in xml
    assert "iothreads" not in xml


def test_the_firmware_halts_at_the_reset_vector() -> None:
    assert len(HALTING) == 65536
    assert HALTING[-16:-12] == b"\xfa\xf4\xeb\xfd"  # cli; hlt; jump to the hlt
