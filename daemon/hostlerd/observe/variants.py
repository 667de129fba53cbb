"""Which VFIO driver fits a function best: vfio-pci, or a variant that knows the hardware.

As libvirt does it (src/util/virpci.c, virPCIDeviceFindBestVFIOVariant, since 10.0): of the lines of modules.alias that
begin with `vfio_pci:`, the one that matches the function's own modalias with the fewest wildcards. That names a module;
what its driver is called is known once it is loaded (/sys/module/NAME/drivers).
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator, Mapping

from hostlerd.host import Files
from hostlerd.model.devices import Function, Variant
from hostlerd.observe.reading import names, text

PREFIX = "vfio_pci:"
GENERIC = "vfio_pci"


def variants(files: Files, functions: Iterable[Function]) -> Mapping[str, Variant | None]:
    """Address to the variant that fits it best; None where there is none but vfio-pci."""
    functions = tuple(functions)
    aliases = tuple(_aliases(files)) if functions else ()
    return {function.address: _best(files, aliases, function.modalias) for function in functions}


def _aliases(files: Files) -> Iterator[tuple[str, str]]:
    """(pattern, module): "alias vfio_pci:v00008086d*... module"."""
    release = text(files, "/proc/sys/kernel/osrelease")
    try:
        lines = files.lines_with(f"/lib/modules/{release}/modules.alias", [f" {PREFIX}"])
    except OSError:
        return
    for line in lines:
        words = line.split()
        if len(words) == 3 and words[0] == "alias" and words[1].startswith(PREFIX):
            yield words[1].removeprefix(PREFIX), words[2]


def _best(files: Files, aliases: Iterable[tuple[str, str]], modalias: str | None) -> Variant | None:
    if modalias is None:
        return None
    own = modalias.removeprefix("pci:")
    fitting = [
        (pattern.count("*"), module) for pattern, module in aliases if fnmatch.fnmatchcase(own, pattern)
    ]
    # Of several that are as good, the first in the file, as min() keeps it.
    best = min(fitting, key=lambda one: one[0], default=None)
    if best is None or best[1] == GENERIC:
        return None
    drivers = [name.removeprefix("pci:") for name in names(files, f"/sys/module/{best[1]}/drivers")]
    return Variant(module=best[1], driver=drivers[0] if drivers else None)
