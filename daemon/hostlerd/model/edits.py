"""Edits of domain definitions: what is asked for, and what was done so that it can be taken back.

An edit is kept in /var/lib/hostler from before it is made until it is taken back: definitions outlive a reboot. It is
kept as the elements that came and went, never as the whole XML, so that what others change meanwhile stays theirs, and
no password of a definition is in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Way = Literal["passthrough", "slice", "emulated"]
Model = Literal["virtio", "qxl", "bochs"]
WAYS: tuple[Way, ...] = ("passthrough", "slice", "emulated")
MODELS: tuple[Model, ...] = ("virtio", "qxl", "bochs")
By = Literal["user", "fallback"]

GPU = "gpu"
"""The kind of edit that is about how a domain has its GPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceChoice:
    """A mediated device (`uuid`, `type`), or a virtual function (`vf`) of a card. `parent`: where it must be made."""

    uuid: str | None = None
    vf: str | None = None
    type: str | None = None
    parent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuChange:
    """How a domain is to have its GPU. `leave`: PCI hostdevs that were its GPU and go if they are not in `pci`.

    `pci`: addresses it is to have, function 0 first. `model`: of the emulated display where it needs one;
    `keep_model`: one that is there may be of another model. `video`: False leaves the guest without one.
    """

    way: Way
    leave: frozenset[str] = frozenset()
    pci: tuple[str, ...] = ()
    slice: SliceChoice | None = None
    model: Model = "virtio"
    keep_model: bool = True
    video: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One element that came (`added`) or went. `parent`: "" is the domain itself, else `devices`, `metadata`.

    `index`: its place among the elements of its parent; `before`: what stood between the one in front and it (a
    comment); `text`: the element with the white space in front of it.
    """

    added: bool
    parent: str
    index: int
    before: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """`before`, `after`: for people. `changes` in the order they were made.

    `done`: False from before the definition is written until it was read back. `known`: the devices' canonical forms
    before, by which what libvirt itself added along (a port for the card) is told from what was there. `lacks`: PCI
    addresses a fallback waits for.
    """

    uuid: str
    name: str
    kind: str
    by: By
    before: str
    after: str
    changes: tuple[Change, ...]
    known: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    since: float = 0.0
    done: bool = False


Edits = Mapping[str, tuple[Edit, ...]]
"""By UUID of the domain; the last one is the newest, and the first to be taken back."""
NO_EDITS: Edits = MappingProxyType({})


def in_force(edits: Edits, uuid: str) -> Edit | None:
    """The newest edit of a domain."""
    return next(reversed(edits.get(uuid, ())), None)
