"""Who may import whom: ARCHITECTURE.md's rooms as a table, held against the source."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TREE = Path(__file__).parents[2]
ROOTS = (TREE / "client", TREE / "daemon")

ROOMS: dict[str, frozenset[str]] = {
    # The client: the contract, and what a user runs. Nothing of the daemon, ever.
    "hostler": frozenset({"hostler", "msgpack"}),
    "hostler.wire": frozenset(),
    "hostler.errors": frozenset({"hostler.wire"}),
    "hostler.shapes": frozenset(),
    "hostler.render": frozenset({"hostler.render", "hostler.shapes", "hostler.wire", "hostler.errors"}),
    # Values, and the two stages that only compute.
    "hostlerd.model": frozenset({"hostlerd.model", "hostler.wire", "hostler.errors"}),
    "hostlerd.decide": frozenset({"hostlerd.decide", "hostlerd.model"}),
    "hostlerd.report": frozenset({"hostlerd.report", "hostlerd.model"}),
    # Text in, text out: the edits of domain XML.
    "hostlerd.definition": frozenset(
        {"hostlerd.definition", "hostlerd.model", "hostler.wire", "hostler.errors"}
    ),
    # The seam, and what stands on it.
    "hostlerd.host": frozenset({"hostlerd.host", "hostlerd.model", "hostler.wire", "hostler.errors", "trio"}),
    # One name of the contract: the namespace of our elements in domain XML.
    "hostlerd.observe": frozenset(
        {"hostlerd.observe", "hostlerd.model", "hostlerd.host", "hostler.wire", "hostler.errors"}
    ),
    "hostlerd.act": frozenset(
        {
            "hostlerd.act",
            "hostlerd.definition",
            "hostlerd.model",
            "hostlerd.host",
            # Reading back is looking, and right before a write that may hang one looks once more.
            "hostlerd.observe",
            "hostlerd.log",
            "hostler.wire",
            "hostler.errors",
            "trio",
        }
    ),
    "hostlerd.sources": frozenset(
        {
            "hostlerd.sources",
            "hostlerd.model",
            "hostlerd.host",
            # How a source is woken is how a lane is.
            "hostlerd.reconcile.latch",
            "hostler.wire",
            "hostler.errors",
            "trio",
        }
    ),
    # The simulated libvirt reads domain XML as the real one does.
    "hostlerd.host.simulated": frozenset(
        {
            "hostlerd.host",
            "hostlerd.model",
            "hostlerd.observe.domain_xml",
            "hostler.wire",
            "hostler.errors",
            "trio",
        }
    ),
    # The story is a user of the whole product, which it starts as processes and speaks to as any client does.
    "hostlerd.host.simulated.story": frozenset({"hostlerd.host.simulated", "hostlerd.model", "hostler"}),
    # The middle: policy, claims, the loop.
    "hostlerd.toml_lines": frozenset(),
    "hostlerd.toml_table": frozenset({"hostlerd.toml_lines", "hostler.errors"}),
    "hostlerd.settings": frozenset(
        {"hostlerd.settings", "hostlerd.model", "hostlerd.toml_table", "hostler.wire", "hostler.errors"}
    ),
    "hostlerd.log": frozenset({"hostlerd.host"}),
    "hostlerd.reconcile": frozenset(
        {
            "hostlerd.model",
            "hostlerd.host",
            "hostlerd.observe",
            "hostlerd.decide",
            "hostlerd.act",
            "hostlerd.reconcile",
            "hostlerd.log",
            "hostler.wire",
            "hostler.errors",
            "trio",
        }
    ),
    # The faces: they show what others decided.
    "hostlerd.api": frozenset(
        {
            "hostlerd.api",
            "hostlerd.model",
            "hostlerd.report",
            "hostlerd.host",
            "hostlerd.settings",
            "hostler.wire",
            "hostler.frames",
            "hostler.errors",
            "trio",
        }
    ),
    # What the faces call stands on the loop.
    "hostlerd.api.service": frozenset(
        {
            "hostlerd.api",
            "hostlerd.model",
            "hostlerd.report",
            "hostlerd.host",
            "hostlerd.observe",
            "hostlerd.decide",
            "hostlerd.reconcile",
            "hostler.wire",
            "hostler.errors",
            "hostler.__version__",
            "trio",
        }
    ),
    # Where all is wired, and the verbs that need no daemon.
    "hostlerd.__main__": frozenset({"hostlerd.main", "hostlerd.offline"}),
    "hostlerd.main": frozenset({"hostlerd", "hostler", "trio"}),
    "hostlerd.machine": frozenset({"hostlerd", "hostler.wire", "hostler.errors", "trio"}),
    "hostlerd.live_machine": frozenset({"hostlerd", "hostler.wire", "hostler.errors", "trio"}),
    "hostlerd.simulated_machine": frozenset({"hostlerd", "hostler.wire", "hostler.errors", "trio"}),
    "hostlerd.options": frozenset({"hostler.wire", "hostler.__version__"}),
    "hostlerd.policy": frozenset(
        {
            "hostlerd.model",
            "hostlerd.host",
            "hostlerd.act",
            "hostlerd.options",
            "hostlerd.reconcile",
            "hostlerd.settings",
            "hostler.errors",
        }
    ),
    "hostlerd.offline": frozenset(
        {
            "hostlerd.model",
            "hostlerd.host",
            "hostlerd.observe",
            "hostlerd.decide",
            "hostlerd.report",
            "hostlerd.settings",
            "hostler",
        }
    ),
}
"""Room (a module and all below it; the longest name that fits counts) to the modules, and all below them, that it may
import. The standard library is free, but for what PURE forbids."""

OWNERS: dict[str, frozenset[str]] = {
    "dbus_next": frozenset({"hostlerd.host.bus"}),
    "dbus_fast": frozenset({"hostlerd.host.bus"}),
    "libvirt": frozenset({"hostlerd.host.libvirt"}),
    "pyudev": frozenset({"hostlerd.host.udev"}),
    "systemd": frozenset({"hostlerd.host.notify"}),
}
"""Libraries with traps, each behind the modules that know them."""

DISPATCHERS = frozenset({"hostler.cli", "hostlerd.host.bus"})
"""Who may import by a computed name: the command line finds its verb's module, the bus one of two libraries."""

PURE: dict[str, frozenset[str]] = {
    "hostler.wire": frozenset(),
    "hostler.errors": frozenset(),
    "hostler.shapes": frozenset(),
    "hostler.render": frozenset({"time"}),  # a moment is shown in the reader's time zone
    "hostlerd.model": frozenset(),
    "hostlerd.decide": frozenset(),
    "hostlerd.definition": frozenset(),
    "hostlerd.report": frozenset(),
}
"""Rooms that only compute, and what of EFFECTS they may import all the same."""
EFFECTS = frozenset(
    "asyncio ctypes fcntl glob io logging mmap multiprocessing os pathlib random secrets select selectors shutil "
    "signal socket sqlite3 subprocess tempfile threading time trio urllib warnings".split()
)
"""What reads, writes, waits, logs, or asks the clock or chance."""

NOT_FOR_CLIENTS = frozenset({"asyncio", "multiprocessing", "concurrent"})


def below(name: str, ancestors: frozenset[str]) -> bool:
    return any(name == ancestor or name.startswith(ancestor + ".") for ancestor in ancestors)


def room_of(module: str) -> str | None:
    """The room a module is in; the two packages themselves are doors, not rooms."""
    fitting = [room for room in ROOMS if below(module, frozenset({room}))]
    return max(fitting, key=len, default=None)


def imports(source: str, module: str, *, package: bool) -> Iterator[str]:
    """Every module that `source` imports, wherever it stands, TYPE_CHECKING blocks and functions too.

    `from a import b` counts as a.b where ROOMS or OWNERS draw a line inside a, else as a; a call that imports by a
    name computed at run time comes out as "?".
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".") if package else module.split(".")[:-1]
                parents = parents[: len(parents) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__"):
                yield "?"


def wrong_imports(source: str, module: str, *, package: bool = False) -> list[str]:
    """What is wrong with the imports of this source, one sentence each."""
    room = room_of(module)
    if room is None:
        if module == "hostlerd":
            return [
                f"{module} imports {name}"
                for name in imports(source, module, package=True)
                if name != "__future__"
            ]
        return [f"{module} is in no room: give it one in ROOMS"]
    wrong = []
    for name in imports(source, module, package=package):
        top = name.split(".")[0]
        if name == "?":
            if module != "hostler.cli" and not below(module, OWNERS["dbus_next"]):
                wrong.append(f"{module} imports by a computed name")
        elif top in OWNERS:
            if not below(module, OWNERS[top]):
                wrong.append(f"{module} imports {top}, which is for {', '.join(sorted(OWNERS[top]))}")
        elif top in sys.stdlib_module_names:
            pure = next(
                (excepted for pure, excepted in PURE.items() if below(module, frozenset({pure}))), EFFECTS
            )
            if top in EFFECTS - pure:
                wrong.append(f"{module} imports {top}, and {room} is pure")
            elif top in NOT_FOR_CLIENTS and not below(module, OWNERS["dbus_next"]):
                wrong.append(f"{module} imports {top}, which nobody needs beside trio")
        elif name == "hostlerd" and below(module, frozenset({"hostlerd"})):
            pass  # the door alone, to know where the package is
        elif not below(name, ROOMS[room]):
            wrong.append(f"{module} imports {name}, and {room} may not")
    return wrong


def modules() -> Iterator[tuple[str, Path]]:
    for root in ROOTS:
        for path in sorted(root.rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def test_every_import_is_allowed() -> None:
    wrong = [
        sentence
        for module, path in modules()
        for sentence in wrong_imports(path.read_text(), module, package=path.name == "__init__.py")
    ]
    assert not wrong, "\n".join(wrong)


def test_the_source_was_found() -> None:
    names = {module for module, _ in modules()}
    assert {"hostler", "hostlerd", "hostler.errors", "hostlerd.model.plan"} <= names


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("hostler.cli.status", "import hostlerd.model"),
        ("hostler.cli.status", "from hostlerd import model"),
        ("hostler.connection", "import trio"),
        ("hostler.connection", "def f():\n    import trio"),
        ("hostler.connection", "import asyncio"),
        ("hostler.connection", "import requests"),
        ("hostler.cli.plan", "import importlib\nimportlib.import_module('hostler' + 'd')"),
        ("hostler.wire", "from hostler import errors"),
        ("hostlerd.model.plan", "from hostlerd.host import Files"),
        ("hostlerd.model.plan", "from ..host import Files"),
        ("hostlerd.model.plan", "from hostlerd import host"),
        ("hostlerd.decide.handoff", "import os"),
        ("hostlerd.decide.handoff", "from time import monotonic"),
        ("hostlerd.decide.handoff", "import trio"),
        ("hostlerd.decide.handoff", "if TYPE_CHECKING:\n    from hostlerd.act import journal"),
        ("hostlerd.report.status", "from hostlerd.decide.handoff import steps"),
        ("hostlerd.observe.pci", "from hostlerd.act.journal import Journal"),
        ("hostlerd.observe.domains", "import libvirt"),
        ("hostlerd.act.pins", "from libvirt import VIR_DOMAIN_AFFECT_LIVE"),
        ("hostlerd.api.bus", "from dbus_next.service import method"),
        ("hostlerd.sources.udev", "import pyudev"),
        ("hostlerd.main", "from systemd import journal"),
        ("hostlerd.hosted", "import os"),
        ("hostlerd", "import hostlerd.main"),
    ],
)
def test_a_wrong_import_is_seen(module: str, source: str) -> None:
    assert wrong_imports(source, module) != []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("hostler.frames", "import msgpack"),
        ("hostlerd.decide.handoff", "from . import ownership"),
        ("hostlerd.decide.handoff", "from hostlerd.model.plan import Step\nimport re"),
        ("hostlerd.host.bus", "from dbus_next.message import Message"),
        ("hostlerd.host.libvirt", "import libvirt\nimport trio"),
        ("hostlerd.act.journal", "import os\nfrom hostler.errors import Wedged"),
        ("hostlerd.host.simulated.story", "from hostler.connection import Connection"),
    ],
)
def test_a_right_import_is_not(module: str, source: str) -> None:
    assert wrong_imports(source, module) == []
