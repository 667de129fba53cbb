"""`hostler plan`."""

from __future__ import annotations

from hostler.cli import output
from hostler.cli.arguments import Arguments, Option, Spec, Usage
from hostler.connection import Connection, expect_map
from hostler.render import placement
from hostler.render import plan as render
from hostler.shapes import rows_of

SPEC = Spec(
    "plan",
    """
What the daemon would do next, step by step, with reasons; what it refuses, with what to do about it. With --domain what
starting that domain would do, where its vCPUs would be, and what stands in the way of better places. On a recorded
host, --xml starts the domains of these files and --policy is in force. Nothing is changed. Exit status 4 where
something is refused.
""",
    options=(
        Option(
            "--domain",
            "a domain that does not run, by name or UUID; with --root: one of --xml, of that host, or a file",
            value="NAME",
        ),
        Option(
            "--root",
            "a recorded host: a folder or a tar file of /sys and /proc files; no daemon",
            value="PATH",
        ),
        Option("--xml", "with --root: domains to be started", value="FILE", many=True),
        Option("--policy", "with --root: the policy in force (none: the defaults)", value="FILE"),
    ),
)
REFUSED = 4


def run(arguments: Arguments) -> int:
    root, domain = arguments.value("--root"), arguments.value("--domain")
    if root is not None:
        from hostler.cli import offline  # noqa: PLC0415  brings subprocess

        return offline.run(["plan", "--root", root, *_more(arguments, domain)], arguments, _show)
    for option in ("--xml", "--policy"):
        if arguments.flag(option):
            raise Usage(f"{option} goes with --root", "without it the daemon plans, by its own policy")
    with Connection(arguments.socket) as daemon:
        plan = expect_map(daemon.call("plan", {"domain": domain} if domain is not None else {}), "plan")
    if arguments.json:
        output.say_json(plan)
    else:
        output.say(_show(plan))
    return REFUSED if plan.get("refusals") else 0


def _more(arguments: Arguments, domain: str | None) -> list[str]:
    policy = arguments.value("--policy")
    return [
        *(["--domain", domain] if domain is not None else []),
        *(["--policy", policy] if policy is not None else []),
        *(["--xml", *arguments.values("--xml")] if arguments.flag("--xml") else []),
    ]


def _show(plan: object) -> str:
    found, style = expect_map(plan, "plan"), output.style()
    given = rows_of(found.get("placements"))
    blocks = ["\n".join(placement.block(one, one.get("domain"), style)) for one in given]
    return "\n\n".join([render.render(found, style), *blocks])
