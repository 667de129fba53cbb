"""Who has CPUs: as far as can be seen, or could not be seen yet."""

from __future__ import annotations

from dataclasses import replace

from tests.unit.daemon.decide.cards import observed

from hostlerd.decide import decide
from hostlerd.decide.living import gone, living
from hostlerd.model.isolation import Group
from hostlerd.model.ledger import Ledger, Outstanding
from hostlerd.model.observed import Observed
from hostlerd.model.plan import AllowCpus
from hostlerd.model.programs import Program
from hostlerd.model.settings import Settings

GAME = Program(id="a1", name="game", uid=0, pid=7, start=9, count=2, cpus="2,6")
SCOPE = Group(
    unit=GAME.scope,
    allowed=GAME.own,
    effective=GAME.own,
    path=f"/sys/fs/cgroup/hostler.slice/{GAME.scope}",
)


def state(*programs: Program, scope: Group | None = None, **more: object) -> Observed:
    base = observed()
    groups = replace(base.groups, programs=(scope,) if scope else ())
    return replace(base, groups=groups, ledger=Ledger(programs={p.id: p for p in programs}), **more)  # type: ignore[arg-type]


def test_a_scope_is_what_counts() -> None:
    assert list(living(state(GAME, scope=SCOPE))) == [GAME]
    assert gone(state(GAME)) == ["a1"]
    assert not list(living(state(GAME)))


def test_one_that_waits_has_nothing_and_is_not_gone() -> None:
    asking = replace(GAME, cpus="")
    assert not list(living(state(asking)))
    assert not gone(state(asking))


def test_one_whose_scope_is_being_made_or_is_newer_than_the_look_has_its_cpus() -> None:
    making = state(GAME)
    step = Outstanding(number=1, kind="scope", object=GAME.scope)
    making = replace(making, ledger=replace(making.ledger, outstanding={1: step}))
    assert list(living(making)) == [GAME]
    assert list(living(state(GAME, unseen=frozenset({GAME.scope})))) == [GAME]


def test_what_is_left_of_a_claim_may_run_anywhere() -> None:
    plan = decide(state(scope=SCOPE), Settings())
    [step] = [s for s in plan.steps if s.object == GAME.scope]
    assert isinstance(step, AllowCpus)
    assert step.cpus == observed().topology.possible
    assert step.record is None
    wide = replace(SCOPE, allowed=observed().topology.possible)
    assert not decide(state(scope=wide), Settings()).steps


def test_the_host_leaves_its_cpus_and_none_of_them_is_given_away() -> None:
    plan = decide(state(GAME, scope=SCOPE), Settings())
    assert plan.dedicated == plan.isolated == GAME.own
    assert {s.object for s in plan.steps if isinstance(s, AllowCpus)} == {
        "init.scope",
        "system.slice",
        "user.slice",
    }
