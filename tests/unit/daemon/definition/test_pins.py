"""Where a domain begins, in its XML: only what is not there, and all of it taken back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hostlerd.definition.pins import pins_of, set_pins
from hostlerd.definition.splice import Document
from hostlerd.model.cpuset import format_cpu_list
from hostlerd.model.edits import Edit, PinsChange, users_own
from hostlerd.observe.domain_xml import parse_domain

UUID = "6695eb01-f6a4-8304-79aa-000000000001"
CHANGE = PinsChange(vcpus=((0, "2"), (1, "10")), emulator="0-1", mode="strict", memory="0")
CELLS = PinsChange(vcpus=((0, "2"), (1, "10")), mode="preferred", cells=((0, "0"), (1, "1")))


def xml(*parts: str, cells: bool = False) -> str:
    numa = "<numa><cell cpus='0' memory='1'/><cell cpus='1-3' memory='1'/></numa>" if cells else ""
    inner = "\n  ".join(
        ("<name>x</name>", f"<uuid>{UUID}</uuid>", "<memory>2</memory>", "<vcpu>4</vcpu>", *parts)
    )
    return f"<domain type='kvm'>\n  {inner}\n  <cpu>{numa}</cpu>\n  <devices/>\n</domain>\n"


def written(text: str, change: PinsChange) -> Document:
    document = Document(text)
    set_pins(document, change)
    return document


def test_what_is_written_is_what_libvirt_reads() -> None:
    found = parse_domain(written(xml(), CHANGE).text)
    assert {i: format_cpu_list(cpus) for i, cpus in found.vcpu_pins.items()} == {0: "2", 1: "10"}
    assert found.emulator_pins == {0, 1}
    assert found.numatune is not None
    assert found.numatune.bound() == {0}
    found = parse_domain(written(xml(cells=True), CELLS).text)
    assert found.numatune is not None
    assert found.numatune.cells == {0: {0}, 1: {1}}
    assert not found.numatune.bound(0)  # preferred may be elsewhere


def test_what_is_there_stays() -> None:
    theirs = (
        "<cputune><shares>100</shares><vcpupin vcpu='1' cpuset='7'/><emulatorpin cpuset='5'/></cputune>",
        "<numatune><memory mode='interleave' nodeset='0-1'/></numatune>",
    )
    document = written(xml(*theirs), CHANGE)
    found = parse_domain(document.text)
    assert found.vcpu_pins == {0: {2}, 1: {7}}
    assert found.emulator_pins == {5}
    assert found.numatune is not None
    assert found.numatune.mode == "interleave"
    assert pins_of(document.changes) == PinsChange(vcpus=((0, "2"),))


PARTS = st.sampled_from(
    [
        "<cputune/>",
        "<cputune>\n  </cputune>",
        "<cputune><shares>100</shares></cputune>",
        "<cputune>\n    <vcpupin vcpu='1' cpuset='7'/>\n    <!-- mine --></cputune>",
        "<numatune/>",
        "<numatune><memory mode='strict' nodeset='1'/></numatune>",
        "<!-- nothing -->",
    ]
)
CHANGES = st.builds(
    PinsChange,
    vcpus=st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from(["2", "10", "3-4"])), unique_by=lambda p: p[0]
    ).map(lambda pins: tuple(sorted(pins))),
    emulator=st.sampled_from(["", "0-1"]),
    mode=st.sampled_from(["strict", "preferred"]),
    memory=st.sampled_from(["", "0", "0-1"]),
    cells=st.sampled_from([(), ((0, "0"),), ((0, "0"), (1, "1"))]),
)


@given(st.lists(PARTS, max_size=2, unique_by=lambda part: part[:5]), CHANGES)
def test_any_edit_is_taken_back_byte_for_byte(parts: list[str], change: PinsChange) -> None:
    text = xml(*parts, cells=True)
    document = written(text, change)
    back = Document(document.text)
    back.take_back(document.changes)
    assert back.text == text


@given(st.lists(PARTS, max_size=2, unique_by=lambda part: part[:5]), CHANGES)
def test_what_is_ours_is_told_from_what_is_its_owners(parts: list[str], change: PinsChange) -> None:
    before = parse_domain(xml(*parts, cells=True))
    document = written(xml(*parts, cells=True), change)
    pins = pins_of(document.changes)
    edit = Edit(
        uuid=UUID,
        name="x",
        kind="pins",
        by="policy",
        before="",
        after="",
        changes=tuple(document.changes),
        pins=pins,
    )
    own = users_own(parse_domain(document.text), {UUID: (edit,)})
    if before.numatune is not None and not before.numatune.nodes:
        return  # an empty <numatune/> says nothing
    assert own == before


def test_an_element_that_was_changed_is_its_owners() -> None:
    document = written(xml(), CHANGE)
    edit = Edit(
        uuid=UUID,
        name="x",
        kind="pins",
        by="policy",
        before="",
        after="",
        changes=(),
        pins=pins_of(document.changes),
    )
    theirs = document.text.replace("vcpu='1' cpuset='10'", "vcpu='1' cpuset='11'").replace(
        "nodeset='0'", "nodeset='1'"
    )
    own = users_own(parse_domain(theirs), {UUID: (edit,)})
    assert own.vcpu_pins == {1: {11}}
    assert own.emulator_pins is None
    assert own.numatune is not None
    assert own.numatune.nodes == {1}
