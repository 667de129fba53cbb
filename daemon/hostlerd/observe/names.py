"""What PCI functions are called: from the pci.ids file of the machine this runs on, a dictionary and no part of a host.

Rules: cheap. One pass over the file for the ids that are wanted, remembered for as long as these do not change;
where there is no such file the name is "vendor:device".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

from hostlerd.model.devices import Function

DATABASES = ("/var/lib/pciutils/pci.ids", "/usr/share/misc/pci.ids", "/usr/share/hwdata/pci.ids")

Id = tuple[int, int]


def device_names(functions: Iterable[Function], databases: Iterable[str] = DATABASES) -> dict[str, str]:
    """Address to name, such as "NVIDIA Corporation AD102 [GeForce RTX 4090]"."""
    functions = tuple(functions)
    known = _look_up(frozenset((f.vendor, f.device) for f in functions), tuple(databases))
    return {f.address: known.get((f.vendor, f.device)) or _ids(f) for f in functions}


def _ids(function: Function) -> str:
    return f"{function.vendor:04x}:{function.device:04x}" if function.vendor else "unknown"


@lru_cache(maxsize=4)
def _look_up(ids: frozenset[Id], databases: tuple[str, ...]) -> Mapping[Id, str]:
    for path in databases:
        try:
            with open(path, encoding="utf-8", errors="replace") as lines:
                return _scan(lines, ids)
        except OSError:
            continue
    return {}


def _scan(lines: Iterable[str], ids: frozenset[Id]) -> dict[Id, str]:
    """pci.ids(5): vendors at the left, their devices after one tab, subsystems after two; classes follow."""
    found: dict[Id, str] = {}
    wanted: dict[str, dict[str, Id]] = {}
    for vendor, device in ids:
        wanted.setdefault(f"{vendor:04x}", {})[f"{device:04x}"] = (vendor, device)
    company, devices = "", dict[str, Id]()
    for line in lines:
        if line[:1] == "\t":
            id_ = devices.get(line[1:5]) if devices and line[1:2] != "\t" else None
            if id_ is not None:
                found[id_] = f"{company} {line[5:].strip()}"
        elif line[:2] == "C ":
            break
        elif line[:1] not in ("#", "\n"):
            company, devices = line[4:].strip(), wanted.get(line[:4], {})
            for id_ in devices.values():
                found[id_] = f"{company} {id_[1]:04x}"
    return found
