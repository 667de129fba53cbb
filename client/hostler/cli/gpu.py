"""`hostler gpu`."""

from __future__ import annotations

from hostler.cli import output
from hostler.cli.arguments import Arguments, Option, Spec, Usage, nearest
from hostler.connection import Connection, expect_map
from hostler.render import gpu as render

SPEC = Spec(
    "gpu",
    """
Change how a domain has its GPU, in its definition: from its next start on.

  passthrough DEV  the whole card: an address, the name of a [[device]] section, or a part of the card's name
  slice TYPE       a mediated device of this type (TYPE@PARENT: of this card), or vf:CARD: one of its virtual functions
  emulated         no card: a display that QEMU emulates, shown by VNC on this machine
  undo             take the last change back; what was changed by others meanwhile stays

A domain that runs is refused, but for --live, where libvirt can plug the device in or out.
""",
    words=("DOMAIN", "WAY", "[WHAT]"),
    options=(
        Option("--dry-run", "show the difference and change nothing"),
        Option("--live", "in the running domain, too; the device must be on VFIO already"),
        Option(
            "--model",
            "with emulated: virtio, qxl or bochs (virtio where there is no display yet)",
            value="MODEL",
        ),
        Option("--no-video", "with passthrough and slice: no emulated display besides"),
    ),
)
WAYS = {"passthrough": "DEV", "slice": "TYPE", "emulated": "", "undo": ""}
LIMIT = 120.0
"""Seconds; a person may be typing a password for polkit."""


def run(arguments: Arguments) -> int:
    params = _params(arguments)
    with Connection(arguments.socket) as daemon:
        result = expect_map(daemon.call("gpu", params, limit=LIMIT), "gpu")
    if arguments.json:
        output.say_json(result)
    else:
        is_undo = arguments.words[1] == "undo"
        style, dry_run = output.style(), arguments.flag("--dry-run")
        output.say(render.render(result, style, dry_run=dry_run, is_undo=is_undo))
    return 0


def _params(arguments: Arguments) -> dict[str, object]:
    domain, way, what = arguments.words[0], arguments.words[1], arguments.word(2)
    if way not in WAYS:
        raise Usage(f"`{way}` is no way to have a GPU", nearest(way, WAYS) or f"one of {', '.join(WAYS)}")
    if WAYS[way] and not what:
        raise Usage(f"`{way}` needs {WAYS[way]}", f"write `hostler gpu {domain} {way} {WAYS[way]}`")
    if what is not None and not WAYS[way]:
        raise Usage(f"`{what}` is one word too many", f"write `hostler gpu {domain} {way}`")
    model = arguments.value("--model")
    if model is not None and way != "emulated":
        raise Usage("--model goes with emulated", "leave it out")
    if arguments.flag("--no-video") and not WAYS[way]:
        raise Usage("--no-video goes with passthrough and slice", "leave it out")
    params: dict[str, object] = {"domain": domain, "way": way}
    if what is not None:
        params["what"] = what
    if model is not None:
        params["model"] = model
    if arguments.flag("--no-video"):
        params["video"] = False
    for option, name in (("--live", "live"), ("--dry-run", "dry_run")):
        if arguments.flag(option):
            params[name] = True
    return params
