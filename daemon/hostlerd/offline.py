"""`hostlerd offline`: the verbs that need no daemon, on recorded hosts and domain XML.

Rules: JSON on standard output, sentences on standard error, exit status from hostler.errors. No root rights, no
daemon, no trio, libvirt or D-Bus: it starts in a tenth of a second and may be given anything.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hostler.errors import BadInput, HostlerError, Refused, exit_status, to_wire
from hostler.wire import POLICY, POLICY_DIRECTORY
from hostlerd.decide import decide
from hostlerd.decide.closure import companions
from hostlerd.decide.doctor import diagnose
from hostlerd.decide.explained import Explained
from hostlerd.decide.rule import RULE_FILE
from hostlerd.host import Files
from hostlerd.host.files import open_files
from hostlerd.model.cpus import Topology
from hostlerd.model.domains import Definition
from hostlerd.model.ledger import Claim, Ledger
from hostlerd.model.observed import Observed
from hostlerd.model.questions import QUESTIONS
from hostlerd.model.settings import Settings
from hostlerd.observe.answers import answered_by_files
from hostlerd.observe.checkup import observe_checkup
from hostlerd.observe.cpus import observe_cpus
from hostlerd.observe.domain_xml import MAX_XML, parse_domain
from hostlerd.observe.grip import grips
from hostlerd.observe.groups import observe_groups
from hostlerd.observe.holders import holders
from hostlerd.observe.names import device_names
from hostlerd.observe.pci import observe_drivers, observe_functions, observe_kernel
from hostlerd.observe.slices import observe_slices
from hostlerd.report.cpus import cpus_json
from hostlerd.report.devices import devices_json
from hostlerd.report.doctor import doctor_json
from hostlerd.report.domains import domain_json
from hostlerd.report.placement import placements_json
from hostlerd.report.plan import plan_json
from hostlerd.settings import load

USAGE = 2
DOCTOR = {"fine": 0, "warnings": 1, "broken": 2}
"""State of a host to exit status."""


def main(argv: Sequence[str]) -> int:
    """Run one verb. Returns the exit status; 2 is usage."""
    try:
        options = _parser().parse_args(list(argv))
    except SystemExit as leaving:  # argparse has said why
        return leaving.code if isinstance(leaving.code, int) else USAGE
    answer: object
    try:
        match options.verb:
            case "cpus":
                answer, status = cpus_json(observe_cpus(open_files(options.root))), 0
            case "devices":
                answer, status = _devices(open_files(options.root)), 0
            case "doctor":
                answer, status = _doctor(options)
            case "plan":
                answer, status = _plan(options)
            case _:
                answer, status = _domains(options.xml)
    except HostlerError as error:
        _complain(error.sentence)
        answer, status = {"error": to_wire(error)}, exit_status(error)
    _say(answer)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hostlerd offline",
        description="Reads recorded hosts and domain XML without a daemon and prints JSON.",
        allow_abbrev=False,
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb, text in (
        ("cpus", "the processors of a host"),
        ("devices", "its PCI functions"),
        ("plan", "what the daemon would do there"),
        ("doctor", "what is in the way there"),
    ):
        one = verbs.add_parser(verb, help=text, description=text, allow_abbrev=False)
        one.add_argument(
            "--root", required=True, metavar="PATH", help="a folder or tar file with /sys and /proc, or /"
        )
        if verb == "plan":
            one.add_argument(
                "--xml", nargs="+", action="extend", default=[], metavar="FILE", help="domains to be started"
            )
            one.add_argument(
                "--domain",
                metavar="NAME",
                help="one domain alone: of those in --xml, of the host's own, or a file",
            )
        if verb in ("plan", "doctor"):
            one.add_argument("--policy", metavar="FILE", help="a policy file; without it the defaults hold")
    one = verbs.add_parser("domains", help="domain XML files", allow_abbrev=False)
    one.add_argument("--xml", nargs="+", action="extend", required=True, metavar="FILE")
    return parser


def _devices(files: Files) -> list[dict[str, Any]]:
    observed = _observe(files, need_cpus=False)
    return devices_json(
        observed.functions,
        owners=decide(observed, Settings()).owners if observed.topology.cpus else {},
        names=device_names(observed.functions.values()),
        companions=lambda address: companions(observed.functions, address),
        holders=holders(files, observed.functions.values()),
        grips=grips(files, observed.functions.values()),
        slices=observed.slices,
    )


def _plan(options: argparse.Namespace) -> tuple[dict[str, Any], int]:
    files = open_files(options.root)
    settings = _settings(options.policy)
    observed = _observe(files)
    claims = {
        domain.uuid: Claim(definition=domain, since=since)
        for since, domain in enumerate(_starting(files, options.xml, options.domain), 1)
    }
    observed = replace(observed, ledger=Ledger(claims=claims), imagined=frozenset(claims))
    plan = decide(observed, settings)
    for _ in range(QUESTIONS):
        if not plan.questions:
            break
        observed = answered_by_files(files, observed, plan.questions)
        plan = decide(observed, settings)
    answer = plan_json(plan)
    if claims:
        reasons = Explained(observed, settings, plan, claims)
        answer["placements"] = placements_json(one for uuid in claims if (one := reasons.of(uuid)))
    return answer, exit_status(Refused("")) if plan.refusals else 0


def _settings(policy: str | None) -> Settings:
    if policy is not None and not os.path.isfile(policy):
        raise BadInput(f"{policy}: there is no such file", remedy="name a policy file")
    return Settings() if policy is None else load(policy, "")


def _doctor(options: argparse.Namespace) -> tuple[dict[str, Any], int]:
    """On this very host its own policy counts; a wrong one is one more thing that is found."""
    files, live, wrong = open_files(options.root), os.path.realpath(options.root) == "/", ""
    settings = _settings(options.policy)
    if live and options.policy is None:
        try:
            settings = load(POLICY, POLICY_DIRECTORY)
        except BadInput as error:
            wrong = error.message
    found = doctor_json(diagnose(observe_checkup(files, live=live, policy=wrong), settings))
    return found, DOCTOR[found["state"]]


def _starting(files: Files, paths: Sequence[str], name: str | None) -> list[Definition]:
    """The domains whose start is planned. One without a UUID goes by its name."""
    domains = [_domain(path) for path in paths]
    if name is not None:
        domains = [domain for domain in domains if name in (domain.name, domain.uuid)]
        if not domains:
            domains = [_domain(name) if os.path.isfile(name) else _defined(files, name)]
    return [domain if domain.uuid else replace(domain, uuid=domain.name) for domain in domains]


def _domain(path: str) -> Definition:
    try:
        return parse_domain(_read(path))
    except BadInput as error:
        raise BadInput(f"{path}: {error.message}", remedy=error.remedy, data=error.data) from None


def _defined(files: Files, name: str) -> Definition:
    """The domain as libvirt of the recorded host has it."""
    try:
        if "/" in name:
            raise FileNotFoundError
        return parse_domain(files.read(f"/etc/libvirt/qemu/{name}.xml"))
    except OSError:
        raise BadInput(f"no XML of a domain {name!r} was given", remedy="name its file with --xml") from None


def _observe(files: Files, *, need_cpus: bool = True) -> Observed:
    try:
        topology = observe_cpus(files)
    except BadInput:
        if need_cpus:
            raise
        topology = Topology(cpus=())
    try:
        rule: str | None = files.read(RULE_FILE)
    except OSError:
        rule = None
    functions = observe_functions(files)
    return Observed(
        topology=topology,
        functions=functions,
        slices=observe_slices(files, functions),
        groups=observe_groups(files, topology),
        drivers=observe_drivers(files),
        kernel=observe_kernel(files),
        rule=rule,
    )


def _domains(paths: Sequence[str]) -> tuple[list[dict[str, Any]], int]:
    """Every file is listed; one that is no domain makes the status 1."""
    found: list[dict[str, Any]] = []
    status = 0
    for path in paths:
        try:
            found.append(domain_json(parse_domain(_read(path)), file=path))
        except HostlerError as error:
            _complain(f"{path}: {error.sentence}")
            found.append({"file": path, "error": error.message})
            status = exit_status(error)
    return found, status


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(MAX_XML + 1)
    except OSError as error:
        raise BadInput(f"cannot be read: {error.strerror or error}", remedy="name a domain's XML") from None


def _complain(sentence: str) -> None:
    print(f"hostlerd: {sentence}", file=sys.stderr)


def _say(answer: object) -> None:
    """Print it; a reader that has gone away (`| head`) is no fault of ours."""
    try:
        json.dump(answer, sys.stdout, ensure_ascii=False, separators=(", ", ": "))
        sys.stdout.write("\n")
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
