"""How long shared domains count as starving."""

from __future__ import annotations

import math

import trio
import trio.testing
from tests.unit.daemon.decide.cards import GPU, WIN11, WORK, domain, observed
from tests.unit.daemon.decide.pinning.virt import run

from hostlerd.decide import decide
from hostlerd.model.observed import Observed
from hostlerd.model.settings import Settings
from hostlerd.reconcile.pressure import HOLD, Lending

BOTH = observed(running=(run(domain(WORK, vcpus=2)), run(domain(WIN11, GPU, vcpus=2))))
ALONE = observed(running=(run(domain(WORK, vcpus=2)),))
DEDICATED = observed(running=(run(domain(WIN11, GPU, vcpus=2)),))


def see(lending: Lending, state: Observed) -> None:
    lending.seen(state, decide(state, Settings()))


async def test_a_while_after_the_last_word(autojump_clock: trio.testing.MockClock) -> None:
    looks: list[float] = []
    lending = Lending(lambda: looks.append(trio.current_time()))
    see(lending, BOTH)
    assert not lending.starving
    assert lending.look_again_after == math.inf
    lending.starved()
    assert lending.starving
    assert len(looks) == 1
    await trio.sleep(HOLD / 2)
    lending.starved()
    assert len(looks) == 1  # it is known
    await trio.sleep(HOLD - 1)
    assert lending.starving
    assert lending.look_again_after == 1
    await trio.sleep(1)
    assert not lending.starving
    assert lending.look_again_after == math.inf


async def test_who_starves_again_at_once_is_lent_for_longer(autojump_clock: trio.testing.MockClock) -> None:
    lending = Lending(lambda: None)
    see(lending, BOTH)
    times: list[float] = []
    for _ in range(6):
        lending.starved()
        times.append(lending.look_again_after)
        await trio.sleep(lending.look_again_after + 1)
    assert times == [60, 120, 240, 480, 960, 960]
    await trio.sleep(1000)
    lending.starved()
    assert lending.look_again_after == HOLD


async def test_armed_only_while_some_share_and_others_do_not(autojump_clock: trio.testing.MockClock) -> None:
    lending = Lending(lambda: None)
    for state, armed in ((ALONE, False), (BOTH, True), (DEDICATED, False), (BOTH, True)):
        see(lending, state)
        with trio.fail_after(1):
            await lending.wait_armed(armed=armed)
        lending.starved()
        assert lending.starving == armed
        assert (lending.look_again_after == math.inf) != armed
