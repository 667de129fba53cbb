"""What a domain's own metadata wishes for its CPUs: one `hostler:cpus` element, so that wishes travel with the domain.

    <metadata>
      <hostler:domain xmlns:hostler="urn:hostler:domain:1">
        <hostler:cpus cpus="dedicated" prefer="vcache" class="performance" smt="isolate" priority="2" emulator="1"
                      rebalance="no" write_config="yes"/>

The words are those of the policy's [domains]. libvirt keeps metadata as it is and checks nothing of it, and a domain
must not fail for a wish: what makes no sense is left out, told as a problem, and the rest is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, get_args, get_type_hints
from xml.etree.ElementTree import Element

from hostler.wire import METADATA_NAMESPACE, WISHES_NAMESPACE
from hostlerd.model.settings import EMULATORS, PRIORITIES, DomainPolicy

WORDS = {
    "cpus": "cpus",
    "prefer": "prefer",
    "class": "core_class",
    "smt": "smt",
    "priority": "priority",
    "emulator": "emulator",
    "rebalance": "rebalance",
    "write_config": "write_config",
}
"""Attribute to field of DomainPolicy."""
RANGES = {"priority": PRIORITIES, "emulator": EMULATORS}
FLAGS = {"yes": True, "true": True, "no": False, "false": False}


def cpu_wishes(domain: Element) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """Field of DomainPolicy to value, and one sentence for each word that is not heeded."""
    elements = [
        element
        for namespace in (METADATA_NAMESPACE, WISHES_NAMESPACE)
        for element in domain.iterfind(f"metadata//{{{namespace}}}cpus")
    ]
    if not elements:
        return {}, ()
    wishes: dict[str, Any] = {}
    problems: list[str] = []
    hints = get_type_hints(DomainPolicy)
    for word, text in elements[0].attrib.items():
        field = WORDS.get(word)
        if field is None:
            near = get_close_matches(word.lower().replace("-", "_"), WORDS, n=1, cutoff=0.5)
            known = f'did you mean "{near[0]}"?' if near else f"known here: {', '.join(WORDS)}"
            problems.append(_ignored(f'there is no "{word:.40}"; {known}'))
            continue
        value, allowed = _value(field, hints[field], text.strip())
        if value is None:
            problems.append(_ignored(f'{word} cannot be "{text:.40}"; allowed: {allowed}'))
        else:
            wishes[field] = value
    problems += [_ignored(f"a second <{_name(other)}>; the first counts") for other in elements[1:]]
    return wishes, tuple(problems)


def _value(field: str, hint: Any, text: str) -> tuple[Any, str]:
    """None where it is none of what is allowed, and what that is."""
    if hint is bool:
        return FLAGS.get(text), "yes, no"
    if hint is int:
        allowed = RANGES[field]
        number = int(text) if text.isascii() and text.isdecimal() and len(text) < 4 else -1
        return (number if number in allowed else None), f"{allowed[0]} to {allowed[-1]}"
    words = get_args(hint)
    return (text if text in words else None), ", ".join(words)


def _ignored(what: str) -> str:
    return f"its metadata, <hostler:cpus>: {what} (not heeded)"


def _name(element: Element) -> str:
    return f"hostler:{str(element.tag).rpartition('}')[2]}"
