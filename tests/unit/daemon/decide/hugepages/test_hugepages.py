"""What is added and taken away, and when one waits or refuses."""

from __future__ import annotations

from dataclasses import replace

from tests.unit.daemon.decide.hugepages.pools import (
    GIB,
    MIB,
    WIN11,
    WORK,
    claim,
    guest,
    path,
    pool,
    record,
    state,
)

from hostlerd.decide.hugepages import QUESTION, Pages, decide_hugepages
from hostlerd.decide.hugepages.reserving import spread
from hostlerd.model.guest_memory import Numatune
from hostlerd.model.hugepages import COMPACT, DROP_CACHES, PageSize
from hostlerd.model.ledger import Trouble
from hostlerd.model.observed import Observed
from hostlerd.model.settings import DomainPolicy, HugepagesPolicy, Settings


def decided(observed: Observed, not_yet: tuple[str, ...] = (), **policy: bool) -> Pages:
    settings = Settings(domains=DomainPolicy(hugepages=HugepagesPolicy(**policy)))
    return decide_hugepages(observed, settings, {}, not_yet)


def changes(pages: Pages) -> list[tuple[str, str | None, str | None]]:
    return [(step.object, step.before, step.after) for step in pages.steps]


def test_nothing_is_asked_or_done_without_a_wish_for_huge_pages():
    plain = state(pool(), claims=(claim(guest(page_sizes=())),))
    for observed in (plain, state(pool(), claims=(claim(guest(), prepared=True),), records=(record(50),))):
        assert decided(replace(observed, hugepages=None)) == Pages()


def test_it_is_asked_first():
    observed = replace(state(claims=(claim(guest()),)), hugepages=None)
    assert decided(observed).questions == (QUESTION,)
    assert decided(observed, not_yet=(WIN11,)) == Pages()


def test_what_is_missing_is_added():
    [step] = decided(state(pool(total=20, free=10), claims=(claim(guest()),))).steps
    assert (step.object, step.before, step.after, step.claim) == (path(), "20", "60", WIN11)
    assert step.why == "win11 needs 40 pages of 2 MiB (80 MiB) more on node 0"
    assert step.record == record(0, asked=40, base=20, before=20, target=60)


def test_surplus_pages_become_lasting_first_and_are_no_use():
    """And what was made lasting by us is surplus again afterwards."""
    [step] = decided(state(pool(total=30, free=10, surplus=20), claims=(claim(guest()),))).steps
    assert (step.before, step.after) == ("10", "70")
    assert step.record.asked == 60


def test_what_the_kernel_has_promised_is_not_free():
    assert changes(decided(state(pool(total=50), claims=(claim(guest()),), reserved=10))) == [
        (path(), "50", "60")
    ]


def test_what_another_domain_has_yet_to_take_is_not_free():
    other = claim(guest(uuid=WORK), prepared=True)
    starting = claim(guest())
    assert changes(decided(state(pool(total=50), claims=(other, starting)))) == [(path(), "50", "100")]
    half = state(pool(total=50, free=25), claims=(other, starting), taken={WORK: 25 * MIB})
    assert changes(decided(half)) == [(path(), "50", "100")]
    all_ = state(pool(total=100, free=50), claims=(other, starting), taken={WORK: 50 * MIB})
    assert changes(decided(all_)) == []


def test_one_change_of_a_pool_a_round():
    first, second = claim(guest()), replace(claim(guest(uuid=WORK)), since=2)
    pages = decided(state(pool(), claims=(second, first)))
    assert [step.claim for step in pages.steps] == [WIN11]
    assert pages.waiting == {WORK}
    back = decided(state(pool(total=50), claims=(second,), records=(record(50),)))
    assert changes(back) == [(path(), "50", "0")]
    assert back.waiting == {WORK}


def test_counted_from_the_pool_whatever_became_of_the_write():
    for total, added in ((10, 0), (30, 20), (60, 50), (90, 50), (5, 0)):
        open_ = record(0, asked=50, before=10, target=60)
        pages = decided(state(pool(total=total), claims=(claim(guest()),), records=(open_,)))
        [found] = pages.counted
        assert (found.added, found.is_open, found.spent) == (added, False, added < 50)


def test_counted_on_the_way_back():
    for total, left in ((60, 50), (30, 20), (10, 0)):
        open_ = record(50, before=60, target=10)
        pages = decided(state(pool(total=total), records=(open_,)))
        if left:
            assert [found.added for found in pages.counted] == [left]
            assert changes(pages) == [(path(), str(total), str(total - left))]
        else:
            assert pages.settled == (open_.key,)


def test_while_the_write_may_go_on_nothing_is_counted_or_changed():
    observed = state(pool(total=30), records=(record(0, asked=50, before=10, target=60),))
    trouble = Trouble(object=path(), reason="", remedy="", since=0.0, wedged=True)
    observed = replace(observed, ledger=replace(observed.ledger, troubles={path(): trouble}))
    assert decided(observed) == Pages()
    starting = replace(observed, ledger=replace(observed.ledger, claims={WIN11: claim(guest(mib=1000))}))
    [refusal] = decided(starting).refusals
    assert f"a write to {path()} has not returned, or failed" in refusal.reason


def test_refused_where_the_kernel_gave_too_few():
    spent = record(30, asked=50)
    [refusal] = decided(state(pool(total=30), claims=(claim(guest()),), records=(spent,))).refusals
    assert refusal.claim == WIN11
    assert refusal.reason == (
        "win11 needs 50 pages of 2 MiB (100 MiB) on node 0, and 30 of 50 can be had: the kernel finds no more "
        "memory in one piece, or not in time"
    )
    assert "start it earlier" in refusal.remedy
    assert 'hugepages = { compact = true, drop_caches = true } in [domain."win11"]' in refusal.remedy


def test_room_is_made_once_as_policy_lets_it():
    observed = state(pool(total=30), claims=(claim(guest()),), records=(record(30, asked=50),))
    for policy, files in (
        ({"compact": True}, [COMPACT]),
        ({"drop_caches": True}, [DROP_CACHES]),
        ({"compact": True, "drop_caches": True}, [DROP_CACHES, COMPACT]),
    ):
        pages = decided(observed, **policy)
        assert [step.object for step in pages.steps] == [*files, path()]
        assert pages.steps[-1].record.compacted
    again = state(pool(total=40), claims=(claim(guest()),), records=(record(40, asked=50, compacted=True),))
    assert decided(again, compact=True).refusals


def test_more_than_all_memory_is_refused_at_once():
    [refusal] = decided(state(pool(), claims=(claim(guest(mib=9000)),))).refusals
    assert "all memory there would be no more than 4096 pages of 2 MiB (8 GiB)" in refusal.reason


def test_a_size_that_the_kernel_does_not_have():
    wanted = guest(page_sizes=(PageSize(kib=GIB),))
    [refusal] = decided(state(pool(), claims=(claim(wanted),))).refusals
    assert refusal.reason == "win11 asks for pages of 1 GiB, which this kernel does not have (it has 2 MiB)"


def test_off_keeps_others_away_from_what_it_needs():
    off = {"work": DomainPolicy(hugepages=HugepagesPolicy(mode="off"))}
    first, second = claim(guest(uuid=WORK)), replace(claim(guest()), since=2)
    pages = decide_hugepages(state(pool(total=50), claims=(first, second)), Settings(overrides=off), {}, ())
    assert [(step.claim, step.after) for step in pages.steps] == [(WIN11, "100")]


# --- taking away


def test_taken_away_when_it_is_gone():
    [step] = decided(state(pool(total=70), records=(record(50, base=20),))).steps
    assert (step.before, step.after, step.claim) == ("70", "20", None)
    assert step.record == record(50, base=20, before=70, target=20)


def test_what_somebody_uses_becomes_surplus_by_the_same_write():
    assert changes(decided(state(pool(total=70, free=5), records=(record(50, base=20),)))) == [
        (path(), "70", "20")
    ]


def test_what_is_promised_stays_until_it_is_taken():
    other = claim(guest(uuid=WORK), prepared=True)
    pages = decided(state(pool(total=70), claims=(other,), records=(record(50, base=20),)))
    assert changes(pages) == [(path(), "70", "50")]
    none = decided(state(pool(total=50), claims=(other,), records=(record(30, base=20),)))
    assert (none.steps, none.settled) == ((), ())


def test_never_below_what_was_there_or_is_left():
    for total, after in ((70, "20"), (40, "20"), (100, "50")):
        assert changes(decided(state(pool(total=total), records=(record(50, base=20),)))) == [
            (path(), str(total), after)
        ]
    for total in (20, 10, 0):
        assert decided(state(pool(total=total), records=(record(50, base=20),))).settled == (record().key,)


def test_a_node_that_is_gone_is_settled():
    assert decided(state(pool(node=1), records=(record(50),))).settled == (record().key,)


# --- several nodes

BOUND = {"numatune": Numatune(nodes=frozenset({0, 1}))}


def test_bound_to_several_it_is_spread_and_what_one_refuses_comes_from_the_other():
    wanted = claim(guest(**BOUND))
    assert changes(decided(state(pool(0), pool(1), claims=(wanted,)))) == [
        (path(0), "0", "25"),
        (path(1), "0", "25"),
    ]
    records = (record(10, asked=25), record(25, node=1, asked=25))
    later = decided(state(pool(0, 10), pool(1, 25), claims=(wanted,), records=records))
    assert changes(later) == [(path(1), "25", "40")]
    [step] = later.steps
    assert step.record.asked == 40


def test_preferred_is_tried_there_and_may_be_elsewhere():
    wanted = claim(guest(numatune=Numatune(mode="preferred", nodes=frozenset({1}))))
    assert changes(decided(state(pool(0, 50), pool(1), claims=(wanted,)))) == [(path(1), "0", "50")]
    spent = (record(20, node=1, asked=50),)
    assert decided(state(pool(0, 30), pool(1, 20), claims=(wanted,), records=spent)) == Pages()
    more = decided(state(pool(0, 10), pool(1, 20), claims=(wanted,), records=spent))
    assert changes(more) == [(path(0), "10", "30")]


def test_spread():
    assert spread(10, {0: 100, 1: 100, 2: 3}) == {0: 4, 1: 3, 2: 3}
    assert spread(10, {0: 2, 1: 100}) == {0: 2, 1: 8}
    assert spread(10, {0: 2, 1: 3}) == {0: 2, 1: 3}
    assert spread(1, {0: 0}) == {}
    assert spread(-1, {0: 5}) == {}
