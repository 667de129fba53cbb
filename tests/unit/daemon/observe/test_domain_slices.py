"""A domain's own words about its slices."""

from __future__ import annotations

import pytest

from hostlerd.host.simulated.guests import domain
from hostlerd.model.slices import SliceSpec
from hostlerd.observe.domain_xml import parse_domain

A = "00000001-aaaa-4aaa-8aaa-aaaaaaaaaaaa"


def specs(*slices: str) -> tuple[SliceSpec, ...]:
    return parse_domain(domain("a", slices=slices)).slices


def test_they_are_read() -> None:
    assert specs(
        f"uuid='{A.upper()}' type='x' persistent='yes'", "vf='41:00.4' type='3' parent='0000:41:0.0'"
    ) == (
        SliceSpec(uuid=A, type="x", persistent=True),
        SliceSpec(vf="0000:41:00.4", type="3", parent="0000:41:00.0"),
    )
    assert specs() == ()


@pytest.mark.parametrize(
    ("element", "words"),
    [
        ("", "either a uuid or a vf"),
        (f"uuid='{A}' vf='0000:41:00.4' type='x'", "either a uuid or a vf"),
        (f"uuid='{A}'", "no type"),
        ("uuid='x' type='x'", "not a UUID"),
        ("vf='x'", "not a PCI address"),
        (f"uuid='{A}' type='x' persistent='maybe'", "neither yes nor no"),
    ],
)
def test_what_makes_no_sense_is_kept_as_a_problem(element: str, words: str) -> None:
    (found,) = specs(element)
    assert words in found.problem


def test_one_slice_twice_is_a_problem() -> None:
    first, second = specs(f"uuid='{A}' type='x'", f"uuid='{A}' type='y'")
    assert not first.problem
    assert "twice" in second.problem


def test_elements_of_others_are_none_of_ours() -> None:
    xml = domain("a").replace("<vcpu>", "<metadata><o:slice xmlns:o='urn:other'/></metadata><vcpu>", 1)
    assert parse_domain(xml).slices == ()
