"""The objects we show on the bus: a tree of values, the four standard interfaces over it, and what changed.

Rules: no property is ever computed when it is asked for; `show` takes the whole tree and tells only the differences.
What is not in an interface's XML does not exist. Methods of our own interfaces are the caller's (`Perform`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from hostlerd.api.interfaces import Interface, parse
from hostlerd.host.bus import PROPERTIES, STANDARD_ERROR, CallFailed, Message, Reply, Variant

Values = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Object path to interface to property to value, as its signature in the XML wants it."""

Perform = Callable[[Message, tuple[str, ...]], Awaitable[Reply]]
"""Performs a method of ours, whose arguments fit the XML; the names are those of its parameters."""
Emit = Callable[..., None]
"""`Bus.emit`."""

INTROSPECTABLE = "org.freedesktop.DBus.Introspectable"
PEER = "org.freedesktop.DBus.Peer"
OBJECT_MANAGER = "org.freedesktop.DBus.ObjectManager"

_STANDARD = f"""<node>
  <interface name="{PEER}">
    <method name="Ping"/>
    <method name="GetMachineId"><arg name="machine_uuid" type="s" direction="out"/></method>
  </interface>
  <interface name="{INTROSPECTABLE}">
    <method name="Introspect"><arg name="xml_data" type="s" direction="out"/></method>
  </interface>
  <interface name="{PROPERTIES}">
    <method name="Get">
      <arg name="interface_name" type="s" direction="in"/>
      <arg name="property_name" type="s" direction="in"/>
      <arg name="value" type="v" direction="out"/>
    </method>
    <method name="GetAll">
      <arg name="interface_name" type="s" direction="in"/>
      <arg name="props" type="a{{sv}}" direction="out"/>
    </method>
    <method name="Set">
      <arg name="interface_name" type="s" direction="in"/>
      <arg name="property_name" type="s" direction="in"/>
      <arg name="value" type="v" direction="in"/>
    </method>
    <signal name="PropertiesChanged">
      <arg name="interface_name" type="s"/>
      <arg name="changed_properties" type="a{{sv}}"/>
      <arg name="invalidated_properties" type="as"/>
    </signal>
  </interface>
  <interface name="{OBJECT_MANAGER}">
    <method name="GetManagedObjects">
      <arg name="object_paths_interfaces_and_properties" type="a{{oa{{sa{{sv}}}}}}" direction="out"/>
    </method>
    <signal name="InterfacesAdded">
      <arg name="object_path" type="o"/>
      <arg name="interfaces_and_properties" type="a{{sa{{sv}}}}"/>
    </signal>
    <signal name="InterfacesRemoved">
      <arg name="object_path" type="o"/>
      <arg name="interfaces" type="as"/>
    </signal>
  </interface>
</node>
"""
_DOCTYPE = (
    '<!DOCTYPE node PUBLIC "-//freedesktop//DTD D-BUS Object Introspection 1.0//EN"\n'
    ' "http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd">\n'
)


class Objects:
    """What is at each path; `answer` is a `Handler` for the bus."""

    def __init__(self, root: str, interfaces: Mapping[str, Interface], emit: Emit, perform: Perform) -> None:
        """`root`: the path that has ObjectManager; everything shown is there or below."""
        self._root = root
        self._interfaces = interfaces
        self._standard = {
            name: parse(_STANDARD, name) for name in (PEER, INTROSPECTABLE, PROPERTIES, OBJECT_MANAGER)
        }
        self._emit = emit
        self._perform = perform
        self._values: Values = {}

    # -- what is shown ------------------------------------------------------------------------------------------------

    def show(self, values: Values) -> None:
        """Show these objects and no others; tells who listens what came, went and changed."""
        before, self._values = self._values, values
        for path in before:
            if path not in values and path != self._root:
                names = list(before[path])
                self._emit(self._root, OBJECT_MANAGER, "InterfacesRemoved", "oas", path, names)
        for path, interfaces in values.items():
            old = before.get(path)
            if old is None:
                if path != self._root:
                    shown = self._variants(interfaces)
                    self._emit(self._root, OBJECT_MANAGER, "InterfacesAdded", "oa{sa{sv}}", path, shown)
                continue
            for name, properties in interfaces.items():
                interface = self._interfaces[name]
                changed = {
                    key: Variant(interface.properties[key], value)
                    for key, value in properties.items()
                    if key not in interface.silent and old[name][key] != value
                }
                if changed:
                    self._emit(path, PROPERTIES, "PropertiesChanged", "sa{sv}as", name, changed, [])

    def _variants(self, interfaces: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Variant]]:
        return {name: self._typed(name, properties) for name, properties in interfaces.items()}

    def _typed(self, name: str, properties: Mapping[str, Any]) -> dict[str, Variant]:
        signatures = self._interfaces[name].properties
        return {key: Variant(signatures[key], value) for key, value in properties.items()}

    # -- what is asked ------------------------------------------------------------------------------------------------

    def answer(self, call: Message) -> Reply | Awaitable[Reply]:
        """Raises CallFailed with the standard error names."""
        interface = self._find_interface(call)
        method = interface.methods[call.member]
        if call.signature != method.takes:
            raise _failed(
                "InvalidArgs",
                f"{interface.name}.{call.member} takes {method.takes!r}, not {call.signature!r}",
            )
        if interface.name in self._interfaces:
            return self._perform(call, method.parameters)
        return Reply(method.gives, self._answer_standard(call, interface.name))

    def _find_interface(self, call: Message) -> Interface:
        """The interface meant; a caller may leave it out, and the first that has the method is it."""
        present = self._present(call.path)
        if not present:
            raise _failed("UnknownObject", f"there is no object {call.path}")
        candidates = [one for one in present if call.interface in ("", one.name)]
        if not candidates:
            raise _failed("UnknownInterface", f"{call.path} has no interface {call.interface}")
        for interface in candidates:
            if call.member in interface.methods:
                return interface
        raise _failed("UnknownMethod", f"{call.path} has no method {call.interface or 'named'} {call.member}")

    def _present(self, path: str) -> list[Interface]:
        """The interfaces at a path, ours first; a path that only leads to others can be walked and no more."""
        standard = self._standard
        if path in self._values:
            ours = [self._interfaces[name] for name in self._values[path]]
            root = [standard[OBJECT_MANAGER]] if path == self._root else []
            return [*ours, standard[PROPERTIES], standard[INTROSPECTABLE], standard[PEER], *root]
        return [standard[INTROSPECTABLE], standard[PEER]] if self._children(path) else []

    def _children(self, path: str) -> list[str]:
        """Names of the nodes right below, whole path elements compared."""
        base = path if path.endswith("/") else path + "/"
        return sorted(
            {p[len(base) :].split("/", 1)[0] for p in self._values if p.startswith(base) and p != base}
        )

    def _answer_standard(self, call: Message, interface: str) -> tuple[Any, ...]:
        if interface == PROPERTIES:
            return self._answer_properties(call)
        match call.member:
            case "Introspect":
                return (self._introspect(call.path),)
            case "GetManagedObjects":
                return ({p: self._variants(found) for p, found in self._values.items() if p != self._root},)
            case "GetMachineId":
                return (_machine_id(),)
            case _:
                return ()

    def _answer_properties(self, call: Message) -> tuple[Any, ...]:
        shown = self._values[call.path]
        name = call.body[0]
        if name and name not in shown and name not in self._standard:
            raise _failed("UnknownInterface", f"{call.path} has no interface {name}")
        found = [shown[name]] if name in shown else [] if name else list(shown.values())
        names = [name] if name in shown else [] if name else list(shown)
        if call.member == "GetAll":
            return ({key: value for one in names for key, value in self._typed(one, shown[one]).items()},)
        wanted = call.body[1]
        for one, properties in zip(names, found, strict=True):
            if wanted in properties:
                if call.member == "Set":
                    raise _failed("PropertyReadOnly", f"{wanted} cannot be set")
                return (Variant(self._interfaces[one].properties[wanted], properties[wanted]),)
        raise _failed("UnknownProperty", f"{call.path} has no property {name + '.' if name else ''}{wanted}")

    def _introspect(self, path: str) -> str:
        lines = [interface.xml for interface in self._present(path)]
        lines += [f'<node name="{child}"/>' for child in self._children(path)]
        return _DOCTYPE + "<node>\n  " + "\n  ".join(lines) + "\n</node>\n"


def _failed(name: str, message: str) -> CallFailed:
    return CallFailed(STANDARD_ERROR + name, message)


def _machine_id() -> str:
    try:
        with open("/etc/machine-id", encoding="ascii") as file:
            return file.read().strip()
    except OSError as error:
        raise _failed("Failed", f"this host has no machine id: {error.strerror}") from error
