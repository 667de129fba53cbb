"""How a domain has its GPU, on the XML of libvirt's own test suite."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.daemon.observe.recorded import shared

from hostler.errors import BadInput
from hostlerd.definition.gpu import diff, set_gpu, slices
from hostlerd.definition.splice import Document
from hostlerd.model.domains import Gpu
from hostlerd.model.edits import GpuChange, SliceChoice
from hostlerd.observe.domain_xml import parse_domain

CARD = ("0000:01:00.0", "0000:01:00.1")
UUID = "6695eb01-f6a4-8304-79aa-0000000000aa"
MDEV = SliceChoice(uuid=UUID, type="i915-GVTg_V5_4", parent="0000:00:02.0")
CHANGES = {
    "passthrough": GpuChange(way="passthrough", pci=CARD),
    "no video": GpuChange(way="passthrough", pci=CARD, video=False),
    "mdev": GpuChange(way="slice", slice=MDEV),
    "vf": GpuChange(
        way="slice", pci=("0000:05:00.1",), slice=SliceChoice(vf="0000:05:00.1", parent="0000:05:00.0")
    ),
    "emulated": GpuChange(way="emulated"),
    "qxl": GpuChange(way="emulated", model="qxl", keep_model=False),
}


def valid() -> dict[str, str]:
    """Name to text of every domain that libvirt takes."""
    found: dict[str, str] = {}
    for path in sorted(shared("domains").glob("*.xml")):
        text = path.read_text()
        try:
            parse_domain(text)
        except BadInput:
            continue
        found[path.name] = text
    return found


def changed(text: str, change: GpuChange) -> Document:
    document = Document(text)
    leave = frozenset(h.address for h in parse_domain(text).hostdevs if h.kind == "pci" and h.address)
    set_gpu(document, GpuChange(**{f: getattr(change, f) for f in change.__slots__} | {"leave": leave}))
    return document


def test_every_domain_survives_every_way_and_undo_byte_for_byte() -> None:
    texts = valid()
    assert len(texts) > 35
    for name, text in texts.items():
        for way, change in CHANGES.items():
            document = changed(text, change)
            back = Document(document.text)
            back.take_back(document.changes)
            assert back.text == text, (name, way)


@settings(deadline=None, max_examples=25)  # each example is some 40 domains
@given(st.lists(st.sampled_from(sorted(CHANGES)), max_size=5))
def test_edits_upon_edits_are_taken_back_one_by_one(ways: list[str]) -> None:
    for text in valid().values():
        stack: list[tuple[str, Document]] = []
        now = text
        for way in ways:
            document = changed(now, CHANGES[way])
            stack.append((now, document))
            now = document.text
        for before, document in reversed(stack):
            back = Document(now)
            back.take_back(document.changes)
            now = back.text
            assert now == before


def test_every_way_means_what_it_says_and_twice_is_once() -> None:
    wanted = {
        "passthrough": Gpu.PASSTHROUGH,
        "no video": Gpu.PASSTHROUGH,
        "mdev": Gpu.SLICE,
        "vf": Gpu.PASSTHROUGH,
        "emulated": Gpu.EMULATED,
        "qxl": Gpu.EMULATED,
    }
    for name, text in valid().items():
        interfaces = any(word in text for word in ("<interface type='hostdev'", "<disk type='nvme'"))
        for way, change in CHANGES.items():
            document = changed(text, change)
            assert parse_domain(document.text).gpu is wanted[way], (name, way)
            if not interfaces:
                pci = set(parse_domain(document.text).pci_addresses)
                assert pci == set(change.pci), (name, way)
            again = changed(document.text, change)
            assert again.text == document.text, (name, way)


HOSTDEV = (
    "<hostdev mode='subsystem' type='pci' managed='yes'>"
    "<source><address bus='0x01' slot='0x00' function='0x0'/></source><rom file='a'/></hostdev>"
)


def test_a_card_that_is_there_keeps_what_its_owner_wrote() -> None:
    text = f"<domain type='kvm'><name>x</name><devices>{HOSTDEV}</devices></domain>"
    document = changed(text, CHANGES["passthrough"])
    assert HOSTDEV in document.text
    assert parse_domain(document.text).pci_addresses == CARD


def test_a_slice_notes_its_type_and_a_second_one_is_the_same_device() -> None:
    text = "<domain type='kvm'><name>x</name><metadata><a:b xmlns:a='u'/></metadata><devices/></domain>"
    document = changed(text, CHANGES["mdev"])
    assert slices(document) == [MDEV]
    assert "<a:b xmlns:a='u'/>" in document.text
    other = GpuChange(way="slice", slice=SliceChoice(uuid=UUID[:-1] + "b", type=MDEV.type))
    assert changed(document.text, other).text == document.text
    third = changed(
        document.text, GpuChange(way="slice", slice=SliceChoice(uuid=UUID[:-1] + "c", type="other"))
    )
    assert [(s.uuid, s.type) for s in slices(third)] == [(UUID[:-1] + "c", "other")]
    gone = changed(document.text, CHANGES["emulated"])
    assert slices(gone) == []
    assert "urn:hostler" not in gone.text
    assert "<a:b xmlns:a='u'/>" in gone.text


def test_a_prefix_that_is_bound_at_the_root_goes_along() -> None:
    text = (
        "<domain type='kvm' xmlns:hostler='urn:hostler:domain:1' xmlns:o='u'><name>x</name><metadata>"
        f"<hostler:domain><hostler:slice uuid='{UUID}' type='a'/><o:note/></hostler:domain>"
        "</metadata><devices/></domain>"
    )
    document = changed(text, CHANGES["mdev"])
    assert slices(document) == [MDEV]
    document.take_back(document.changes)  # each change is XML by itself
    assert [s.type for s in slices(document)] == ["a"]


def test_what_else_is_in_our_element_stays() -> None:
    own = "<h:domain xmlns:h='urn:hostler:domain:1'><h:other a='1'/><h:slice uuid='u' type='t'/></h:domain>"
    text = f"<domain type='kvm'><name>x</name><metadata>{own}</metadata><devices/></domain>"
    gone = changed(text, CHANGES["emulated"])
    assert "<h:other a='1'/>" in gone.text
    assert "slice" not in gone.text
    parse_domain(gone.text)
    new = changed(gone.text, CHANGES["mdev"])
    assert slices(new) == [MDEV]
    assert "<h:other a='1'/>" in new.text
    back = Document(new.text)
    back.take_back(new.changes)
    back.take_back(gone.changes)
    assert back.text == text


def test_a_display_that_is_there_stays_unless_a_model_is_asked_for() -> None:
    text = (
        "<domain type='kvm'><name>x</name><devices><video><model type='cirrus'/></video></devices></domain>"
    )
    assert "cirrus" in changed(text, CHANGES["emulated"]).text
    qxl = changed(text, CHANGES["qxl"]).text
    assert "cirrus" not in qxl
    assert "type='qxl'" in qxl
    none = changed(text, CHANGES["no video"]).text
    assert "<model type='none'/>" in none
    assert "cirrus" not in none
    assert "type='virtio'" in changed(none, CHANGES["emulated"]).text


def test_the_display_is_for_this_machine_alone() -> None:
    text = "<domain type='kvm'><name>x</name><devices/></domain>"
    assert "address='127.0.0.1'" in changed(text, CHANGES["emulated"]).text


def test_a_diff_shows_no_password() -> None:
    text = "<domain>\n<graphics type='vnc' passwd='secret'/>\n</domain>\n"
    shown = diff(text, text.replace("vnc", "spice"), "x")
    assert "secret" not in shown
    assert shown.startswith("--- x (now)\n+++ x (after)\n@@")
    assert diff(text, text, "x") == ""
