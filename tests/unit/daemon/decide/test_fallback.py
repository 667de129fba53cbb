"""The declared fallback: who gets it, when, and when it ends."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.daemon.decide.cards import AUDIO, GPU, NIC, WIN11, WORK, card, claim, domain, observed

from hostlerd.decide import decide
from hostlerd.model.domains import Definition, Gpu, Running, Snapshot
from hostlerd.model.edits import Edit
from hostlerd.model.identity import Known
from hostlerd.model.ledger import Ledger, Trouble
from hostlerd.model.observed import Observed
from hostlerd.model.plan import EditDefinition
from hostlerd.model.settings import DevicePolicy, DomainPolicy, Match, Settings

POLICY = Settings(overrides={"win11": DomainPolicy(fallback="emulated", fallback_model="qxl")})
WANTS = domain(WIN11, GPU, AUDIO, gpu=Gpu.PASSTHROUGH)
BARE = domain(WIN11, gpu=Gpu.EMULATED)
FELL = Edit(
    uuid=WIN11, name="win11", kind="gpu", by="fallback", before=f"passthrough {GPU}", after="emulated", changes=(),
    lacks=(GPU, AUDIO), done=True,
)  # fmt: skip
WITHOUT = {a: f for a, f in card().items() if a not in (GPU, AUDIO)}
DEGRADED = Ledger(troubles={GPU: Trouble(object=GPU, reason="it hangs", remedy="reboot", since=0.0)})


def host(*inactive: Definition, edits: tuple[Edit, ...] = (), **more: object) -> Observed:
    running = more.pop("running", ())
    seen = observed(**more)  # type: ignore[arg-type]
    snapshot = Snapshot(known=True, taken=2, running=running, inactive=inactive)  # type: ignore[arg-type]
    return replace(seen, snapshot=snapshot, edits={WIN11: edits} if edits else {})


def edits(seen: Observed, settings: Settings = POLICY) -> list[EditDefinition]:
    return [step for step in decide(seen, settings).steps if isinstance(step, EditDefinition)]


OTHER = (Running(live=domain(WORK, GPU), definition=None),)


def test_another_card_at_its_address_is_not_its_card() -> None:
    settings = replace(POLICY, devices=(DevicePolicy(name="gaming", match=Match(address=GPU)),))
    seen = replace(host(WANTS), known={GPU: Known(identity="10de:2684:030000")})
    (step,) = edits(seen, settings)
    assert step.why.startswith(f"{GPU} is another card now")


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        (host(WANTS, functions=WITHOUT), f"{GPU} is not on this host"),
        (host(WANTS, ledger=DEGRADED), f"{GPU} is degraded"),
        (host(WANTS, running=OTHER), f"{GPU} belongs to domain work"),
    ],
    ids=["missing", "degraded", "taken"],
)
def test_a_domain_that_cannot_have_its_card_gets_an_emulated_one(seen: Observed, why: str) -> None:
    (step,) = edits(seen)
    assert (step.object, step.uuid, step.lane) == ("win11", WIN11, "libvirt")
    assert step.before == f"passthrough {GPU} {AUDIO}"
    assert step.after == "emulated qxl"
    assert step.why.startswith(why)
    assert step.lacks == (GPU, AUDIO)
    assert step.change is not None
    assert (step.change.way, step.change.leave, step.change.model) == ("emulated", {GPU, AUDIO}, "qxl")


@pytest.mark.parametrize(
    "seen",
    [
        host(WANTS),
        host(
            domain(WIN11, NIC, gpu=Gpu.PASSTHROUGH),
            running=(Running(live=domain(WORK, NIC), definition=None),),
        ),
        host(running=(Running(live=WANTS, definition=WANTS),), ledger=DEGRADED),
        replace(host(WANTS, functions=WITHOUT), ledger=Ledger(claims={WIN11: claim(WANTS)})),
        replace(host(WANTS, functions=WITHOUT), snapshot=Snapshot(inactive=(WANTS,))),
        host(WANTS, functions={}),
        host(WANTS, functions=WITHOUT, ledger=Ledger(troubles={"win11": DEGRADED.troubles[GPU]})),
        host(BARE, functions=WITHOUT),
    ],
    ids=[
        "all is there",
        "not its GPU",
        "it runs",
        "it starts",
        "libvirt is away",
        "nothing is known",
        "refused before",
        "has none",
    ],
)
def test_no_other_definition_is_touched(seen: Observed) -> None:
    assert not edits(seen)


def test_only_by_policy() -> None:
    assert not edits(host(WANTS, functions=WITHOUT), Settings())


def test_it_ends_when_the_card_is_there_and_free() -> None:
    (step,) = edits(host(BARE, edits=(FELL,)))
    assert step.change is None
    assert (step.before, step.after) == ("emulated", f"passthrough {GPU}")
    assert step.why == f"{GPU} {AUDIO} is there and free again"


@pytest.mark.parametrize(
    "seen",
    [
        host(BARE, edits=(FELL,), functions=WITHOUT),
        host(BARE, edits=(FELL,), ledger=DEGRADED),
        host(BARE, edits=(FELL,), running=OTHER),
        host(edits=(FELL,), running=(Running(live=BARE, definition=BARE),)),
        host(BARE, edits=(replace(FELL, by="user"),)),
    ],
    ids=["missing", "degraded", "taken", "it runs", "the user's own"],
)
def test_until_then_it_stays(seen: Observed) -> None:
    assert not edits(seen)


def test_it_ends_when_policy_does_not_ask_for_it_any_more() -> None:
    (step,) = edits(host(BARE, edits=(FELL,), functions=WITHOUT), Settings())
    assert step.change is None
    assert step.why == "policy asks for no fallback any more"
