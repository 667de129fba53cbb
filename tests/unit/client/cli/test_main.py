"""Verbs, usage, exit statuses, and what goes to which stream."""

import os
import pty
import signal
import subprocess
import sys
import termios
from pathlib import Path

import pytest

import hostler
from hostler import cli
from hostler.errors import DBUS_PREFIX, TABLE, HostlerError

STATUS = {
    "version": "1",
    "state": "converged",
    "pass": 3,
    "devices": [],
    "domains": [],
    "isolation": {"cpus": [2, 3], "for": ["win11"]},
    "degraded": [],
}
READING = ("status", "devices", "cpus", "domains", "plan")
CLIENT = str(Path(hostler.__file__).parents[1])


def start(*words: str, **options) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "PYTHONPATH": CLIENT}
    return subprocess.Popen([sys.executable, "-m", "hostler", *words], env=environment, **options)


def test_version(hostler) -> None:
    ran = hostler("--version")
    assert (ran.status, ran.out) == (0, f"hostler {cli.__version__}\n")


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["help"]])
def test_help_names_every_verb(hostler, words: list[str]) -> None:
    ran = hostler(*words)
    assert ran.status == 0
    assert all(f"\n  {verb} " in ran.out for verb in cli.VERBS)


@pytest.mark.parametrize("verb", cli.VERBS)
@pytest.mark.parametrize("form", [["{}", "--help"], ["help", "{}"], ["--help", "{}"]])
def test_every_verb_has_help(hostler, no_daemon: str, verb: str, form: list[str]) -> None:
    ran = hostler(*(word.format(verb) for word in form))
    assert ran.status == 0
    assert ran.out.startswith(f"usage: hostler {verb}")
    assert all(len(line) <= 120 for line in ran.out.splitlines())


def test_nothing_is_answered_with_the_help_and_2(hostler) -> None:
    ran = hostler()
    assert (ran.status, ran.out) == (2, "")
    assert "usage:" in ran.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["statsu"], "did you mean `status`?"),
        (["domain"], "did you mean `domains`?"),
        (["xyzzy"], "see `hostler --help`"),
        (["help", "paln"], "did you mean `plan`?"),
        (["status", "--jsn"], "did you mean `--json`?"),
        (["--sock", "x", "status"], "did you mean `--socket`?"),
        (["plan", "--domian", "x"], "did you mean `--domain`?"),
        (["status", "-x"], "see --help"),
        (["plan", "--domain"], "write `--domain NAME`"),
        (["plan", "--domain", "--json"], "write `--domain NAME`"),
        (["status", "--json=yes"], "write `--json` alone"),
        (["status", "extra"], "`extra` is one word too many"),
        (["retry"], "needs OBJECT"),
        (["simulate"], "needs ACTION"),
        (["simulate", "start", "win11"], "write `name=value`"),
        (["simulate", "start", "action=stop"], "write `name=value`"),
        (["domains", "--xml"], "write `--xml FILE`"),
        (["domains", "win11", "--xml", "f"], "do not go together"),
        (["plan", "--policy", "p.toml"], "--policy goes with --root"),
        (["cpus", "--what-if"], "write `--what-if NAME`"),
        (["cpus", "--what-if", "win11", "--root", "/"], "--what-if does not go with --root"),
        (["hook", "win11"], "needs OPERATION"),
        (["hook", "--deadline", "soon", "d", "prepare", "begin"], "no number of seconds"),
        (["hook", "--deadline", "-1", "d", "prepare", "begin"], ""),
    ],
)
def test_wrong_usage_is_2_and_says_what_would_be_right(
    hostler, no_daemon: str, words: list[str], says: str
) -> None:
    ran = hostler(*words)
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith("hostler: ")
    assert ran.err.count("\n") == 1
    assert says in ran.err


@pytest.mark.parametrize("verb", [*READING, "watch", "reload"])
def test_no_daemon_is_3(hostler, no_daemon: str, verb: str) -> None:
    ran = hostler(verb)
    assert (ran.status, ran.out) == (3, "")
    assert ran.err.startswith("hostler: the daemon is not running")
    assert "systemctl start hostler.socket" in ran.err


def test_with_json_an_error_is_json_too(hostler, no_daemon: str) -> None:
    ran = hostler("status", "--json")
    assert ran.status == 3
    assert ran.json["error"]["name"] == DBUS_PREFIX + "Unreachable"
    assert ran.err.startswith("hostler: ")


@pytest.mark.parametrize("kind", TABLE)
def test_errors_have_the_exit_status_of_the_table(hostler, daemon, kind: type[HostlerError]) -> None:
    daemon.answers["status"] = kind("what\nnot", remedy="do this")
    ran = hostler("status")
    assert (ran.status, ran.out) == (TABLE[kind][0], "")
    assert ran.err == "hostler: what not; do this\n"


@pytest.mark.parametrize("form", [["--socket", "{}", "status"], ["status", "--socket={}"]])
def test_the_socket_may_be_named(hostler, daemon, monkeypatch: pytest.MonkeyPatch, form: list[str]) -> None:
    monkeypatch.setenv("HOSTLER_SOCKET", "/nowhere")
    daemon.answers["status"] = STATUS
    assert hostler(*(word.format(daemon.path) for word in form)).status == 0


@pytest.mark.parametrize(("state", "status"), [("converged", 0), ("working", 0), ("degraded", 7)])
def test_status_says_with_its_exit_status_whether_a_person_must_look(
    hostler, daemon, state: str, status: int
) -> None:
    daemon.answers["status"] = {**STATUS, "state": state}
    ran = hostler("status", "--json")
    assert (ran.status, ran.json) == (status, {**STATUS, "state": state})
    assert hostler("status").out.startswith(state)


def test_json_is_one_line_where_no_person_reads(hostler, daemon) -> None:
    daemon.answers["status"] = STATUS
    assert hostler("--json", "status").out.count("\n") == 1


@pytest.mark.parametrize("verb", READING)
def test_an_answer_in_another_shape_is_a_fault_and_no_traceback(hostler, daemon, verb: str) -> None:
    daemon.answers[verb] = ["nonsense"]
    ran = hostler(verb)
    assert ran.status == 7
    assert "of one version" in ran.err


def test_devices_are_a_list_in_json(hostler, daemon) -> None:
    device = {"address": "0000:00:1f.0", "class": "0x060100", "owner": {"kind": "host", "who": ""}}
    daemon.answers["devices"] = {"devices": [device]}
    assert hostler("devices", "--json").json == [device]
    assert "0000:00:1f.0" not in hostler("devices").out
    assert "0000:00:1f.0" in hostler("devices", "--all").out


def test_domains_are_asked_for_by_name(hostler, daemon) -> None:
    daemon.answers["domains"] = {"domains": [{"name": "win11", "state": "running"}]}
    assert "win11" in hostler("domains").out
    assert hostler("domains", "win11").out.startswith("win11: running")
    assert hostler("domains", "--json", "win11").json[0]["name"] == "win11"
    assert [params for _, params in daemon.asked] == [{}, {"name": "win11"}, {"name": "win11"}]


@pytest.mark.parametrize(
    ("refusals", "status"), [([], 0), ([{"object": "d", "reason": "r", "remedy": "m"}], 4)]
)
def test_a_start_that_is_thought_of(hostler, daemon, refusals: list[object], status: int) -> None:
    what_if = {"domain": "win11", "placement": {"mode": "dedicated"}, "moves": [], "refusals": refusals}
    daemon.answers["cpus"] = lambda params: {"cpus": [], **({"what_if": what_if} if params else {})}
    ran = hostler("cpus", "--what-if", "win11")
    assert (ran.status, "if win11 were started now" in ran.out, "1 refusal" in ran.out) == (
        status,
        True,
        status == 4,
    )
    assert hostler("cpus", "--json", "--what-if", "win11").json["what_if"] == what_if
    assert "started" not in hostler("cpus").out
    assert [params for _, params in daemon.asked] == [{"what_if": "win11"}, {"what_if": "win11"}, {}]


@pytest.mark.parametrize(
    ("refusals", "status"), [([], 0), ([{"object": "d", "reason": "r", "remedy": "m"}], 4)]
)
def test_a_plan_with_refusals_is_4(hostler, daemon, refusals: list[object], status: int) -> None:
    daemon.answers["plan"] = {"steps": [], "refusals": refusals, "converged": not refusals}
    assert hostler("plan", "--json", "--domain", "win11").status == status
    assert hostler("plan").status == status
    assert [params for _, params in daemon.asked] == [{"domain": "win11"}, {}]


@pytest.mark.parametrize(("changed", "says"), [(True, "it changed"), (False, "nothing changed")])
def test_reload(hostler, daemon, changed: bool, says: str) -> None:
    daemon.answers["reload"] = {"changed": changed}
    assert says in hostler("reload").out
    assert hostler("reload", "--json").json == {"changed": changed}


def test_retry(hostler, daemon) -> None:
    daemon.answers["retry"] = {}
    assert "0000:01:00.0" in hostler("retry", "0000:01:00.0").out
    assert hostler("retry", "--json", "--", "-x").json == {}
    assert [params["object"] for _, params in daemon.asked] == ["0000:01:00.0", "-x"]


def test_simulate_passes_on_what_it_does_not_know(hostler, daemon) -> None:
    daemon.answers["simulate"] = dict
    ran = hostler("simulate", "start", "domain=win11", "xml=a=b", "empty=")
    assert ran.out == "action: start\ndomain: win11\nxml: a=b\nempty: -\n"
    assert hostler("simulate", "x", "--json").json == {"action": "x"}
    daemon.answers["simulate"] = {}
    assert hostler("simulate", "x").out == "done\n"


def test_watch_prints_an_event_a_line_until_the_daemon_goes(hostler, daemon) -> None:
    daemon.events = [{"time": 0, "kind": "pass", "object": "", "text": "one"}, {"time": 1, "text": "t\nwo"}]
    with start("watch", "--json", "--socket", daemon.path, stdout=subprocess.PIPE) as watching:
        assert watching.stdout is not None
        assert [watching.stdout.readline() for _ in range(2)] == [
            b'{"time": 0, "kind": "pass", "object": "", "text": "one"}\n',
            b'{"time": 1, "text": "t\\nwo"}\n',
        ]
        watching.send_signal(signal.SIGINT)
        assert watching.wait(10) == cli.INTERRUPTED
    with start("watch", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as watching:
        assert watching.stdout is not None
        assert watching.stderr is not None
        assert watching.stdout.readline().rstrip().endswith(b"one")
        watching.stdout.close()
        watching.send_signal(signal.SIGINT)
        assert watching.stderr.read() == b""


def test_nobody_reading_is_no_traceback(daemon) -> None:
    daemon.answers["status"] = STATUS
    with start("status", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        assert running.stderr.read() == b""
        assert running.wait(10) in {0, cli.PIPE_CLOSED}


def test_a_full_disk_is_a_sentence(daemon) -> None:
    daemon.answers["status"] = STATUS
    with open("/dev/full", "wb") as full, start("status", stdout=full, stderr=subprocess.PIPE) as running:
        assert running.stderr is not None
        assert running.stderr.read().startswith(b"hostler: the output cannot be written: No space left")
        assert running.wait(10) == 1


@pytest.mark.parametrize("closed", [0, 1, 2])
def test_closed_descriptors_are_no_traceback(daemon, closed: int) -> None:
    daemon.answers["status"] = STATUS
    with start("status", stderr=subprocess.PIPE, preexec_fn=lambda: os.close(closed)) as running:
        assert running.stderr is not None
        assert b"Traceback" not in running.stderr.read()
        assert running.wait(10) == 0


def test_a_locale_without_the_letters_is_no_traceback(daemon) -> None:
    daemon.answers["domains"] = {"domains": [{"name": "fenêtre", "state": "running"}]}
    environment = {**os.environ, "PYTHONPATH": CLIENT, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, "-m", "hostler", "domains"], env=environment, capture_output=True, check=True
    )
    assert b"fen?tre" in done.stdout


def on_terminal(*words: str, columns: int = 80, **environment: str) -> str:
    """What a terminal shows."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, columns))
    clean = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "COLUMNS"}}
    settings = {**clean, "PYTHONPATH": CLIENT, "TERM": "xterm", **environment}
    program = [sys.executable, "-m", "hostler", *words]
    with subprocess.Popen(program, env=settings, stdout=slave, stdin=slave) as running:
        os.close(slave)
        shown = b""
        try:
            while chunk := os.read(master, 65536):
                shown += chunk
        except OSError:  # how a terminal ends
            pass
        running.wait(10)
    os.close(master)
    return shown.decode().replace("\r\n", "\n")


def test_a_terminal_gets_colors_and_indented_json(daemon) -> None:
    daemon.answers["status"] = STATUS
    assert on_terminal("status").startswith("\033[32mconverged\033[0m")
    assert on_terminal("status", "--json").startswith('{\n  "version": "1",\n')


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_a_terminal_that_wants_no_colors_gets_none(daemon, environment: dict[str, str]) -> None:
    daemon.answers["status"] = STATUS
    assert on_terminal("status", **environment).startswith("converged")


@pytest.mark.parametrize(("columns", "environment"), [(40, {}), (200, {"COLUMNS": "40"})])
def test_a_narrow_terminal_is_kept_to(daemon, columns: int, environment: dict[str, str]) -> None:
    daemon.answers["plan"] = {"refusals": [{"object": "d", "reason": "words " * 30, "remedy": "words " * 30}]}
    shown = on_terminal("plan", columns=columns, NO_COLOR="1", **environment).splitlines()
    assert 30 < max(map(len, shown)) <= 40
