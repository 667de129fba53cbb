"""Verbs that run `hostlerd offline`: found, missing, failing."""

import sys
from pathlib import Path

import pytest

from hostler.cli import offline

PLAN = '{"steps": [], "refusals": [{"object": "d", "reason": "r", "remedy": "m"}], "converged": false}'


@pytest.fixture
def hostlerd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Puts a program in hostlerd's place: a shell script."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setattr(sys, "argv", [str(folder / "hostler")])

    def write(script: str, name: str = "hostlerd") -> Path:
        program = folder / name
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        return program

    return write


@pytest.mark.parametrize(
    ("words", "passed"),
    [
        (["cpus", "--root", "R"], "offline cpus --root R"),
        (["devices", "--all", "--root=R"], "offline devices --root R"),
        (["plan", "--root", "R"], "offline plan --root R"),
        (["plan", "--root", "R", "--domain", "d.xml"], "offline plan --root R --domain d.xml"),
        (
            ["plan", "--root", "R", "--xml", "a.xml", "b.xml", "--policy", "p.toml"],
            "offline plan --root R --policy p.toml --xml a.xml b.xml",
        ),
        (["domains", "--xml", "a.xml", "b.xml", "--json"], "offline domains --xml a.xml b.xml"),
        (["domains", "--xml", "a.xml", "--xml", "b.xml"], "offline domains --xml a.xml b.xml"),
    ],
)
def test_what_is_passed_on(hostler, hostlerd, words: list[str], passed: str) -> None:
    hostlerd('echo "$@" >&2')
    ran = hostler(*words)
    assert (ran.status, ran.out, ran.err) == (0, "", passed + "\n")


def test_json_passes_through_and_text_is_rendered(hostler, hostlerd) -> None:
    hostlerd(f"echo '{PLAN}'; echo 'hostlerd: a sentence' >&2; exit 4")
    ran = hostler("plan", "--root", "R", "--json")
    assert (ran.status, ran.out, ran.err) == (4, PLAN + "\n", "hostlerd: a sentence\n")
    ran = hostler("plan", "--root", "R")
    assert ran.status == 4
    assert "d: r" in ran.out


def test_an_error_in_json_is_no_text(hostler, hostlerd) -> None:
    hostlerd('echo \'{"error": {"name": "x"}}\'; exit 1')
    assert hostler("cpus", "--root", "R").out == ""
    assert hostler("cpus", "--root", "R", "--json").json == {"error": {"name": "x"}}


def test_files_that_are_no_domains_are_hostlerd_s_to_tell(hostler, hostlerd) -> None:
    hostlerd('echo \'[{"file": "a", "name": "n"}, {"file": "b", "error": "no domain"}]\'; exit 1')
    ran = hostler("domains", "--xml", "a", "b")
    assert ran.status == 1
    assert [line.split()[0] for line in ran.out.splitlines()] == ["NAME", "n"]
    hostlerd('echo \'[{"file": "b", "error": "no domain"}]\'; echo "hostlerd: b: no domain" >&2; exit 1')
    ran = hostler("domains", "--xml", "b")
    assert (ran.status, ran.out, ran.err) == (1, "", "hostlerd: b: no domain\n")


@pytest.mark.parametrize("script", ["echo nonsense", "kill -9 $$", "echo '[\"a\"]'", "echo 5"])
def test_a_hostlerd_that_fails_is_no_traceback(hostler, hostlerd, script: str) -> None:
    hostlerd(script)
    ran = hostler("cpus", "--root", "R")
    assert ran.status == 7
    assert ran.err.startswith("hostler: ")


def test_a_hostlerd_that_does_not_start(hostler, hostlerd) -> None:
    program = hostlerd("")
    program.write_text("#!/nowhere/at/all\n")
    ran = hostler("cpus", "--root", "R")
    assert ran.status == 3
    assert "cannot be started" in ran.err


def test_without_the_daemon_package(hostler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offline, "find", lambda: None)
    ran = hostler("devices", "--root", "R", "--json")
    assert ran.status == 3
    assert "needs the daemon package" in ran.err
    assert ran.json["error"]["remedy"].startswith("install hostlerd")


def test_it_is_looked_for_beside_us_then_on_path_then_as_a_module(
    hostlerd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    beside = hostlerd("")
    assert offline.find() == [str(beside)]

    on_path = tmp_path / "path" / "hostlerd"
    on_path.parent.mkdir()
    beside.rename(on_path)
    monkeypatch.setenv("PATH", str(on_path.parent))
    assert offline.find() == [str(on_path)]

    monkeypatch.setenv("PATH", "/nowhere")
    assert offline.find() == ["/nowhere/python", "-m", "hostlerd"]
    monkeypatch.setattr(offline, "find_spec", lambda _name: None)
    assert offline.find() is None
