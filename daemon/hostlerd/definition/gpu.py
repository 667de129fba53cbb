"""How a domain has its GPU, written into its XML.

- *passthrough*: a `<hostdev>` for each function. No guest addresses: libvirt gives each a port of its own, which the
  drivers of guests take (virt-manager does the same). The emulated display stays unless it is not wanted: without it a
  guest whose driver is not installed yet shows nothing at all.
- *slice*: an mdev `<hostdev>` with a UUID, or a virtual function's; which type and which parent is in our own element
  in `<metadata>`, so that it travels with the domain.
- *emulated*: no such `<hostdev>`, and a display that somebody can look at, on this machine only.

Pure. managed='no': hostler is the one who binds. What is there already as wanted is left alone, with all that its
owner wrote into it (a ROM, a guest address).
"""

from __future__ import annotations

import re
from difflib import unified_diff
from xml.sax.saxutils import quoteattr

from hostler.wire import METADATA_NAMESPACE
from hostlerd.definition.elements import Element, identity
from hostlerd.definition.splice import Document
from hostlerd.model.edits import GpuChange, SliceChoice

DOMAIN = f"{METADATA_NAMESPACE} domain"
SLICE = f"{METADATA_NAMESPACE} slice"
_PASSWORD = re.compile(r"""(passwd=)('[^']*'|"[^"]*")""")

GRAPHICS = "<graphics type='vnc' autoport='yes'>\n      <listen type='address' address='127.0.0.1'/>\n    </graphics>"
"""VNC, not SPICE: QEMU is not built with SPICE everywhere any more (RHEL 9)."""


def set_gpu(document: Document, change: GpuChange) -> None:
    """Make the change in the document."""
    chosen = _same_slice(document, change.slice)
    functions = change.pci if chosen is None or chosen.vf is None else (chosen.vf,)
    wanted = {f"pci {address}" for address in functions}
    if chosen is not None and chosen.uuid is not None:
        wanted.add(f"mdev {chosen.uuid}")
    leaving = {f"pci {address}" for address in (*change.leave, *(s.vf for s in slices(document)))}
    while (gone := _one_to_go(document, wanted, leaving)) is not None:
        document.cut("devices", gone)
    present = {identity(device) for device in document.children("devices")}
    for address in functions:
        if f"pci {address}" not in present:
            document.put("devices", _pci(address), after="hostdev")
    if chosen is not None and chosen.uuid is not None and f"mdev {chosen.uuid}" not in present:
        document.put("devices", _mdev(chosen.uuid), after="hostdev")
    _note_slice(document, chosen)
    _set_display(document, change)


def diff(before: str, after: str, name: str) -> str:
    """A unified diff of two definitions for people, without their passwords; empty where they are the same."""
    old, new = (_PASSWORD.sub(r"\1'...'", text).splitlines(keepends=True) for text in (before, after))
    lines = unified_diff(old, new, fromfile=f"{name} (now)", tofile=f"{name} (after)")
    return "".join(line if line.endswith("\n") else line + "\n" for line in lines)


def _one_to_go(document: Document, wanted: set[str], leaving: set[str]) -> Element | None:
    """A GPU's hostdev that is not wanted; every mdev that shows as a PCI device is one."""
    for device in document.children("devices"):
        if device.tag == "hostdev" and identity(device) not in wanted:
            mdev = device.get("type") == "mdev" and device.get("model") == "vfio-pci"
            if mdev or identity(device) in leaving:
                return device
    return None


def _pci(address: str) -> str:
    segment, bus, rest = address.split(":")
    slot, function = rest.split(".")
    return (
        "<hostdev mode='subsystem' type='pci' managed='no'>\n      <source>\n"
        f"        <address domain='0x{segment}' bus='0x{bus}' slot='0x{slot}' function='0x{function}'/>\n"
        "      </source>\n    </hostdev>"
    )


def _mdev(uuid: str) -> str:
    return (
        "<hostdev mode='subsystem' type='mdev' managed='no' model='vfio-pci' display='off'>\n      <source>\n"
        f"        <address uuid='{uuid}'/>\n      </source>\n    </hostdev>"
    )


def slices(document: Document) -> list[SliceChoice]:
    """What our element says."""
    return [
        SliceChoice(
            uuid=element.get("uuid"),
            vf=element.get("vf"),
            type=element.get("type"),
            parent=element.get("parent"),
        )
        for element in document.root.all("metadata", DOMAIN, SLICE)
    ]


def _same_slice(document: Document, asked: SliceChoice | None) -> SliceChoice | None:
    """What the domain has if that is what is asked for: a new UUID would be a new device to its guest."""
    if asked is None:
        return None
    present = {identity(device) for device in document.children("devices")}
    for known in slices(document):
        same = known.type == asked.type and asked.parent in (None, known.parent)
        device = f"mdev {known.uuid}" if asked.vf is None else f"pci {known.vf}"
        if same and device in present:
            return known
    return asked


def _note_slice(document: Document, chosen: SliceChoice | None) -> None:
    """Our element names this slice alone, or is not there; what else is in it stays."""
    if slices(document) == ([] if chosen is None else [chosen]):
        return
    own = document.root.find("metadata", DOMAIN)
    # Its start tag stays as it is written: the prefixes of what else is in it are bound there.
    start, rest = f'<hostler:domain xmlns:hostler="{METADATA_NAMESPACE}">', list[str]()
    if own is not None:
        if not own.is_empty_tag:
            whole = document.self_contained("metadata", own)
            start = whole.removesuffix(document.written(own.inner, own.end))
        rest = [document.source(element) for element in own.children if element.tag != SLICE]
        metadata = document.parent("metadata")
        if metadata is not None and len(metadata.children) == 1 and chosen is None and not rest:
            document.cut("", metadata)
            return
        document.cut("metadata", own)
    if chosen is not None:
        words = {"uuid": chosen.uuid, "vf": chosen.vf, "type": chosen.type, "parent": chosen.parent}
        attributes = "".join(f" {name}={quoteattr(value)}" for name, value in words.items() if value)
        bound = "" if "xmlns:hostler=" in start else f' xmlns:hostler="{METADATA_NAMESPACE}"'
        rest.append(f"<hostler:slice{bound}{attributes}/>")
    if rest:
        inner = "".join(f"\n      {text}" for text in rest)
        name = start[1:].split(None, 1)[0].rstrip(">")
        document.put("metadata", f"{start}{inner}\n    </{name}>")


def _set_display(document: Document, change: GpuChange) -> None:
    videos = [device for device in document.children("devices") if device.tag == "video"]
    shown = [model for video in videos if (model := _model(video)) != "none"]
    if change.way != "emulated":
        if not change.video and (shown or not videos):
            _replace_videos(document, "none")
        return
    if not shown or (change.model not in shown and not change.keep_model):
        _replace_videos(document, change.model)
    if not any(device.tag == "graphics" for device in document.children("devices")):
        document.put("devices", GRAPHICS, after="input")


def _replace_videos(document: Document, model: str) -> None:
    while (video := document.root.find("devices", "video")) is not None:
        document.cut("devices", video)
    document.put("devices", f"<video>\n      <model type='{model}'/>\n    </video>", after="graphics")


def _model(video: Element) -> str:
    model = video.find("model")
    return (model.get("type") if model is not None else None) or ""
