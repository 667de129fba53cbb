"""What packaging/install.mk puts into place, and that those who read it (systemd, the bus, polkit, libvirt) can."""

import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from hostler import wire
from hostler.cli import VERBS
from hostlerd.host.simulated.hosts import BUILT_IN
from hostlerd.model.settings import Settings
from hostlerd.options import parse
from hostlerd.settings import load, places

TREE = Path(__file__).parents[2]
LIMIT = 60.0
PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def run(*command: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in command],
        cwd=TREE,
        env={**os.environ, "PATH": PATH, **variables},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def make(target: str, folder: Path, *variables: str) -> None:
    done = run("make", "--silent", "-f", "packaging/install.mk", target, f"DESTDIR={folder}", *variables)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def files(folder: Path) -> dict[str, int]:
    """Path below the folder to permissions."""
    return {
        f"/{path.relative_to(folder)}": path.stat().st_mode & 0o777
        for path in folder.rglob("*")
        if not path.is_dir() or not any(path.iterdir())
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An installation with launchers."""
    folder = tmp_path / "root"
    make("install", folder, "launchers=1")
    return folder


# --- the files themselves


def test_everything_has_its_place(root: Path) -> None:
    found = files(root)
    assert {path for path, mode in found.items() if mode & 0o111 and not path.endswith("hostler.d")} == {
        "/usr/bin/hostler",
        "/usr/bin/hostlerd",
        "/etc/libvirt/hooks/qemu.d/hostler",
    }
    assert {
        "/usr/lib/systemd/system/hostlerd.service",
        "/usr/lib/systemd/system/hostler.socket",
        "/usr/lib/tmpfiles.d/hostler.conf",
        "/usr/share/dbus-1/system.d/org.hostler1.conf",
        "/usr/share/dbus-1/system-services/org.hostler1.service",
        "/usr/share/polkit-1/actions/org.hostler1.policy",
        "/usr/share/man/man1/hostler.1",
        "/usr/share/man/man8/hostlerd.8",
        wire.POLICY,
        wire.POLICY_DIRECTORY,
    } <= set(found)
    assert {path.name for path in (TREE / "dbus").glob("*.xml")} == {
        Path(path).name for path in found if path.startswith("/usr/share/dbus-1/interfaces/")
    }


def test_without_launchers_the_wheel_brings_the_programs(tmp_path: Path) -> None:
    make("install", tmp_path)
    assert not (tmp_path / "usr/bin").exists()


def test_uninstalling_leaves_nothing(root: Path) -> None:
    make("uninstall", root, "launchers=1")
    assert [path for path in files(root) if (root / path[1:]).is_file()] == []
    assert not (root / "etc/hostler").exists()


def test_a_changed_policy_survives_both(root: Path) -> None:
    policy = root / wire.POLICY[1:]
    policy.write_text("[host]\n")
    make("install", root)
    make("uninstall", root)
    assert policy.read_text() == "[host]\n"


def test_the_launchers_run_the_entry_points_of_the_project(root: Path) -> None:
    scripts = tomllib.loads((TREE / "pyproject.toml").read_text())["project"]["scripts"]
    assert set(scripts) == {"hostler", "hostlerd"}
    for name, entry in scripts.items():
        module, function = entry.split(":")
        assert (
            f"from {module} import {function}\n\nsys.exit({function}())"
            in (root / "usr/bin" / name).read_text()
        )


def manual(page: str) -> str:
    """The text of a page, without what only formats it."""
    text = (TREE / "packaging/man" / page).read_text()
    return re.sub(r"\\f[A-Z]", "", text).replace("\\-", "-").replace('"', "")


def test_the_manual_knows_every_verb_and_option() -> None:
    text = manual("hostler.1")
    options = {"--json", "--socket", "--help", "--version"}
    for verb in [*VERBS, "help"]:
        assert re.search(rf"^\.(B|BI|BR) {verb}\b", text, re.MULTILINE), verb
    for verb in VERBS:
        options |= {option.name for option in import_module(f"hostler.cli.{verb}").SPEC.options}
    assert set(re.findall(r"--[a-z0-9-]+", text)) - {"--sim"} == options
    assert re.findall(r"^(\d)@", text, re.MULTILINE) == [str(status) for status in range(8)]


def test_the_manual_knows_every_option_of_the_daemon(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--help"])
    options = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    of_others = {"--root", "--xml", "--list"}  # hostler's, and systemd-inhibit's
    assert set(re.findall(r"--[a-z-]+", manual("hostlerd.8"))) - of_others == options


def test_the_daemon_names_every_simulated_host(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--help"])
    said = re.search(r"simulated host\s+\(([^)]*)\)", capsys.readouterr().out)
    assert said is not None
    assert set(re.split(r",\s+", said[1])) == set(BUILT_IN)


# --- systemd


@pytest.fixture
def units(root: Path) -> Path:
    """The units, with programs that exist: that they do not is all that systemd-analyze would find."""
    folder = root / "usr/lib/systemd/system"
    for unit in folder.iterdir():
        unit.write_text(unit.read_text().replace("/usr/bin/hostler", f"{root}/usr/bin/hostler"))
    return folder


def test_systemd_has_nothing_to_say_about_the_units(units: Path) -> None:
    done = run("systemd-analyze", "verify", "--man=no", units / "hostlerd.service", units / "hostler.socket")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_daemon_is_confined(units: Path) -> None:
    # Exposure out of 10, times 10. Root that writes /sys cannot get much lower; this is to notice when a line is lost.
    done = run("systemd-analyze", "security", "--offline=true", "--threshold=37", units / "hostlerd.service")
    assert done.returncode == 0, done.stdout


def unit(text: str) -> Mapping[str, list[str]]:
    settings: dict[str, list[str]] = {}
    for line in text.splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            settings.setdefault(key, []).extend(value.split())
    return settings


def test_units_agree_with_the_code_and_the_interface(units: Path) -> None:
    service = unit((units / "hostlerd.service").read_text())
    socket = unit((units / "hostler.socket").read_text())
    assert socket["ListenStream"] == [wire.SOCKET]
    assert socket["Service"] == ["hostlerd.service"]
    assert socket["SocketMode"] == ["0666"]
    assert service["Type"] == ["notify"]
    assert {"libvirtd.service", "virtqemud.service"} <= set(service["Before"])
    assert "RuntimeDirectory" not in service
    assert service["StateDirectory"] == [Path(wire.STATE_DIRECTORY).name]
    assert wire.RUNTIME_DIRECTORY in service["ReadWritePaths"]
    # The idle daemon is woken by its watchdog at half the time: no more often than every 30 s.
    assert int(service["WatchdogSec"][0]) >= 60
    # libvirt waits for READY no longer than a hook would.
    assert int(service["TimeoutStartSec"][0]) <= wire.HOOK_DEADLINE


def test_tmpfiles_makes_the_folders(root: Path) -> None:
    done = run("systemd-tmpfiles", "--create", f"--root={root}", "hostler.conf")
    if os.geteuid() == 0:
        assert (done.returncode, done.stderr) == (0, "")
        assert (root / wire.RUNTIME_DIRECTORY[1:]).stat().st_mode & 0o777 == 0o755
        assert (root / wire.STATE_DIRECTORY[1:]).stat().st_mode & 0o777 == 0o700


def test_tmpfiles_and_the_unit_name_the_same_folders() -> None:
    made = re.findall(r"^d (\S+)", (TREE / "systemd/tmpfiles.d/hostler.conf").read_text(), re.MULTILINE)
    writable = unit((TREE / "systemd/hostlerd.service").read_text())["ReadWritePaths"]
    assert {*(path.removeprefix("-") for path in writable), wire.STATE_DIRECTORY} == set(made)


# --- D-Bus and polkit


def test_the_bus_takes_the_policy(root: Path, tmp_path: Path) -> None:
    config = tmp_path / "bus.conf"
    config.write_text(f"""<busconfig>
        <listen>unix:dir={tmp_path}</listen>
        <policy context="default"><deny own="*"/><deny send_type="method_call"/></policy>
        <include>{root}/usr/share/dbus-1/system.d/org.hostler1.conf</include>
    </busconfig>""")
    with subprocess.Popen(
        ["dbus-daemon", f"--config-file={config}", "--nofork", "--print-address"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PATH": PATH},
    ) as bus:
        assert bus.stdout is not None
        address = bus.stdout.readline()
        bus.terminate()
        _, complaints = bus.communicate(timeout=LIMIT)
    assert address.startswith("unix:")
    assert "org.hostler1" not in complaints


def test_the_bus_starts_the_daemon_through_systemd() -> None:
    activation = unit((TREE / "dbus/org.hostler1.service").read_text())
    assert activation["Name"] == [wire.BUS_NAME]
    assert activation["SystemdService"] == ["hostlerd.service"]


def test_polkit_knows_one_action_for_each_kind_of_harm() -> None:
    policy = ET.parse(TREE / "dbus/org.hostler1.policy").getroot()
    defaults = {
        action.get("id", "").removeprefix(f"{wire.BUS_NAME}."): [
            action.findtext(f"defaults/allow_{who}") for who in ("any", "inactive", "active")
        ]
        for action in policy.iter("action")
    }
    assert defaults == {
        "read": ["yes", "yes", "yes"],
        "plan": ["yes", "yes", "yes"],
        "claim-cpus": ["auth_admin", "auth_admin", "yes"],
        "handoff": ["auth_admin", "auth_admin", "auth_admin"],
        "stop-holder": ["auth_admin", "auth_admin", "auth_admin"],
        "change-policy": ["auth_admin", "auth_admin", "auth_admin_keep"],
    }
    for action in policy.iter("action"):
        assert action.findtext("description")
        assert action.findtext("message")


# --- the policy that is installed


def test_the_policy_as_installed_changes_nothing(tmp_path: Path) -> None:
    file = shutil.copy(TREE / "packaging/etc/hostler.toml", tmp_path)
    assert load(str(file), str(tmp_path / "none")) == Settings()


def test_the_policy_uncommented_is_right_and_shows_the_defaults(tmp_path: Path) -> None:
    text = re.sub(r"^#(?=\S)", "", (TREE / "packaging/etc/hostler.toml").read_text(), flags=re.MULTILINE)
    file = tmp_path / "hostler.toml"
    file.write_text(text)
    settings = load(str(file), str(tmp_path / "none"))
    default = Settings()
    assert (settings.libvirt, settings.housekeeping) == (default.libvirt, default.housekeeping)
    assert replace(settings.domains, isolation={}) == default.domains
    assert settings.domains.isolates == default.domains.isolates
    assert set(settings.overrides) == {"win11"}
    assert [device.name for device in settings.devices] == ["gaming"]
    assert [slice_.name for slice_ in settings.slices] == ["desk", "vgpu"]
    assert [usb.name for usb in settings.usb] == ["dongle"]


def test_every_key_of_the_policy_is_in_it() -> None:
    text = (TREE / "packaging/etc/hostler.toml").read_text()
    written = re.sub(r"^#(?=\S)", "", text, flags=re.MULTILINE)
    tables = tomllib.loads(written)
    assert set(tables) == {"host", "domains", "domain", "device", "slice", "usb", "claims"}
    assert set(tables["host"]) == {"libvirt", "housekeeping", "suspend"}
    assert set(tables["host"]["housekeeping"]) == set(places.HOUSEKEEPING)
    assert set(tables["claims"]) == set(places.CLAIMS)
    assert set(tables["domains"]) == set(places.DOMAIN)
    assert set(tables["domains"]["isolation"]) == set(places.ISOLATION)
    assert set(tables["domain"]["win11"]) <= set(places.DOMAIN)
    assert set(tables["device"][0]) == set(places.DEVICE)
    assert {key for section in tables["slice"] for key in section} == set(places.SLICE)
    assert set(tables["usb"][0]) == set(places.USB)


# --- libvirt's hook


def hook(tmp_path: Path, program: str | None, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The hook as installed, with this shell script in hostler's place."""
    stand_in = tmp_path / "hostler"
    if program is not None:
        stand_in.write_text(program)
        stand_in.chmod(0o755)
    script = tmp_path / "hook"
    script.write_text((TREE / "packaging/hooks/qemu").read_text().replace("/usr/bin/hostler", str(stand_in)))
    script.chmod(0o755)
    return subprocess.run(
        [script, *arguments],
        input="<domain/>",
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


PREPARE = ("win11", "prepare", "begin", "-")


def test_the_hook_hands_everything_on(tmp_path: Path) -> None:
    done = hook(tmp_path, '#!/bin/sh\necho "$@"; cat; echo no >&2; exit 1\n', *PREPARE)
    assert (done.returncode, done.stdout, done.stderr) == (1, "hook win11 prepare begin -\n<domain/>", "no\n")


@pytest.mark.parametrize(
    "operation", ["start", "started", "stopped", "release", "reconnect", "migrate", "restore"]
)
def test_only_prepare_may_say_no(tmp_path: Path, operation: str) -> None:
    done = hook(tmp_path, "#!/bin/sh\necho why >&2; exit 1\n", "win11", operation, "begin", "-")
    assert (done.returncode, done.stderr) == (0, "why\n")


@pytest.mark.parametrize("program", [None, "#!/no/such/python\n", "#!/bin/sh\nexit 127\n"])
@pytest.mark.parametrize("operation", ["prepare", "reconnect"])
def test_a_domain_starts_where_hostler_is_not(tmp_path: Path, program: str | None, operation: str) -> None:
    assert hook(tmp_path, program, "win11", operation, "begin", "-").returncode == 0
