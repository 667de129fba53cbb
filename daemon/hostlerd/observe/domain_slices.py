"""What a domain's own metadata says of its slices: `hostler:slice` elements, written by `hostler gpu` or by hand.

    <metadata>
      <hostler:domain xmlns:hostler="urn:hostler:domain:1">
        <hostler:slice uuid="UUID" type="mbochs-small" parent="mbochs" persistent="no"/>
        <hostler:slice vf="0000:41:00.4" type="1428"/>

libvirt keeps metadata as it is and checks nothing of it. A wrong element is therefore no reason not to understand a
domain, which may run; it is one not to start it, and is kept as a `problem` for that moment.
"""

from __future__ import annotations

from xml.etree.ElementTree import Element

from hostler.errors import BadInput
from hostler.wire import METADATA_NAMESPACE
from hostlerd.model.devices import parse_address
from hostlerd.model.slices import SliceSpec
from hostlerd.observe.libvirt_text import uuid, wrong, yes


def slice_specs(domain: Element) -> tuple[SliceSpec, ...]:
    """In the order of the file."""
    found: list[SliceSpec] = []
    for element in domain.iterfind(f"metadata//{{{METADATA_NAMESPACE}}}slice"):
        try:
            spec = _spec(element)
            if any((spec.uuid, spec.vf) == (other.uuid, other.vf) for other in found):
                raise wrong(element, f"{spec.uuid or spec.vf} is there twice")
        except BadInput as error:
            spec = SliceSpec(problem=error.message)
        found.append(spec)
    return tuple(found)


def _spec(element: Element) -> SliceSpec:
    named = element.get("uuid")
    vf = element.get("vf")
    if (named is None) == (vf is None):
        raise wrong(element, "it has either a uuid or a vf")
    if named is not None and not element.get("type"):
        raise wrong(element, "it has a uuid and no type")
    parent = element.get("parent") or None
    try:
        address = None if vf is None else parse_address(vf)
        parent = parent if parent is None or ":" not in parent else parse_address(parent)
    except ValueError as error:
        raise wrong(element, str(error)) from None
    return SliceSpec(
        uuid=None if named is None else uuid(element, named),
        vf=address,
        type=element.get("type") or None,
        parent=parent,
        persistent=yes(element, "persistent"),
    )
