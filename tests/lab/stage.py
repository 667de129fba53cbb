"""The product as files, put into the guest's disk before it boots.

What a distribution's package would do: the files of `packaging/install.mk`, the wheel in dist-packages, the units
enabled. `debugfs` writes into the disk without mounting it and without being root.
"""

import os
import re
import shutil
import subprocess
import zipfile

from lab import recipe

TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PACKAGES = "usr/lib/python3/dist-packages"
UNITS = "usr/lib/systemd/system"
ENABLED = ("hostler.socket", "hostlerd.service")
LIMIT = 600.0

# The daemon may not write beside its modules; a package's installation compiles them. Where this machine has no Python
# of the guest's version to do it, the guest does, which costs it seconds of its boot.
COMPILE = "lab-compile.service"
COMPILE_UNIT = f"""\
[Unit]
Before=hostlerd.service
[Service]
Type=oneshot
ExecStart=python3 -m compileall -q /{PACKAGES}/hostler /{PACKAGES}/hostlerd
[Install]
WantedBy=multi-user.target
"""

# Emulated on a busy machine, importing the libraries alone takes half a minute.
PATIENCE = "[Service]\nTimeoutStartSec=150\n"


class StageFailed(Exception):
    """The product could not be built, or not be put into the disk."""


def build(folder: str, suite: str) -> None:
    """Everything of the product below `folder`, as it will lie below the root of a guest of `suite`."""
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    wheels = f"{folder}.wheel"
    shutil.rmtree(wheels, ignore_errors=True)
    _run(["./dev", "wheel", wheels])
    (wheel,) = (name for name in os.listdir(wheels) if name.endswith(".whl"))
    _run(["make", "-f", "packaging/install.mk", "install", f"DESTDIR={folder}", "launchers=1"])
    with zipfile.ZipFile(os.path.join(wheels, wheel)) as archive:
        archive.extractall(os.path.join(folder, PACKAGES))
    _compile(folder, recipe.SUITES[suite])
    patience = os.path.join(folder, "etc/systemd/system/hostlerd.service.d")
    os.makedirs(patience)
    with open(os.path.join(patience, "lab.conf"), "w", encoding="utf-8") as file:
        file.write(PATIENCE)
    for unit in ENABLED:
        _enable(folder, unit)


def _compile(folder: str, version: str) -> None:
    python = shutil.which(f"python{version}")
    modules = os.path.join(folder, PACKAGES)
    # Unchecked, because writing into the disk changes the files' times.
    options = ["-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", "-s", folder]
    try:
        _run([python or "", *options, modules])
    except StageFailed:
        with open(os.path.join(folder, UNITS, COMPILE), "w", encoding="utf-8") as file:
            file.write(COMPILE_UNIT)
        _enable(folder, COMPILE)


def _enable(folder: str, unit: str) -> None:
    """The links of the unit's [Install] section, as `systemctl enable` makes them."""
    path = _unit(folder, unit)
    with open(os.path.join(folder, path), encoding="utf-8") as file:
        text = file.read()
    for kind, key in (("wants", "WantedBy"), ("requires", "RequiredBy")):
        for line in re.findall(rf"^{key}=(.*)$", text, re.MULTILINE):
            for target in line.split():
                wants = os.path.join(folder, "etc/systemd/system", f"{target}.{kind}")
                os.makedirs(wants, exist_ok=True)
                os.symlink(f"/{path}", os.path.join(wants, unit))


def _unit(folder: str, unit: str) -> str:
    for place in (UNITS, "lib/systemd/system", "etc/systemd/system"):
        if os.path.exists(os.path.join(folder, place, unit)):
            return os.path.join(place, unit)
    raise StageFailed(f"packaging/install.mk installed no {unit}")


def install(folder: str, disk: str) -> None:
    """Write the tree below `folder` into the file system in `disk`, owned by root."""
    commands = []
    for path, folders, files in os.walk(folder):
        inside = path.removeprefix(folder)
        for name in sorted([*folders, *files]):
            source, target = os.path.join(path, name), f"{inside}/{name}"
            if os.path.islink(source):
                commands.append(f'symlink "{target}" "{os.readlink(source)}"')
            elif os.path.isdir(source):
                commands.append(f'mkdir "{target}"')
            else:
                mode = 0o100755 if os.access(source, os.X_OK) else 0o100644
                commands += [f'rm "{target}"', f'write "{source}" "{target}"']
                commands += [f'sif "{target}" {key} {value}' for key, value in (("uid", 0), ("gid", 0))]
                commands.append(f'sif "{target}" mode 0{mode:o}')
    script = f"{folder}.debugfs"
    with open(script, "w", encoding="utf-8") as file:
        file.write("\n".join(commands) + "\n")
    # It says that it cannot remove what is not there or make what is, and goes on: what counts is that all is there.
    _run(["debugfs", "-w", "-f", script, disk])
    check = [f'stat "{line.split(chr(34))[3]}"' for line in commands if line.startswith("write")]
    with open(script, "w", encoding="utf-8") as file:
        file.write("\n".join(check) + "\n")
    found = _run(["debugfs", "-f", script, disk]).count("Type: regular")
    if found != len(check):
        raise StageFailed(f"only {found} of {len(check)} files arrived in {disk}")


def _run(command: list[str]) -> str:
    environment = {**os.environ, "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin"}
    try:
        done = subprocess.run(
            command, cwd=TREE, env=environment, capture_output=True, text=True, timeout=LIMIT, check=False
        )
    except OSError as error:
        raise StageFailed(f"{command[0]}: {error}") from error
    if done.returncode:
        raise StageFailed(f"{' '.join(command)}: {done.stdout[-1000:]}{done.stderr[-2000:]}")
    return done.stdout
