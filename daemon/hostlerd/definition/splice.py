"""Cutting elements out of a domain's XML, putting some in, and taking such changes back.

Whatever is taken back is looked for by what it is, not by where it was: libvirt orders a definition anew, and its owner
may have changed it. What is not there any more, or is there again, is somebody else's doing and stays.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from xml.sax.saxutils import quoteattr

from hostlerd.definition.elements import Element, canonical, fragment, identity, parse, says
from hostlerd.model.edits import Change

_NAME = re.compile(r"<[^\s/>]+")
_PREFIX = re.compile(r"[<\s]([A-Za-z_][\w.-]*):[\w.-]+")


class Document:
    """A domain's XML while it is edited; `changes`: what was done to it so far."""

    def __init__(self, text: str) -> None:
        self._text = text.encode()
        self._root: Element | None = None
        self.changes: list[Change] = []

    @property
    def text(self) -> str:
        return self._text.decode()

    @property
    def root(self) -> Element:
        """The domain as it is now; elements found earlier are void after a change."""
        if self._root is None:
            self._root = parse(self._text)
        return self._root

    def parent(self, path: str) -> Element | None:
        return self.root.find(*path.split("/")) if path else self.root

    def children(self, path: str) -> list[Element]:
        found = self.parent(path)
        return [] if found is None else found.children

    def source(self, element: Element) -> str:
        """The element as it is written."""
        return self.written(element.start, element.end)

    def written(self, start: int, end: int) -> str:
        return self._text[start:end].decode()

    def cut(self, path: str, element: Element) -> None:
        """Take out an element of the parent at `path`, with the white space in front of it."""
        siblings = self.children(path)
        index = next(i for i, sibling in enumerate(siblings) if sibling is element)
        floor = self._behind(path, index)
        start = element.start
        while start > floor and self._text[start - 1 : start] in (b" ", b"\t", b"\r", b"\n"):
            start -= 1
        self.changes.append(
            Change(
                added=False,
                parent=path,
                index=index,
                before=self._text[floor:start].decode(),
                text=self.written(start, element.start) + self.self_contained(path, element),
            )
        )
        self._replace(start, element.end, b"")

    def put(self, path: str, text: str, *, after: str = "") -> None:
        """Put in an element, behind the last of the tag `after` if there is one, else at the end of its parent.

        A parent that is missing, or written as `<devices/>`, comes with it.
        """
        parent = self.parent(path)
        if path and (parent is None or parent.is_empty_tag):
            if parent is not None:
                self.cut("", parent)
            self.put("", f"<{path}>\n  </{path}>")
        siblings = self.children(path)
        last = max(
            (i for i, sibling in enumerate(siblings) if sibling.tag == after), default=len(siblings) - 1
        )
        indent = "\n    " if path else "\n  "
        self._insert(path, last + 1, "", indent + text)

    def take_back(self, changes: Iterable[Change]) -> None:
        """Undo changes that were made to this domain, the last one first."""
        for change in reversed(tuple(changes)):
            found = self.find(change)
            if change.added and found is not None:
                if not self._is_needed(found):
                    self.cut(change.parent, found)
            elif not change.added and found is None:
                self._give_back(change)

    def find(self, change: Change, *, filled_in: bool = False) -> Element | None:
        """The element of a change, if it is there now; `filled_in`: with more in it than was written, too."""
        wanted = fragment(change.text)
        is_device = change.parent == "devices"
        for sibling in self.children(change.parent):
            if sibling.tag == wanted.tag and (
                identity(sibling) == identity(wanted)
                if is_device
                else canonical(sibling) == canonical(wanted)
            ):
                return sibling
            if filled_in and says(sibling, wanted):
                return sibling
        return None

    def _give_back(self, change: Change) -> None:
        parent = self.parent(change.parent)
        if parent is None or (parent.is_empty_tag and change.parent):
            self.put(change.parent, change.text.strip())
        else:
            self._insert(change.parent, change.index, change.before, change.text)

    def _is_needed(self, element: Element) -> bool:
        """A port or bridge that came with a device, and that another device is on by now."""
        if element.tag != "controller" or element.get("type") != "pci":
            return False
        index = int(element.get("index") or "-1", 0)
        return any(
            int(address.get("bus") or "0", 0) == index
            for device in self.children("devices")
            for address in device.all("address")
            if address.get("type") == "pci"
        )

    def self_contained(self, path: str, element: Element) -> str:
        """As it is written, with the prefixes it needs.

        libvirt's own XML declares them where they are used (its copy of a node does: xmlCopyNode), other writers do at
        the root, from where they may go.
        """
        source, parent = self.source(element), self.parent(path)
        outside = self.root.bound | (parent.bound if parent is not None else {})
        missing = {
            prefix: outside[prefix]
            for prefix in _PREFIX.findall(source)
            if prefix in outside and f"xmlns:{prefix}=" not in source
        }
        words = "".join(f" xmlns:{prefix}={quoteattr(uri)}" for prefix, uri in sorted(missing.items()))
        name = _NAME.match(source)
        return source if name is None else name[0] + words + source[name.end() :]

    def _behind(self, path: str, index: int) -> int:
        """The offset behind the element in front of number `index`."""
        siblings, parent = self.children(path), self.parent(path)
        if 0 < index <= len(siblings):
            return siblings[index - 1].end
        return siblings[-1].end if index and siblings else (parent.inner if parent is not None else 0)

    def _insert(self, path: str, index: int, before: str, text: str) -> None:
        at = self._behind(path, index)
        gap = before.encode()
        if gap and self._text.startswith(gap, at):
            at += len(gap)
        self.changes.append(
            Change(
                added=True,
                parent=path,
                index=min(index, len(self.children(path))),
                before=before,
                text=text,
            )
        )
        self._replace(at, at, text.encode())

    def _replace(self, start: int, end: int, by: bytes) -> None:
        self._text = self._text[:start] + by + self._text[end:]
        self._root = None


def others(document: Document) -> tuple[str, ...]:
    """The forms of all devices but those that the document's changes put in."""
    ours = [found for c in document.changes if c.added and (found := document.find(c)) is not None]
    return tuple(
        _form(device)
        for device in document.children("devices")
        if not any(device is element for element in ours)
    )


def as_written(changes: Iterable[Change], known: Iterable[str], text: str) -> tuple[Change, ...]:
    """The changes of an edit as libvirt wrote them down in `text`, with what it added along.

    `known`: the forms of the `others`. libvirt fills in what an element leaves open (`<video>` gets heads and primary),
    and puts in the controllers, the input and the sound that a new device needs (virDomainDefPostParse,
    qemuDomainAssignPCIAddresses): all this goes when the edit is taken back. A device that libvirt merely wrote
    differently is no new one: of each kind only as many count as there are more of.
    """
    document, changes = Document(text), tuple(changes)
    devices = document.children("devices")
    left, more = Counter(known), Counter(device.tag for device in devices)
    more.subtract(form.partition(" ")[0] for form in left.elements())
    mine = {identity(fragment(c.text)) for c in changes if c.added and c.parent == "devices"}
    new: list[tuple[int, Element]] = []
    for index, device in enumerate(devices):
        if left[_form(device)] > 0:
            left[_form(device)] -= 1
        else:
            new.append((index, device))
    new.sort(key=lambda one: (identity(one[1]) not in mine, -one[0]))
    ours: list[Change] = []
    for index, device in new:
        if more[device.tag] > 0:
            more[device.tag] -= 1
            source = "\n    " + document.source(device)
            ours.append(Change(added=True, parent="devices", index=index, before="", text=source))
    # The last one is taken back first: a port is needed as long as our device is on it.
    return (*(c for c in changes if not (c.added and c.parent == "devices")), *reversed(ours))


def _form(device: Element) -> str:
    """Its kind, and a digest of what it says: a password is not for our files."""
    return f"{device.tag} {hashlib.sha256(canonical(device).encode()).hexdigest()[:16]}"
