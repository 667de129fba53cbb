"""The D-Bus interfaces, read from dbus/*.xml: the text that describes them is the table they are dispatched by.

In a wheel the files are beside this module; in a checkout they are in the folder dbus/ of the tree.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from xml.etree import ElementTree as ET

_HERE = os.path.dirname(os.path.abspath(__file__))
_FOLDERS = (_HERE, os.path.join(_HERE, "..", "..", "..", "dbus"))
_EMITS = "org.freedesktop.DBus.Property.EmitsChangedSignal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """`takes`, `gives`: signatures; `parameters`: names of what it takes, in order."""

    takes: str
    gives: str
    parameters: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """`properties`: name to signature, all read-only; `silent`: those whose changes are not told. `xml`: its text."""

    name: str
    methods: Mapping[str, Method]
    properties: Mapping[str, str]
    silent: frozenset[str]
    signals: Mapping[str, str]
    xml: str


def load(name: str) -> Interface:
    """The interface `name` from its file. Raises FileNotFoundError: the package is not whole."""
    for folder in _FOLDERS:
        path = os.path.join(folder, f"{name}.xml")
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                return parse(file.read(), name)
    raise FileNotFoundError(f"{name}.xml is neither in {' nor in '.join(_FOLDERS)}")


def parse(text: str, name: str) -> Interface:
    """The interface `name` in the introspection XML `text`, which is ours. Raises LookupError if it is not in there."""
    node = ET.fromstring(text)  # noqa: S314 - a file that we ship
    element = next((e for e in node.findall("interface") if e.get("name") == name), None)
    if element is None:
        raise LookupError(f"there is no interface {name} in this XML")
    return Interface(
        name=name,
        methods={_name(e): _method(e) for e in element.findall("method")},
        properties={_name(e): e.get("type", "") for e in element.findall("property")},
        silent=frozenset(_name(e) for e in element.findall("property") if _is_silent(e)),
        signals={_name(e): _signature(e.findall("arg")) for e in element.findall("signal")},
        xml=ET.tostring(element, encoding="unicode").rstrip(),
    )


def _method(element: ET.Element) -> Method:
    taken = [arg for arg in element.findall("arg") if arg.get("direction", "in") == "in"]
    given = [arg for arg in element.findall("arg") if arg.get("direction") == "out"]
    return Method(
        takes=_signature(taken), gives=_signature(given), parameters=tuple(_name(arg) for arg in taken)
    )


def _is_silent(element: ET.Element) -> bool:
    return any(
        note.get("name") == _EMITS and note.get("value") == "false" for note in element.findall("annotation")
    )


def _signature(arguments: list[ET.Element]) -> str:
    return "".join(argument.get("type", "") for argument in arguments)


def _name(element: ET.Element) -> str:
    return element.get("name", "")
