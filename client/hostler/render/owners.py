"""Who has each CPU: a letter for every domain, a mark for every thread, colours, and what they mean."""

from __future__ import annotations

from hostler.render.text import PLAIN, Style, clean, count, cpu_list, paragraph
from hostler.shapes import ints_of, map_of, rows_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Owner = Mapping[str, object]

RESERVED, ISOLATED = "*", "^"
_PAINTS = ("cyan", "green", "magenta", "yellow", "blue", "red")
"""Of domains, in turn; then the same, bright."""
_MOST_NAMED = 2
"""Owners of one CPU that are shown; only pins that overlap make more."""
_OF_KIND = {"reserved": "dim", "isolated": "yellow"}
_HELD = {
    "vcpu": "{vcpus} on {cpus}",
    "program": "a program, on {cpus}",
    "pinned": "pinned to {cpus}",
    "emulator": "emulator on {cpus}",
    "idle": "{cpus} empty",
}
_MEANINGS = {
    "vcpu": "{0}0: vCPU 0 of {0}",
    "emulator": "{0}e: its emulator and iothreads",
    "idle": "{0}-: kept empty for it",
    "pinned": "{0}!: its own pin, which is left alone",
}


class Owners:
    """`topology` as `hostler cpus --json` has it; a recorded host's has no owners, and what is isolated is marked."""

    def __init__(self, topology: Mapping[str, object]) -> None:
        self._rows = rows_of(topology.get("owners"))
        self._topology = topology
        self._by_cpu: dict[object, list[Owner]] = {}
        for row in self._rows or [
            {"cpu": cpu, "kind": "isolated"} for cpu in ints_of(topology.get("isolated"))
        ]:
            self._by_cpu.setdefault(row.get("cpu"), []).append(row)
        names = {row.get("domain"): clean(row.get("domain")) for row in self._rows if row.get("domain")}
        self._by_owner: dict[object, list[Owner]] = {}
        for row in self._rows:
            self._by_owner.setdefault(row.get("domain"), []).append(row)
        # Who is only asked about comes last, so that the others' letters are as they were.
        asked = map_of(topology.get("what_if")).get("domain")
        self._names = {key: names[key] for key in sorted(names, key=lambda key: (key == asked, names[key]))}
        self._letters = {key: _letters(number) for number, key in enumerate(self._names)}
        self._paints = {
            key: ("bright " if number // len(_PAINTS) % 2 else "") + _PAINTS[number % len(_PAINTS)]
            for number, key in enumerate(self._names)
        }

    def mark(self, cpu: int) -> str:
        """`=A0`, or nothing for what is simply the host's."""
        rows = self._by_cpu.get(cpu, [])
        marks = [mark for row in rows if (mark := self._mark(row))]
        equals = "=" if marks and rows[0].get("domain") else ""
        return equals + "&".join(marks[:_MOST_NAMED]) + ("&.." if len(marks) > _MOST_NAMED else "")

    def _mark(self, row: Owner) -> str:
        kind, vcpu = row.get("kind"), row.get("vcpu")
        number = clean(vcpu) if isinstance(vcpu, int) else ""
        letters = self._letters.get(row.get("domain"), "?")
        match kind:
            case "vcpu":
                return f"{letters}{number}"
            case "pinned":
                return f"{letters}{number}!"
            case "program":
                return letters
            case "emulator":
                return f"{letters}e"
            case "idle":
                return f"{letters}-"
            case "reserved":
                return RESERVED
            case "isolated":
                return ISOLATED
            case _:
                return ""

    def paint(self, cpu: int) -> str:
        for row in self._by_cpu.get(cpu, []):
            return _OF_KIND.get(str(row.get("kind"))) or self._paints.get(row.get("domain"), "")
        return ""

    def names(self, cpus: Sequence[int]) -> str:
        """The domains that have some of these CPUs."""
        keys = dict.fromkeys(row.get("domain") for cpu in cpus for row in self._by_cpu.get(cpu, []))
        return ", ".join(self._names[key] for key in keys if key in self._names)

    def legend(self, style: Style = PLAIN) -> list[str]:
        lines: list[str] = []
        for key, letters in self._letters.items():
            text = f"{self._names[key]}: {self._held(key)}"
            opening = f"{letters}  "
            words = paragraph(text, style, first=opening, indent=" " * len(opening))
            lines.append(style.paint(words[0], self._paints[key]))
            lines += words[1:]
        kinds = {row.get("kind") for row in self._rows}
        meanings = [text.format("A") for kind, text in _MEANINGS.items() if kind in kinds]
        if meanings:
            lines += paragraph(", ".join(meanings), style, indent="   ")
        lines += self._hosts(style)
        return lines

    def _held(self, key: object) -> str:
        kinds: dict[object, list[object]] = {}
        for row in self._by_owner[key]:
            kinds.setdefault(row.get("kind"), []).append(row.get("cpu"))
        parts = [
            words.format(vcpus=count(len(kinds[kind]), "vCPU"), cpus=cpu_list(kinds[kind]))
            for kind, words in _HELD.items()
            if kind in kinds
        ]
        return ", ".join(parts)

    def _hosts(self, style: Style) -> list[str]:
        def of(kind: str) -> list[object]:
            return [row.get("cpu") for row in self._rows if row.get("kind") == kind]

        isolated = ints_of(self._topology.get("isolated"))
        texts = (
            ("", "the host's, and what has none of its own floats there", of("host")),
            (RESERVED, "the host's, never given away (housekeeping.cpus)", of("reserved")),
            (ISOLATED, "isolated, the scheduler keeps its hands off", isolated),
        )
        return [
            line
            for mark, text, cpus in texts
            if cpus
            for line in paragraph(f"{text}: {cpu_list(cpus)}", style, first=f"{mark:<1}  ", indent="   ")
        ]


def _letters(number: int) -> str:
    """A to Z, then AA, AB, ..."""
    letters = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters
