"""Cutting, putting in and taking back: what is not meant stays byte for byte, whatever else changed meanwhile."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostler.errors import BadInput
from hostlerd.definition.elements import canonical, fragment, parse, says
from hostlerd.definition.splice import Document, as_written, others

XML = """<?xml version='1.0' encoding='ISO-8859-1'?>
<!-- a comment with <devices> in it -->
<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>Jörg's</name>
  <description>a &lt;hostdev/> &amp; more</description>
  <devices>
    <!-- the card -->
    <hostdev mode='subsystem' type='pci' managed='yes'>
      <source><address domain='0' bus='0x1' slot='0' function='0'/></source>
      <rom file='/a>b.rom'/>
    </hostdev>  <!-- behind it -->
    <input type="mouse"   bus='ps2'/>

    <graphics type='vnc' passwd='secret'><![CDATA[ <x/> ]]></graphics>
  </devices>
  <qemu:commandline><qemu:arg value='-s'/></qemu:commandline>
</domain>
"""


def tags(document: Document, path: str = "devices") -> list[str]:
    return [element.tag for element in document.children(path)]


@pytest.mark.parametrize("tag", ["hostdev", "input", "graphics"])
def test_what_is_cut_comes_back_where_it_was(tag: str) -> None:
    document = Document(XML)
    found = document.root.find("devices", tag)
    assert found is not None
    source = document.source(found)
    document.cut("devices", found)
    assert source not in document.text
    assert len(document.text.encode()) < len(XML.encode())
    back = Document(document.text)
    back.take_back(document.changes)
    assert back.text == XML


@given(
    st.lists(
        st.sampled_from(["cut hostdev", "cut input", "cut graphics", "put <a/>", "put <b>1</b>"]), max_size=8
    )
)
def test_any_changes_are_taken_back_byte_for_byte(words: list[str]) -> None:
    document = Document(XML)
    for word in dict.fromkeys(words):  # twice the same device is refused by libvirt, and put in by nobody
        action, _, what = word.partition(" ")
        found = document.root.find("devices", what)
        if action == "put":
            document.put("devices", what, after="input")
        elif found is not None:
            document.cut("devices", found)
    back = Document(document.text)
    back.take_back(document.changes)
    assert back.text == XML


@pytest.mark.parametrize("parent", ["", "<devices/>", "<devices>\n  </devices>", "<devices></devices>"])
def test_a_parent_that_is_missing_comes_and_goes_with_the_element(parent: str) -> None:
    text = f"<domain><name>x</name>{parent}</domain>"
    document = Document(text)
    document.put("devices", "<video/>")
    assert tags(document) == ["video"]
    back = Document(document.text)
    back.take_back(document.changes)
    assert back.text == text


def test_what_others_changed_meanwhile_stays() -> None:
    document = Document(XML)
    hostdev = document.root.find("devices", "hostdev")
    assert hostdev is not None
    document.cut("devices", hostdev)
    document.put("devices", "<video><model type='virtio'/></video>", after="graphics")
    theirs = document.text.replace("<input type=\"mouse\"   bus='ps2'/>", "<tpm/><watchdog/>").replace(
        "Jörg", "Käthe"
    )
    back = Document(theirs)
    back.take_back(document.changes)
    assert "<tpm/><watchdog/>" in back.text
    assert "Käthe" in back.text
    assert tags(back) == ["hostdev", "tpm", "watchdog", "graphics"]


def test_an_element_of_ours_that_its_owner_changed_is_theirs() -> None:
    document = Document(XML)
    document.put("devices", "<video><model type='virtio'/></video>")
    theirs = document.text.replace("type='virtio'", "type='virtio' heads='2'")
    back = Document(theirs)
    back.take_back(document.changes)
    assert back.text == theirs


def test_a_device_that_is_there_again_does_not_come_twice() -> None:
    document = Document(XML)
    hostdev = document.root.find("devices", "hostdev")
    assert hostdev is not None
    document.cut("devices", hostdev)
    back = Document(XML.replace("managed='yes'", "managed='no'"))
    back.take_back(document.changes)
    assert tags(back).count("hostdev") == 1
    assert "managed='no'" in back.text


def test_what_libvirt_added_along_goes_too() -> None:
    """A port for the card, the heads of the display, a sound; but no port that something else uses by now."""
    document = Document("<domain><devices><disk/></devices></domain>")
    document.put("devices", "<video><model type='virtio'/></video>")
    known = others(document)
    written = (
        "<domain><devices><disk/><controller type='pci' index='1'/><controller type='pci' index='2'/>"
        "<video><model type='virtio' heads='1'/><address type='pci' bus='0x01'/></video>"
        "<audio id='1'/></devices></domain>"
    )
    changes = as_written(document.changes, known, written)
    back = Document(written)
    back.take_back(changes)
    assert back.text == "<domain><devices><disk/></devices></domain>"
    used = written.replace(
        "<audio id='1'/>", "<audio id='1'/><interface><address type='pci' bus='0x02'/></interface>"
    )
    back = Document(used)
    back.take_back(changes)
    assert tags(back) == ["disk", "controller", "interface"]


def test_what_libvirt_only_writes_differently_is_not_taken_for_ours() -> None:
    document = Document("<domain><devices><disk/><sound model='a'/></devices></domain>")
    document.put("devices", "<video/>")
    written = "<domain><devices><disk/><sound model='b'/><video heads='1'/></devices></domain>"
    back = Document(written)
    back.take_back(as_written(document.changes, others(document), written))
    assert tags(back) == ["disk", "sound"]


def test_no_password_is_kept() -> None:
    document = Document(XML)
    document.put("devices", "<video/>")
    assert not [form for form in (*others(document), *map(str, document.changes)) if "secret" in form]


@pytest.mark.parametrize(
    "text", ["", "<domain>", "<!DOCTYPE domain [<!ENTITY a 'b'>]><domain>&a;</domain>", "<a/><b/>", "\0"]
)
def test_what_is_no_xml_is_bad_input(text: str) -> None:
    with pytest.raises(BadInput):
        parse(text.encode())


def test_the_same_device_is_known_however_it_is_written() -> None:
    one = fragment("<video><model type='qxl' ram='1'/></video>")
    two = fragment('<video>\n <model ram="1" type="qxl"></model><address type="pci" bus="3"/></video>')
    assert canonical(one) == canonical(two)
    assert canonical(one) != canonical(fragment("<video><model type='qxl' ram='2'/></video>"))


def test_a_prefix_that_is_bound_at_the_root_comes_along() -> None:
    text = "<domain xmlns:h='u'><metadata><h:domain><h:slice a='1'/></h:domain></metadata></domain>"
    document = Document(text)
    found = document.root.find("metadata", "u domain")
    assert found is not None
    document.cut("metadata", found)
    back = Document("<domain><metadata/></domain>")
    back.take_back(document.changes)
    found = back.root.find("metadata", "u domain", "u slice")
    assert found is not None
    assert found.get("a") == "1"


def test_what_libvirt_filled_in_is_still_what_was_asked_for() -> None:
    wanted = fragment("<video><model type='qxl'/></video>")
    assert says(fragment("<video><model type='qxl' heads='1'/><address bus='1'/></video>"), wanted)
    for other in (
        "<video><model type='vga'/></video>",
        "<video/>",
        "<video>x<model type='qxl'/></video>",
        "<audio/>",
    ):
        assert not says(fragment(other), wanted)
