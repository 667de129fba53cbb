"""The elements of an XML text with their places in it.

Offsets are of bytes, as expat tells them. Names of another namespace than none are `URI name`. A text with a DTD is
refused: libvirt writes none, and entities would make places a lie.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NoReturn
from xml.parsers import expat

from hostler.errors import BadInput

_START_TAG = re.compile(rb"""<[^'">]*(?:(?:'[^']*'|"[^"]*")[^'">]*)*>""")
_GUEST = frozenset({"address", "alias"})
"""Children in which libvirt writes where the guest sees a device: no part of what the device is."""


@dataclass(slots=True, kw_only=True)
class Element:
    """`start`: of its `<`; `inner`: behind its start tag; `content_end`: of its end tag; `end`: behind all of it.

    Of `<a/>` the last three are the same. `bound`: prefix to namespace, as far as they are declared here.
    """

    tag: str
    attributes: dict[str, str]
    start: int
    inner: int
    content_end: int = 0
    end: int = 0
    text: str = ""
    bound: dict[str, str] = field(default_factory=dict[str, str])
    children: list[Element] = field(default_factory=list["Element"])

    @property
    def is_empty_tag(self) -> bool:
        return self.inner == self.end

    def get(self, name: str) -> str | None:
        return self.attributes.get(name)

    def find(self, *path: str) -> Element | None:
        """The first element at the end of this way down."""
        return next(self.all(*path), None)

    def all(self, *path: str) -> Iterator[Element]:
        if not path:
            yield self
            return
        for child in self.children:
            if child.tag == path[0]:
                yield from child.all(*path[1:])


def parse(text: bytes) -> Element:
    """The root element. Raises BadInput."""
    stack: list[Element] = []
    roots: list[Element] = []
    parser = expat.ParserCreate("UTF-8", namespace_separator=" ")
    parser.buffer_text = True
    declared: dict[str, str] = {}

    def declare(prefix: str | None, uri: str | None) -> None:
        declared[prefix or ""] = uri or ""

    def start(tag: str, attributes: dict[str, str]) -> None:
        at = parser.CurrentByteIndex
        match = _START_TAG.match(text, at)
        inner = match.end() if match else at
        element = Element(tag=tag, attributes=attributes, start=at, inner=inner, bound=dict(declared))
        declared.clear()
        (stack[-1].children if stack else roots).append(element)
        stack.append(element)

    def end(_: str) -> None:
        element = stack.pop()
        if text[element.inner - 2 : element.inner] == b"/>":
            element.content_end = element.end = element.inner
        else:
            element.content_end = parser.CurrentByteIndex
            element.end = text.index(b">", element.content_end) + 1

    def characters(data: str) -> None:
        if stack:
            stack[-1].text += data

    def doctype(*_: object) -> NoReturn:
        raise BadInput("the XML has a DTD, which no domain has")

    parser.StartNamespaceDeclHandler = declare
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = characters
    parser.StartDoctypeDeclHandler = doctype
    try:
        parser.Parse(text, True)  # noqa: FBT003  # expat's own
    except expat.ExpatError as error:
        raise BadInput(f"this is not XML: {error}") from None
    return roots[0]


def fragment(text: str) -> Element:
    """The one element of a piece of a domain's XML."""
    return parse(text.strip().encode())


def canonical(element: Element, *, whole: bool = False) -> str:
    """The same for elements that say the same, however they are written; without where the guest sees the device."""
    attributes = "".join(f" {name}={value!r}" for name, value in sorted(element.attributes.items()))
    children = "".join(
        canonical(child, whole=True) for child in element.children if whole or child.tag not in _GUEST
    )
    return f"<{element.tag}{attributes}>{element.text.strip()}{children}</>"


def says(element: Element, wanted: Element) -> bool:
    """Whether the element says all that `wanted` says, and perhaps more: libvirt fills in what is left open."""
    return (
        element.tag == wanted.tag
        and wanted.attributes.items() <= element.attributes.items()
        and element.text.strip() == wanted.text.strip()
        and all(any(says(child, one) for child in element.children) for one in wanted.children)
    )


def identity(element: Element) -> str:
    """Which device it is about where that can be told, whatever else is said of it; else its canonical form."""
    if element.tag == "hostdev":
        source = element.find("source", "address")
        if source is not None and element.get("type") == "pci":
            return f"pci {pci_address(source)}"
        if source is not None and element.get("type") == "mdev":
            return f"mdev {(source.get('uuid') or '').lower()}"
    return canonical(element)


def pci_address(source: Element) -> str:
    """``0000:01:00.0``. Raises BadInput; libvirt reads the parts as C does, so 012 would be octal."""
    parts: list[int] = []
    for name in ("domain", "bus", "slot", "function"):
        word = (source.get(name) or "0").lower()
        try:
            parts.append(int(word, 16) if word.startswith("0x") else int(word, 8 if word[:1] == "0" else 10))
        except ValueError:
            raise BadInput(f"{word!r} is no part of a PCI address") from None
    return "{:04x}:{:02x}:{:02x}.{:x}".format(*parts)
