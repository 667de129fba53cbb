"""Who has to let go of what is being taken away."""

from __future__ import annotations

from dataclasses import replace

from tests.unit.daemon.decide.cards import AUDIO, GPU, WIN11, card, claim, domain, observed

from hostlerd.decide import decide
from hostlerd.model.holders import Holder
from hostlerd.model.ledger import Trouble
from hostlerd.model.observed import Observed
from hostlerd.model.plan import Plan
from hostlerd.model.questions import Question
from hostlerd.model.settings import Settings

MPV = Holder(
    address=AUDIO, pid=900, command="mpv", user="ada", unit=None, container=None, node="/dev/snd/pcmC0D0p"
)


def leaving(address: str, found: tuple[Holder, ...] | None = None) -> Observed:
    functions = card()
    functions[address] = replace(functions[address], driver=None, leaving=True)
    return replace(observed(functions), holders={} if found is None else {address: found})


def plan(state: Observed) -> Plan:
    return decide(state, Settings())


def test_a_domain_is_known_without_a_look():
    state = leaving(GPU)
    ours = replace(claim(domain(WIN11, GPU)), prepared=True)
    state = replace(state, ledger=replace(state.ledger, claims={WIN11: ours}))
    (refusal,) = plan(state).refusals
    assert (refusal.object, refusal.claim, refusal.remedy) == (GPU, None, f"stop {ours.name}")
    assert not [question for question in plan(state).questions if question.kind != "tuning"]
    assert GPU not in {step.object for step in plan(state).steps}


def test_a_process_is_looked_for():
    assert plan(leaving(AUDIO)).questions == (Question(kind="holders", object=AUDIO),)
    (refusal,) = plan(leaving(AUDIO, found=(MPV,))).refusals
    assert "mpv (process 900, user ada) still has it" in refusal.reason
    assert refusal.remedy == "end it"
    (refusal,) = plan(leaving(AUDIO, found=())).refusals
    assert "something in the kernel still has it" in refusal.reason


def test_what_is_degraded_is_said_as_that_alone():
    state = leaving(AUDIO)
    trouble = Trouble(object=AUDIO, reason="hangs", remedy="", since=1.0, wedged=True)
    state = replace(state, ledger=replace(state.ledger, troubles={AUDIO: trouble}))
    assert not plan(state).refusals
    assert not plan(state).questions
