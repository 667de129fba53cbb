"""A domain's own wishes for its CPUs, from its metadata."""

from __future__ import annotations

import pytest

from hostler.wire import METADATA_NAMESPACE, WISHES_NAMESPACE
from hostlerd.host.simulated.guests import domain
from hostlerd.model.domains import Definition
from hostlerd.model.settings import DomainPolicy, Settings
from hostlerd.observe.domain_xml import parse_domain

EVERY = (
    "cpus='dedicated' prefer='vcache' class='performance' smt='isolate' priority='2' emulator='1' rebalance='false' "
    "write_config='yes'"
)


def read(metadata: str) -> Definition:
    return parse_domain(domain("a").replace("<memory", f"<metadata>{metadata}</metadata><memory", 1))


def cpus(attributes: str) -> Definition:
    return read(
        f"<hostler:domain xmlns:hostler='{METADATA_NAMESPACE}'><hostler:cpus {attributes}/></hostler:domain>"
    )


@pytest.mark.parametrize("namespace", [METADATA_NAMESPACE, WISHES_NAMESPACE])
def test_every_word_is_read_inside_our_element_and_by_itself(namespace: str) -> None:
    alone = read(f"<hostler:cpus xmlns:hostler='{namespace}' {EVERY}/>")
    assert alone == cpus(EVERY)
    assert not alone.problems
    assert Settings().domain("a", alone.uuid, alone.wishes) == DomainPolicy(
        cpus="dedicated",
        prefer="vcache",
        core_class="performance",
        smt="isolate",
        priority=2,
        emulator=1,
        rebalance=False,
        write_config=True,
    )


def test_without_the_element_there_is_no_wish() -> None:
    assert not parse_domain(domain("a")).wishes
    assert not read("<other:cpus xmlns:other='urn:else' priority='3'/>").wishes


@pytest.mark.parametrize(
    ("attribute", "words"),
    [
        ("smt='pairs'", 'smt cannot be "pairs"; allowed: pair, isolate'),
        ("priority='10'", 'priority cannot be "10"; allowed: 0 to 9'),
        ("priority='-1'", "priority cannot be"),
        ("priority='٣'", "priority cannot be"),
        ("emulator='5'", "allowed: 0 to 4"),
        ("rebalance='perhaps'", "allowed: yes, no"),
        ("core_class='performance'", 'did you mean "class"?'),
        ("profile='latency'", "known here: cpus"),
    ],
)
def test_what_makes_no_sense_is_a_note_and_the_rest_is_used(attribute: str, words: str) -> None:
    found = cpus(f"prefer='vcache' {attribute}")
    assert found.wishes == {"prefer": "vcache"}
    [problem] = found.problems
    assert words in problem
    assert "not heeded" in problem


def test_a_second_element_does_not_count() -> None:
    found = read(
        f"<hostler:cpus xmlns:hostler='{WISHES_NAMESPACE}' priority='3'/>"
        f"<hostler:domain xmlns:hostler='{METADATA_NAMESPACE}'><hostler:cpus priority='4'/></hostler:domain>"
    )
    assert found.wishes == {"priority": 4}
    assert len(found.problems) == 1


def test_this_hosts_own_section_comes_before_the_metadata_and_that_before_the_rest() -> None:
    wishes = cpus("smt='isolate' prefer='vcache' priority='3'").wishes
    everybody = DomainPolicy(prefer="frequency", priority=1, emulator=2)
    settings = Settings(
        domains=everybody,
        overrides={"a": DomainPolicy(prefer="none", priority=1, emulator=2)},
        stated={"a": frozenset({"prefer"})},
    )
    mine = settings.domain("a", "", wishes)
    assert (mine.prefer, mine.smt, mine.priority, mine.emulator) == ("none", "isolate", 3, 2)
    other = settings.domain("b", "", wishes)
    assert (other.prefer, other.smt, other.priority, other.emulator) == ("vcache", "isolate", 3, 2)


def test_vcpus_that_are_not_the_first_ones_are_told_by_id() -> None:
    text = domain("a", cores=4, threads=1).replace(
        "<vcpu>4</vcpu>",
        "<vcpu current='2'>4</vcpu><vcpus><vcpu id='0' enabled='yes'/><vcpu id='1' enabled='no'/>"
        "<vcpu id='2' enabled='yes'/><vcpu id='3' enabled='no'/></vcpus>",
    )
    found = parse_domain(text)
    assert (found.vcpus, found.vcpu_ids, tuple(found.present)) == (2, (0, 2), (0, 2))
    assert parse_domain(domain("a")).vcpu_ids == ()
