"""The journal: one JSON object a line in /run/hostler/journal, appended and fsynced before what it announces happens.

    {"journal": 1, "boot": ID}                      the first line; a journal of another boot is void
    {"open": KIND, "key": K, "value": {...}}        a record, a claim, a trouble, ... (model/ledger); replaces K
    {"close": KIND, "key": K}
    {"begin": N, "kind": ..., "object": ..., "from": ..., "to": ..., "writer": PID}      a step is about to be performed
    {"end": N}                                      it was, or it failed with an answer

The ledger is the fold over the lines. A last line cut short announced something that never happened and is dropped; any
other line that makes no sense is kept aside with the file and said. When the file grows it is rewritten from the
ledger.

What opens must be in the file before it is true. What closes ({"close"}, {"end"}) or warns (a trouble) is true at once
and gets into the file when there is room again: a restart that does not know of it finds it out from the host.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any, TypeVar

from hostler.errors import BadInput, HostFailed, HostlerError
from hostlerd.model.domains import Definition
from hostlerd.model.ledger import (
    AttributeRecord,
    BalancerRecord,
    BarRecord,
    Claim,
    DeviceRecord,
    FileRecord,
    FramebufferRecord,
    GroupRecord,
    HugepagesRecord,
    Ledger,
    MdevRecord,
    Outstanding,
    PinRecord,
    Record,
    RecoveryRecord,
    RemovedRecord,
    StoppedRecord,
    ThreadRecord,
    Trouble,
    UnloadedRecord,
    VfsRecord,
    VgpuRecord,
)
from hostlerd.model.plan import Step
from hostlerd.model.programs import Program

log = logging.getLogger(__name__)

COMPACT_AT = 128 * 1024
"""Bytes after which the file is rewritten."""

Json = dict[str, Any]
T = TypeVar("T")


def _pins(value: Json) -> PinRecord:
    return PinRecord(
        uuid=value["uuid"],
        vcpus={int(k): v for k, v in value["vcpus"].items()},
        iothreads={int(k): v for k, v in value["iothreads"].items()},
        emulator=value["emulator"],
        idle=value["idle"],
        own=value.get("own", ""),
        away=value.get("away", ""),
    )


def _group(value: Json) -> GroupRecord:
    return GroupRecord(unit=value["unit"], allowed=value["allowed"], ours=tuple(value["ours"]))


def _attribute(value: Json) -> AttributeRecord:
    return AttributeRecord(
        path=value["path"], before=value["before"], ours=tuple(value["ours"]), identity=value["identity"]
    )


def _thread(value: Json) -> ThreadRecord:
    return ThreadRecord(
        thread=value["thread"], start=value["start"], before=value["before"], ours=tuple(value["ours"])
    )


def _bar(value: Json) -> BarRecord:
    row = dict(value)
    row["ours"] = tuple(value["ours"])
    return BarRecord(**row)


def _unloaded(value: Json) -> UnloadedRecord:
    return UnloadedRecord(module=value["module"], device=value["device"], stack=tuple(value["stack"]))


def _claim_json(claim: Claim) -> Json:
    return {"xml": claim.xml, "since": claim.since, "prepared": claim.prepared, "saved": claim.saved}


READ: dict[str, Callable[[Json], Record | Trouble]] = {
    "device": lambda value: DeviceRecord(**value),
    "group": _group,
    "pins": _pins,
    "file": lambda value: FileRecord(**value),
    "vfs": lambda value: VfsRecord(**value),
    "mdev": lambda value: MdevRecord(**value),
    "vgpu": lambda value: VgpuRecord(**value),
    "attribute": _attribute,
    "thread": _thread,
    "balancer": lambda value: BalancerRecord(**value),
    "stopped": lambda value: StoppedRecord(**value),
    "framebuffer": lambda value: FramebufferRecord(**value),
    "bar": _bar,
    "removed": lambda value: RemovedRecord(**value),
    "recovery": lambda value: RecoveryRecord(**value),
    "hugepages": lambda value: HugepagesRecord(**value),
    "unloaded": _unloaded,
    "program": lambda value: Program(**value),
    "trouble": lambda value: Trouble(**value),
}
"""What a word of the file is read by: JSON knows neither tuples nor numbers as keys."""
RECORDS: dict[type[Record], tuple[str, str, str]] = {
    DeviceRecord: ("device", "devices", "address"),
    GroupRecord: ("group", "groups", "unit"),
    PinRecord: ("pins", "pins", "uuid"),
    FileRecord: ("file", "files", "path"),
    VfsRecord: ("vfs", "vfs", "key"),
    MdevRecord: ("mdev", "mdevs", "uuid"),
    VgpuRecord: ("vgpu", "vgpus", "key"),
    AttributeRecord: ("attribute", "attributes", "path"),
    ThreadRecord: ("thread", "threads", "thread"),
    BalancerRecord: ("balancer", "balancers", "balancer"),
    StoppedRecord: ("stopped", "stopped", "name"),
    UnloadedRecord: ("unloaded", "unloaded", "module"),
    FramebufferRecord: ("framebuffer", "framebuffers", "device"),
    BarRecord: ("bar", "bars", "path"),
    RemovedRecord: ("removed", "removed", "key"),
    RecoveryRecord: ("recovery", "recoveries", "key"),
    Program: ("program", "programs", "id"),
    HugepagesRecord: ("hugepages", "hugepages", "key"),
}
"""Record type to its word in the file, its field in the ledger and its key."""

FIELDS = {word: field for word, field, _ in RECORDS.values()} | {"claim": "claims", "trouble": "troubles"}


class Journal:
    """`parse` turns a claim's domain XML back into values (the observers' parser, handed in)."""

    def __init__(self, path: str, boot: str, parse: Callable[[str], Definition]) -> None:
        self._path, self._boot, self._parse = path, boot, parse
        self._next = 1
        self._fd = -1
        self._behind = False
        self.ledger = Ledger()
        whole = self._load()
        try:
            self._rewrite()
        except OSError as error:
            if not whole:
                raise _unwritable(path, error) from error
            log.warning("the journal is used as it is: it cannot be written anew (%s)", error.strerror)
            self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            os.ftruncate(self._fd, whole)

    # What the rest of the daemon says

    def record(self, record: Record) -> None:
        word, _, key = RECORDS[type(record)]
        self._append({"open": word, "key": getattr(record, key), "value": asdict(record)})

    def settle(self, key: str) -> None:
        """Close the record of an object, whatever its kind."""
        for word, field, _ in RECORDS.values():
            if key in getattr(self.ledger, field):
                self._append_late({"close": word, "key": key})

    def claim(self, claim: Claim) -> None:
        self._append({"open": "claim", "key": claim.uuid, "value": _claim_json(claim)})

    def unclaim(self, uuid: str) -> None:
        """Of a domain, or of a program."""
        for word, field in (("claim", self.ledger.claims), ("program", self.ledger.programs)):
            if uuid in field:
                self._append_late({"close": word, "key": uuid})

    def trouble(self, trouble: Trouble) -> None:
        self._append_late({"open": "trouble", "key": trouble.object, "value": asdict(trouble)})

    def forgive(self, obj: str) -> None:
        """A trouble and the steps on its object that never ended."""
        if obj in self.ledger.troubles:
            self._append_late({"close": "trouble", "key": obj})
        for record in [r for r in self.ledger.recoveries.values() if r.address == obj]:
            self._append_late({"close": "recovery", "key": record.key})  # it may be tried again
        for step in [s for s in self.ledger.outstanding.values() if s.object == obj]:
            self.end(step.number)

    def returned(self, number: int) -> bool:
        """The writer of a step that had not returned is gone: so is the trouble of its object, if nothing else of it is
        outstanding. True if there was one.
        """
        step = self.ledger.outstanding.get(number)
        if step is None:
            return False
        self.end(number)
        trouble = self.ledger.troubles.get(step.object)
        if trouble is None or not trouble.wedged or self.ledger.is_outstanding(step.object):
            return False
        self.forgive(step.object)
        return True

    def residue(self, unit: str) -> None:
        if unit not in self.ledger.residue:
            self._append({"open": "residue", "key": unit, "value": {}})

    def begin(self, step: Step, writer: int = 0) -> int:
        number = self._next
        self._append(
            {
                "begin": number,
                "kind": step.kind,
                "object": step.object,
                "from": step.before,
                "to": step.after,
                "writer": writer,
            }
        )
        return number

    def end(self, number: int) -> None:
        self._append_late({"end": number})

    # The file

    def _append(self, line: Json) -> None:
        """Raises HostFailed when it cannot be written: then what it announces must not happen."""
        after = self._fold(self.ledger, line)
        data = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        try:
            if self._behind:
                self._rewrite()
            size = os.lseek(self._fd, 0, os.SEEK_END)
            try:
                if os.write(self._fd, data) != len(data):
                    raise OSError(28, os.strerror(28))
                os.fsync(self._fd)
            except OSError:
                os.ftruncate(self._fd, size)
                raise
        except OSError as error:
            raise _unwritable(self._path, error) from error
        self.ledger = after
        if size > COMPACT_AT:
            try:
                self._rewrite()
            except OSError as error:
                log.warning("the journal cannot be written anew: %s", error.strerror)

    def _append_late(self, line: Json) -> None:
        """For what is true already, in the file or not."""
        try:
            self._append(line)
        except HostFailed as error:
            log.warning("%s", error.message)
            self.ledger = self._fold(self.ledger, line)
            self._behind = True

    def _load(self) -> int:
        """The bytes of whole lines of this boot; 0 where there is nothing to go on from."""
        try:
            with open(self._path, "rb") as file:
                data = file.read()
        except FileNotFoundError:
            return 0
        size = data.rfind(b"\n") + 1
        whole = data[:size].decode("utf-8", "replace").split("\n")[:-1]
        cut = data[size:]
        if cut:
            log.warning("the journal's last line was cut short; what it announced was not done")
        bad = 0
        for number, text in enumerate(whole):
            try:
                line = json.loads(text)
                if number == 0:
                    if line["journal"] != 1 or line["boot"] != self._boot:
                        return 0
                    continue
                self.ledger = self._fold(self.ledger, line)
            except (ValueError, KeyError, TypeError, AttributeError, BadInput) as error:
                log.error("line %d of the journal makes no sense (%s)", number + 1, error)
                bad += 1
        if bad:
            _keep_aside(self._path)
        return size

    def _fold(self, ledger: Ledger, line: Json) -> Ledger:
        if "begin" in line:
            number = int(line["begin"])
            self._next = max(self._next, number + 1)
            step = Outstanding(
                number=number, kind=line["kind"], object=line["object"], writer=int(line.get("writer", 0))
            )
            return replace(ledger, outstanding={**ledger.outstanding, number: step})
        if "end" in line:
            return replace(ledger, outstanding=_without(ledger.outstanding, int(line["end"])))
        word = line.get("open") or line["close"]
        key = line["key"]
        if word == "residue":
            return replace(ledger, residue=tuple(dict.fromkeys((*ledger.residue, key))))
        field = FIELDS[word]
        now: Mapping[str, Any] = getattr(ledger, field)
        after = {**now, key: self._value(word, line["value"])} if "open" in line else _without(now, key)
        change: Json = {field: after}
        return replace(ledger, **change)

    def _value(self, word: str, value: Json) -> Record | Claim | Trouble:
        if word == "claim":
            definition = self._parse(value["xml"])
            return Claim(
                definition=definition,
                since=value["since"],
                prepared=value["prepared"],
                xml=value["xml"],
                saved=value.get("saved", False),
            )
        return READ[word](value)

    def _rewrite(self) -> None:
        """Write the ledger afresh, atomically, and keep the file open for appending."""
        lines: list[Json] = [{"journal": 1, "boot": self._boot}]
        for word, field, key in RECORDS.values():
            lines += [
                {"open": word, "key": getattr(r, key), "value": asdict(r)}
                for r in getattr(self.ledger, field).values()
            ]
        lines += [
            {"open": "claim", "key": c.uuid, "value": _claim_json(c)} for c in self.ledger.claims.values()
        ]
        lines += [
            {"open": "trouble", "key": t.object, "value": asdict(t)} for t in self.ledger.troubles.values()
        ]
        lines += [{"open": "residue", "key": unit, "value": {}} for unit in self.ledger.residue]
        lines += [
            {"begin": s.number, "kind": s.kind, "object": s.object, "writer": s.writer}
            for s in self.ledger.outstanding.values()
        ]
        text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
        temporary = f"{self._path}.new"
        # Domain XML is in it: nobody else's to read.
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self._path)
        folder = os.open(os.path.dirname(self._path) or ".", os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        self._behind = False

    def is_unwritable(self, error: HostlerError) -> bool:
        """Whether the error says that the journal has no room, and nothing of the object it was about."""
        return error.data.get("object") == self._path

    def close(self) -> None:
        os.close(self._fd)


def _without(mapping: Mapping[Any, T], key: object) -> dict[Any, T]:
    return {k: v for k, v in mapping.items() if k != key}


def _unwritable(path: str, error: OSError) -> HostFailed:
    return HostFailed(
        f"the journal {path} cannot be written: {error.strerror}",
        remedy="nothing was changed; make room and try again",
        data={"object": path, "errno": error.errno},
    )


def _keep_aside(path: str) -> None:
    """A second name for it: rewriting leaves that one alone, and without room the first one is still there."""
    aside = f"{path}.broken"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(aside)
    os.link(path, aside)
