"""Slices of devices: VFs of the NVMe drive, mediated devices of the kernel's samples.

What was made is looked for in sysfs. The words of `hostler devices` are held against it.
"""

import json

from . import hooks, mdev, modules, pci, service, snapshot, sriov
from .domains import Domain
from .jobs import RETURNED, check_returned
from .kills import comes_back
from .programs import holds, need, run
from .report import Report, scenario

CARD = sriov.CARD
FIRST, SECOND, THIRD = (f"0000:05:00.{n}" for n in (1, 2, 3))
A, B = (f"0000000{n}-aaaa-4aaa-8aaa-aaaaaaaaaaaa" for n in (1, 2))
LIMIT = 30.0


def policy(vfs: int, *, keep: bool = False) -> None:
    lines = ["[[device]]", f'match = {{ address = "{CARD}" }}', f"vfs = {vfs}"]
    service.policy("\n".join([*lines, *(["keep_vfs = true"] if keep else []), ""]))


def autoprobe() -> str:
    with open(f"{pci.DEVICES}/{CARD}/sriov_drivers_autoprobe", encoding="ascii") as file:
        return file.read()


def holder(name: str, *addresses: str) -> Domain:
    """managed='no', so that no driver moves but by us."""
    return Domain(name=name, hostdevs=addresses, managed=False)


def mediated(name: str, uuid: str, kind: str = "mbochs-small", **more: str) -> Domain:
    words = {"uuid": uuid, "type": kind, **more}
    return Domain(name=name, mdevs=(uuid,), slices=(" ".join(f"{k}='{v}'" for k, v in words.items()),))


def shown(parent: str) -> dict[str, object]:
    """What `hostler devices` says of one device."""
    rows = json.loads(need("hostler", "devices", "--json"))
    return next((row for row in rows if row["address"] == parent), {})


@scenario(
    "none before",
    "starts",
    "two are made",
    "on VFIO before libvirt's turn",
    "the other has no driver",
    "the drive stays the host's",
    "counted in hostler devices",
    "none left",
    "autoprobe as it was",
    *RETURNED,
)
def virtual_function(report: Report) -> None:
    """A VF that is not there when the domain starts and not after it."""
    before, probes = snapshot.take(), autoprobe()
    report.equal("none before", sriov.functions(), [])
    policy(2)
    with holder("virtual", SECOND).defined() as domain:
        started = domain.start()
        report.check("starts", started.ok, started)
        report.equal("two are made", sriov.functions(), [FIRST, SECOND])
        prepared = hooks.on_vfio_at(domain.name, "prepare")
        report.check("on VFIO before libvirt's turn", prepared is not None and SECOND in prepared, prepared)
        report.equal("the other has no driver", pci.driver(FIRST), None)
        report.equal("the drive stays the host's", pci.driver(CARD), "nvme")
        counts = shown(CARD).get("sriov")
        wanted = {"total": 4, "count": 2, "vfs": [FIRST, SECOND]}
        report.equal("counted in hostler devices", counts, wanted)
        domain.destroy()
    report.within("none left", LIMIT, lambda: not sriov.functions(), sriov.functions)
    report.equal("autoprobe as it was", autoprobe(), probes)
    service.policy("")
    check_returned(report, before)


@scenario(
    "another has its VF",
    "its owner is named",
    "the whole drive is refused",
    "they cannot be more",
    "stay while one is in use",
    "stay without their policy",
    "go with the last",
    "autoprobe as it was",
    *RETURNED,
)
def in_use(report: Report) -> None:
    """VFs go all at once or not at all: they stay as long as any is a domain's."""
    before, probes = snapshot.take(), autoprobe()
    policy(2)
    with (
        holder("one", FIRST).defined() as one,
        holder("two", SECOND).defined() as two,
        holder("thief", FIRST).defined() as thief,
        holder("whole", CARD).defined() as whole,
        holder("more", THIRD).defined() as more,
    ):
        one.must_start()
        started = two.start()
        report.check("another has its VF", started.ok and pci.on_vfio(SECOND), started)
        refused = thief.start()
        report.check("its owner is named", not refused.ok and "belongs to domain one" in refused.err, refused)
        refused = whole.start()
        report.check(
            "the whole drive is refused", not refused.ok and "2 virtual functions" in refused.err, refused
        )
        refused = more.start()
        report.check("they cannot be more", not refused.ok and "cannot add to them" in refused.err, refused)
        one.destroy()
        report.equal("stay while one is in use", sriov.functions(), [FIRST, SECOND])
        service.policy("")
        gone = holds(lambda: not sriov.functions(), 5.0)
        report.check("stay without their policy", not gone and two.state() == "running", two.state())
        two.destroy()
    report.within("go with the last", LIMIT, lambda: not sriov.functions(), sriov.functions)
    report.equal("autoprobe as it was", autoprobe(), probes)
    check_returned(report, before)


@scenario("made at once", "stay after a domain", "go with the policy", "autoprobe as it was", *RETURNED)
def kept(report: Report) -> None:
    before, probes = snapshot.take(), autoprobe()
    policy(3, keep=True)
    report.within("made at once", LIMIT, lambda: len(sriov.functions()) == 3, sriov.functions)
    with holder("kept", THIRD).defined() as domain:
        domain.must_start()
        domain.destroy()
    report.equal("stay after a domain", len(sriov.functions()), 3)
    service.policy("")
    report.within("go with the policy", LIMIT, lambda: not sriov.functions(), sriov.functions)
    report.within("autoprobe as it was", LIMIT, lambda: autoprobe() == probes, autoprobe)
    check_returned(report, before)


@scenario(
    "starts",
    "made",
    "one less is left",
    "shown with its owner",
    "another domain is refused by name",
    "what is missing is said",
    "removed",
    "all are left again",
)
def by_metadata(report: Report) -> None:
    """A mediated device that is there from the domain's start to its end."""
    modules.load(modules.MBOCHS)
    (parent,) = [name for name in mdev.parents() if "mbochs-small" in mdev.types(name)]
    before = mdev.types(parent)
    with (
        mediated("slice", A).defined() as domain,
        mediated("thief", A).defined() as thief,
        Domain(name="vague", mdevs=(B,)).defined() as vague,
    ):
        started = domain.start()
        report.check("starts", started.ok, started)
        report.equal("made", mdev.devices(), {A: "mbochs-small"})
        left = mdev.types(parent)
        report.equal("one less is left", left["mbochs-small"], before["mbochs-small"] - 1)
        found = shown(parent).get("slices")
        types = (
            {kind["type"]: kind["available"] for kind in found["types"]} if isinstance(found, dict) else {}
        )
        users = found["instances"] if isinstance(found, dict) else None
        owned = [{"uuid": A, "address": None, "type": "mbochs-small", "domain": domain.name}]
        report.check("shown with its owner", types == left and users == owned, found)
        refused = thief.start()
        report.check(
            "another domain is refused by name",
            not refused.ok and "belongs to domain slice" in refused.err,
            refused,
        )
        refused = vague.start()
        said = "nothing says of which type" in refused.err and "mbochs-small on" in refused.err
        report.check("what is missing is said", not refused.ok and said, refused)
        domain.destroy()
    report.within("removed", LIMIT, lambda: not mdev.devices(), mdev.devices)
    report.equal("all are left again", mdev.types(parent), before)
    modules.unload(modules.MBOCHS)


@scenario(
    "mdevctl's is made",
    "and taken away",
    "policy's is made",
    "and stays: it is persistent",
    "somebody else's stays",
    "a start that fails late leaves none",
)
def by_others(report: Report) -> None:
    """What mdevctl defines, what policy says, and what was there before."""
    modules.load(modules.MTTY)
    (parent,) = [name for name in mdev.parents() if "mtty-1" in mdev.types(name)]
    need("mdevctl", "define", "--uuid", A, "--parent", parent, "--type", "mtty-1")
    with Domain(name="defined", mdevs=(A,)).defined() as domain:
        started = domain.start()
        report.check("mdevctl's is made", mdev.devices() == {A: "mtty-1"}, (started, mdev.devices()))
        virsh_off(domain)
        report.within("and taken away", LIMIT, lambda: not mdev.devices(), mdev.devices)
    run("mdevctl", "undefine", "--uuid", A)
    lines = ["[[slice]]", f'uuid = "{B}"', 'type = "mtty-2"', 'domain = "declared"', "persistent = true", ""]
    service.policy("\n".join(lines))
    with Domain(name="declared", mdevs=(B,)).defined() as domain:
        started = domain.start()
        report.check("policy's is made", mdev.devices() == {B: "mtty-2"}, (started, mdev.devices()))
        virsh_off(domain)
        gone = holds(lambda: not mdev.devices(), 5.0)
        report.check("and stays: it is persistent", not gone, mdev.devices())
        service.policy("")
        started = domain.start()  # by now it is somebody else's for us
        virsh_off(domain)
        gone = holds(lambda: not mdev.devices(), 5.0)
        report.check("somebody else's stays", started.ok and not gone, (started, mdev.devices()))
    mdev.remove(B)
    late = mediated("late", A, "mtty-1")
    late = Domain(name="late", mdevs=late.mdevs, slices=late.slices, firmware=b"too short for a firmware")
    with late.defined():
        started = late.start()
        gone = holds(lambda: not mdev.devices(), LIMIT)
        report.check(
            "a start that fails late leaves none", not started.ok and gone, (started, mdev.devices())
        )
    modules.unload(modules.MTTY)


def virsh_off(domain: Domain) -> None:
    if domain.state() == "running":
        domain.destroy()


KILLED = ("killed at the step", "comes back", "done or undone", "starts later", "nothing left")


def check_killed(report: Report, kind: str, *, at: str = "begin") -> None:
    """While a start makes two VFs and a mediated device. Answers all of KILLED."""
    before, probes = snapshot.take(), autoprobe()
    modules.load(modules.MBOCHS)
    policy(2)
    words = f"uuid='{A}' type='mbochs-small'"
    domain = Domain(name="victim", hostdevs=(SECOND,), managed=False, mdevs=(A,), slices=(words,))

    def made() -> bool:
        return mdev.devices() == {A: "mbochs-small"} and len(sriov.functions()) == 2 and pci.on_vfio(SECOND)

    def none() -> bool:
        left = snapshot.take()
        return not (mdev.devices() or sriov.functions() or before.differences(left)) and autoprobe() == probes

    with domain.defined():
        with service.KillAt(kind, at=at) as killer:
            started = domain.start()
        report.check("killed at the step", killer.fired, f"no {kind} in {service.JOURNAL}; start: {started}")
        comes_back(report, killer)
        whole = holds(lambda: made() if domain.state() == "running" else none(), 60.0)
        report.check(
            "done or undone", whole, (domain.state(), mdev.devices(), sriov.functions(), autoprobe())
        )
        if domain.state() != "running":
            started = domain.start()
        report.check("starts later", domain.state() == "running" and made(), started)
        virsh_off(domain)
        service.policy("")
        report.within("nothing left", 60.0, none, lambda: (mdev.devices(), sriov.functions(), autoprobe()))
    modules.unload(modules.MBOCHS)


@scenario(*KILLED)
def killed_at_virtual_functions(report: Report) -> None:
    check_killed(report, "virtual-functions")


@scenario(*KILLED)
def killed_after_mdev(report: Report) -> None:
    check_killed(report, "mdev", at="end")


@scenario("killed at the step", "comes back", "nothing left")
def killed_while_taking_away(report: Report) -> None:
    before, probes = snapshot.take(), autoprobe()
    policy(2)
    with holder("victim", FIRST).defined() as domain:
        domain.must_start()
        with service.KillAt("virtual-functions") as killer:
            domain.destroy()
            holds(lambda: killer.fired, LIMIT)
        report.check("killed at the step", killer.fired, f"no virtual-functions in {service.JOURNAL}")
        comes_back(report, killer)

    def none() -> bool:
        return not sriov.functions() and autoprobe() == probes and not before.differences(snapshot.take())

    report.within("nothing left", 60.0, none, lambda: (sriov.functions(), autoprobe()))
    service.policy("")


@scenario("active all along", "no traceback", "nothing degraded")
def quiet(report: Report) -> None:
    """After all of the above the service is well."""
    report.check("active all along", service.active(), service.log("-n", "40"))
    log = service.log()
    report.check("no traceback", "Traceback" not in log, log[-3000:] if "Traceback" in log else "")
    status = json.loads(need("hostler", "status", "--json"))
    report.equal("nothing degraded", status["degraded"], [])


SCENARIOS = (
    virtual_function,
    in_use,
    kept,
    by_metadata,
    by_others,
    killed_at_virtual_functions,
    killed_after_mdev,
    killed_while_taking_away,
    quiet,
)
