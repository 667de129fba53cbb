"""`hostler devices`."""

from __future__ import annotations

from hostler.cli import output
from hostler.cli.arguments import Arguments, Option, Spec
from hostler.connection import Connection, expect_rows
from hostler.render import devices as render

SPEC = Spec(
    "devices",
    """
Cards, who has them, which programs have them open and what can be done. Shown are display cards with what goes with
them, and all that a domain has or that is kept on VFIO; --all lists every PCI function with its driver, IOMMU group and
processes, and JSON has all always.
""",
    options=(
        Option("--all", "every PCI function"),
        Option(
            "--root",
            "a recorded host: a folder or a tar file of /sys and /proc files; no daemon",
            value="PATH",
        ),
    ),
)


def run(arguments: Arguments) -> int:
    root = arguments.value("--root")
    if root is not None:
        from hostler.cli import offline  # noqa: PLC0415  brings subprocess

        return offline.run(["devices", "--root", root], arguments, lambda value: _show(value, arguments))
    with Connection(arguments.socket) as daemon:
        devices = expect_rows(daemon.call("devices"), "devices")
    if arguments.json:
        output.say_json(devices)
    else:
        output.say(_show(devices, arguments))
    return 0


def _show(devices: object, arguments: Arguments) -> str:
    rows = expect_rows(devices, "devices")
    return render.render(rows, output.style(), everything=arguments.flag("--all"))
