"""udev as far as a rule of /run/udev/rules.d goes: keys that compare, `ATTR{...}=` that writes.

udev(7). Understood: ACTION, SUBSYSTEM, KERNEL, ATTR{...} with == and != (shell patterns, | between them) and the
assignment ATTR{...}="...". Everything else in a rule is passed over.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable

from hostlerd.host import Files

RULES = ("/usr/lib/udev/rules.d", "/run/udev/rules.d", "/etc/udev/rules.d")
_PIECE = re.compile(r'\s*([A-Z_]+)(?:\{([^}]*)\})?\s*(==|!=|\+=|:=|=)\s*"((?:[^"\\]|\\.)*)"\s*,?')


def handle(files: Files, action: str, kernel: str, folder: str, write: Callable[[str, str], None]) -> None:
    """Apply every rule to one event of a PCI device."""
    for rule in _rules(files):
        wanted: list[tuple[str, str]] = []
        for key, name, operator, value in _PIECE.findall(rule):
            if operator in ("==", "!="):
                found = _value(files, key, name, action=action, kernel=kernel, folder=folder)
                same = found is not None and any(fnmatch.fnmatchcase(found, v) for v in value.split("|"))
                if found is not None and same != (operator == "=="):
                    break
                if found is None and operator == "==":
                    break
            elif key == "ATTR":
                wanted.append((f"{folder}/{name}", value))
        else:
            for path, value in wanted:
                # udev writes what the rule says and only logs a failure (udev_rule_apply_token_to_event).
                try:
                    write(path, value.encode().decode("unicode_escape"))
                except OSError:
                    continue


def _rules(files: Files) -> list[str]:
    lines: list[str] = []
    names: dict[str, str] = {}
    for folder in RULES:  # a file of the same name in a later folder takes its place
        if files.exists(folder):
            names |= {name: f"{folder}/{name}" for name in files.listdir(folder) if name.endswith(".rules")}
    for name in sorted(names):
        text = files.read(names[name]).replace("\\\n", " ")
        lines += [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return lines


def _value(files: Files, key: str, name: str, *, action: str, kernel: str, folder: str) -> str | None:
    match key:
        case "ACTION":
            return action
        case "SUBSYSTEM" | "SUBSYSTEMS":
            return "pci"
        case "KERNEL" | "KERNELS":
            return kernel
        case "ATTR" | "ATTRS":
            try:
                return files.read(f"{folder}/{name}").rstrip()
            except OSError:
                return None
        case _:
            return None
