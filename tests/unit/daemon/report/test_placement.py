"""The JSON of explanations, of the map's owners and of a start that is thought of."""

import json

from hostlerd.model.explanation import CpuOwner, Explanation, Move, Term
from hostlerd.model.plan import Plan, Refusal
from hostlerd.report.placement import outline_json, owners_json, placement_json, placements_json, what_if_json

TERM = Term(term="l3_span", title="L3 domains", value=2, best=1, reached="2 L3 domains", why="L3 0 is full")
WIN11 = Explanation(
    name="win11",
    uuid="u",
    mode="dedicated",
    vcpus=(frozenset({2}), frozenset({10, 9})),
    emulator=frozenset({4}),
    idle=frozenset({12, 11}),
    terms=(TERM,),
)


def test_a_placement() -> None:
    assert json.loads(json.dumps(placement_json(WIN11))) == {
        "mode": "dedicated",
        "why": "",
        "vcpus": [[2], [9, 10]],
        "emulator": [4],
        "idle": [11, 12],
        "terms": [
            {
                "term": "l3_span",
                "title": "L3 domains",
                "value": 2,
                "best": 1,
                "reached": "2 L3 domains",
                "why": "L3 0 is full",
            }
        ],
    }
    assert "terms" not in outline_json(WIN11)
    [named] = placements_json([WIN11])
    assert (named["domain"], named["uuid"], named["mode"]) == ("win11", "u", "dedicated")
    assert outline_json(Explanation(name="a", uuid="b", mode="shared"))["vcpus"] is None


def test_owners() -> None:
    owners = [
        CpuOwner(cpu=0, kind="reserved"),
        CpuOwner(cpu=1, kind="vcpu", domain="win11", vcpu=0),
    ]
    assert owners_json(owners, frozenset({2, 0})) == {
        "owners": [
            {"cpu": 0, "kind": "reserved", "domain": None, "vcpu": None},
            {"cpu": 1, "kind": "vcpu", "domain": "win11", "vcpu": 0},
        ],
        "housekeeping": [0, 2],
    }


def test_a_start_that_is_thought_of_has_its_own_refusals_alone() -> None:
    refusals = (
        Refusal(object="0000:01:00.0", reason="in use", remedy="stop it", claim="u"),
        Refusal(object="win11", reason="no room", remedy="stop another"),
        Refusal(object="other", reason="theirs", remedy="theirs"),
    )
    move = Move(
        domain="work", uuid="w", vcpu=1, before=frozenset({3}), after=frozenset({7}), why="for `win11`"
    )
    found = what_if_json(WIN11, [move], Plan(refusals=refusals))
    assert [refusal["object"] for refusal in found["refusals"]] == ["0000:01:00.0", "win11"]
    assert found["moves"] == [
        {"domain": "work", "uuid": "w", "vcpu": 1, "from": "3", "to": "7", "why": "for `win11`"}
    ]
    assert found["placement"] == placement_json(WIN11)
