"""The map, a start that is only thought of, and the reasons, through the whole daemon on the simulated host."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.daemon.test_main import GPU, LIMIT, call, daemon

from hostler.errors import BadInput
from hostlerd.host.simulated.guests import domain

USB = "0000:0b:00.3"


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_map_has_owners_and_a_start_can_be_thought_of(tmp_path: Path) -> None:
    with daemon(tmp_path):
        host = call(tmp_path, "cpus")
        assert {owner["kind"] for owner in host["owners"]} == {"host"}
        assert host["housekeeping"] == host["online"] == [owner["cpu"] for owner in host["owners"]]
        call(tmp_path, "simulate", action="define", xml=domain("win11", hostdevs=[GPU], cores=3))
        call(tmp_path, "simulate", action="define", xml=domain("work", hostdevs=[USB], cores=3))
        until(lambda: len(call(tmp_path, "domains")["domains"]) == 2)
        before = call(tmp_path, "simulate", action="show")["writes"]

        thought = call(tmp_path, "cpus", what_if="win11")
        assert thought["what_if"]["domain"] == "win11"
        assert (thought["what_if"]["moves"], thought["what_if"]["refusals"]) == ([], [])
        given = thought["what_if"]["placement"]
        assert given["mode"] == "dedicated"
        assert {term["term"] for term in given["terms"]} >= {"undedicated", "smt", "l3_span"}
        own = {o["cpu"]: o["vcpu"] for o in thought["owners"] if o["domain"] == "win11"}
        assert {cpus[0]: vcpu for vcpu, cpus in enumerate(given["vcpus"])} == own
        assert not own.keys() & set(thought["housekeeping"])
        assert call(tmp_path, "plan", domain="win11")["placements"] == [
            {"domain": "win11", "uuid": thought["what_if"]["uuid"], **given}
        ]
        assert call(tmp_path, "cpus") == host
        assert call(tmp_path, "simulate", action="show")["writes"] == before

        call(tmp_path, "simulate", action="start", name="win11")
        until(lambda: any(o["domain"] == "win11" for o in call(tmp_path, "cpus")["owners"]))
        found = call(tmp_path, "cpus")
        assert {o["cpu"]: o["vcpu"] for o in found["owners"] if o["domain"] == "win11"} == own
        until(lambda: call(tmp_path, "domains", name="win11")["domains"][0]["state"] == "running")
        until(lambda: call(tmp_path, "status")["state"] == "converged")
        (one,) = call(tmp_path, "domains", name="win11")["domains"]
        assert one["placement"]["vcpus"] == given["vcpus"]
        assert not any(term["why"] for term in one["placement"]["terms"])
        listed = {row["name"]: row["placement"] for row in call(tmp_path, "domains")["domains"]}
        assert listed["work"] is None
        assert listed["win11"] == {key: value for key, value in one["placement"].items() if key != "terms"}
        for name in ("win11", one["uuid"]):
            with pytest.raises(BadInput, match="runs already"):
                call(tmp_path, "cpus", what_if=name)
        with pytest.raises(BadInput, match="no domain 'nobody'"):
            call(tmp_path, "cpus", what_if="nobody")
        with pytest.raises(BadInput, match="'what_if'"):
            call(tmp_path, "cpus", what_if=3)
        both = call(tmp_path, "cpus", what_if="work")
        assert {o["domain"] for o in both["owners"]} == {None, "win11", "work"}


def test_a_start_that_would_be_refused(tmp_path: Path) -> None:
    with daemon(tmp_path):
        call(tmp_path, "simulate", action="define", xml=domain("win11", hostdevs=[GPU]))
        call(tmp_path, "simulate", action="define", xml=domain("win10", hostdevs=[GPU]))
        call(tmp_path, "simulate", action="start", name="win10")
        until(lambda: len(call(tmp_path, "domains")["domains"]) == 2)
        found = call(tmp_path, "cpus", what_if="win11")["what_if"]
        assert any("win10" in refusal["reason"] for refusal in found["refusals"])
        assert found["placement"]["mode"] == "dedicated"
