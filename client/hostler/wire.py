"""Names and values that daemon and client share. No code lives here."""

from __future__ import annotations

RUNTIME_DIRECTORY = "/run/hostler"
STATE_DIRECTORY = "/var/lib/hostler"
SOCKET_NAME = "hostler.sock"
SOCKET = f"{RUNTIME_DIRECTORY}/{SOCKET_NAME}"
SOCKET_VARIABLE = "HOSTLER_SOCKET"
"""Environment variable with another socket path (a simulated daemon's, a test's)."""

POLICY = "/etc/hostler/hostler.toml"
POLICY_DIRECTORY = "/etc/hostler/hostler.d"

BUS_NAME = "org.hostler1"
OBJECT_ROOT = "/org/hostler1"

METADATA_NAMESPACE = "urn:hostler:domain:1"
"""Of our element in a domain's `<metadata>`: what a slice of it is made of, so that this travels with the domain."""
WISHES_NAMESPACE = "urn:hostler:cpus:1"
"""Of `<hostler:cpus>` where it stands by itself: libvirt keeps one element of each namespace."""

MAX_FRAME = 256 * 1024
"""Bytes of one msgpack map on the socket, without the four of its length."""

HOOK_DEADLINE = 30.0
"""Seconds a hook waits for `prepare` in all."""
PREPARE_LIMIT = 25.0
"""Seconds after which the daemon gives up a preparation, so that putting back and the answer fit in the hook's wait."""

READ_METHODS = ("hello", "status", "devices", "cpus", "domains", "plan", "doctor", "subscribe")
"""Socket methods that change nothing. Parameters: none, but for `domains` {"name"?}, `plan` {"domain"?}."""
CHANGE_METHODS = ("prepare", "release", "hook", "reload", "retry", "gpu", "pins", "isolate")
"""`prepare` {"name", "xml"} -> {"devices": [...]} | `release` {"name", "xml"} -> {} | `hook` {"name", "operation",
"sub_operation"} -> {} | `reload` {} -> {"changed": bool} | `retry` {"object"} -> {} |
`gpu` {"domain", "way": "passthrough" | "slice" | "emulated" | "undo", "what"?, "model"?, "video"?, "live"?,
"dry_run"?} -> {"domain", "uuid", "changed": bool, "diff", "before", "after", "notes": [...]} |
`pins` {"domain", "undo"?, "dry_run"?} -> the same |
`isolate` {"cpus"?, "same_l3"?, "same_node"?, "smt"?, "class"?, "profile"?, "name"?} -> {"id", "name",
"cpus": list text, "scope"}, and with the first byte of the answer one descriptor (SCM_RIGHTS, unix(7)): the process
that connected has these CPUs until every copy of it is closed"""
SIMULATE_METHOD = "simulate"
"""Only a simulated host's daemon has it: {"action", ...} drives its libvirt, its slots and its faults."""
