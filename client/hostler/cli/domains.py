"""`hostler domains`."""

from __future__ import annotations

from hostler.cli import output
from hostler.cli.arguments import Arguments, Option, Spec, Usage
from hostler.connection import Connection, expect_rows
from hostler.render import domains as render

SPEC = Spec(
    "domains",
    """
Domains: vCPUs, pins (of one that runs those in force), and which devices of the host they have. With NAME everything
about that one, and of one that runs what its placement reached, term by term, and what stands in the way. With --xml
what the files say, with no daemon; exit status 1 where one of them is no domain.
""",
    words=("[NAME]",),
    options=(Option("--xml", "domain XML files, as `virsh dumpxml` writes them", value="FILE", many=True),),
)


def run(arguments: Arguments) -> int:
    name = arguments.word(0)
    if arguments.flag("--xml"):
        if name is not None:
            raise Usage(f"`{name}` and --xml do not go together", "put files behind --xml, or leave it out")
        from hostler.cli import offline  # noqa: PLC0415  brings subprocess

        return offline.run(["domains", "--xml", *arguments.values("--xml")], arguments, _show_files)
    with Connection(arguments.socket) as daemon:
        domains = expect_rows(daemon.call("domains", {"name": name} if name is not None else {}), "domains")
    if arguments.json:
        output.say_json(domains)
    elif name is not None:
        output.say("\n\n".join(render.render_one(domain, output.style()) for domain in domains))
    else:
        output.say(render.render(domains, output.style()))
    return 0


def _show_files(domains: object) -> str:
    # What is wrong with the others hostlerd has said on standard error.
    good = [row for row in expect_rows(domains, "domains") if "error" not in row]
    return render.render(good, output.style()) if good else ""
