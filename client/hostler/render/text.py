"""Words, columns and colours that every noun's rendering is made of."""

from __future__ import annotations

from hostler.shapes import ints_of, is_list

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

NARROWEST = 12
"""Columns a text needs to be worth wrapping."""
_LONGEST_WORD = 40
"""Columns of a word that a table leaves in one piece."""
_GAP = "  "
_PAINTS = {
    "bold": "1",
    "dim": "2",
    **{
        shade + color: str(code + number)
        for shade, code in (("", 31), ("bright ", 91))
        for number, color in enumerate(("red", "green", "yellow", "blue", "magenta", "cyan"))
    },
}


class Style:
    """How to write: `width` of the terminal in columns, None where lines may have any length; `color` or none."""

    __slots__ = ("color", "width")

    def __init__(self, *, color: bool = False, width: int | None = None) -> None:
        self.color = color
        self.width = width

    def paint(self, text: str, paint: str) -> str:
        """`paint`: a name of `_PAINTS`, or "" for none."""
        if not self.color or not paint or not text:
            return text
        return f"\033[{_PAINTS[paint]}m{text}\033[0m"


PLAIN = Style()


class Cell:
    """A painted text in a table."""

    __slots__ = ("paint", "text")

    def __init__(self, text: str, paint: str = "") -> None:
        self.text = text
        self.paint = paint


def clean(value: object, *, nothing: str = "-") -> str:
    """One line of printable text; control characters, which could steer a terminal, become question marks."""
    if value is None or value == "":
        return nothing
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = str(value)
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else (" " if char.isspace() else "?") for char in text)


def texts_of(value: object) -> list[str]:
    """The texts of a list, or a lone one; cleaned."""
    if value is None or value == "":
        return []
    return [clean(item) for item in (value if is_list(value) else (value,))]


def cpu_list(value: object) -> str:
    """CPU ids as ranges, the kernel's way: 0-3,8."""
    if not is_list(value):
        return clean(value, nothing="none")
    ids = sorted(set(ints_of(value)))
    parts: list[str] = []
    start = previous = None
    for cpu in [*ids, None]:
        if start is not None and previous is not None and cpu != previous + 1:
            parts.append(str(start) if start == previous else f"{start}-{previous}")
            start = cpu
        elif start is None:
            start = cpu
        previous = cpu
    return ",".join(parts) or "none"


def memory(kib: object) -> str:
    """KiB in the unit a person would choose."""
    if not isinstance(kib, int | float):
        return "-"
    if kib < 1024:
        return f"{kib:g} KiB"
    if kib < 1024 * 1024:
        return f"{kib / 1024:.4g} MiB"
    if kib < 1000 * 1024 * 1024:
        return f"{kib / 1024 / 1024:.4g} GiB"
    return f"{kib / 1024 / 1024 / 1024:.4g} TiB"


def huge_pages(row: Mapping[str, object]) -> str:
    """`512 of 2 MiB`."""
    return f"{clean(row.get('pages'))} of {memory(row.get('page_kib'))}"


def count(number: int, one: str, many: str = "") -> str:
    """`1 step`, `2 steps`."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def columns_of(text: str) -> int:
    """How many columns of a terminal `text` takes."""
    if text.isascii():
        return len(text)
    import unicodedata  # noqa: PLC0415  only where it is needed: start-up counts

    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )


def pad(text: str, width: int) -> str:
    return text + " " * (width - columns_of(text))


def wrap(text: str, width: int) -> list[str]:
    """Lines of at most `width` columns; a word that is longer is cut."""
    lines: list[str] = []
    line = ""
    for word in text.split():
        rest = word
        if line and columns_of(line) + 1 + columns_of(rest) <= width:
            line += " " + rest
            continue
        if line:
            lines.append(line)
        while columns_of(rest) > width:
            cut = max(1, width if rest.isascii() else width // 2)
            lines.append(rest[:cut])
            rest = rest[cut:]
        line = rest
    if line or not lines:
        lines.append(line)
    return lines


def paragraph(text: str, style: Style, *, indent: str = "", first: str | None = None) -> list[str]:
    """`text` wrapped to the terminal; `first` opens the first line, `indent` the others."""
    opening = indent if first is None else first
    if style.width is None:
        return [opening + text]
    lines = wrap(text, max(NARROWEST, style.width - max(len(indent), len(opening))))
    return [(indent if number else opening) + line for number, line in enumerate(lines)]


def table(
    headers: Sequence[str],
    rows: Iterable[Sequence[str | Cell]],
    style: Style,
    *,
    flexible: Sequence[int] = (),
) -> list[str]:
    """Aligned columns. On a narrow terminal the `flexible` ones wrap; where even that is too wide, one record a row."""
    cells = [[cell if isinstance(cell, Cell) else Cell(cell) for cell in row] for row in rows]
    widths = [
        max([columns_of(header), *(columns_of(row[index].text) for row in cells)])
        for index, header in enumerate(headers)
    ]
    least = {
        index: max(len(headers[index]), *(_longest_word(row[index].text) for row in cells), NARROWEST)
        for index in flexible
    }
    if style.width is not None and not _fit(widths, style.width, least):
        return _records(headers, cells, style)
    lines = [
        style.paint(_join([pad(name, width) for name, width in zip(headers, widths, strict=True)]), "bold")
    ]
    for row in cells:
        wrapped = [
            [cell.text] if columns_of(cell.text) <= width else wrap(cell.text, width)
            for cell, width in zip(row, widths, strict=True)
        ]
        for depth in range(max(map(len, wrapped))):
            parts = [
                _painted(part[depth] if depth < len(part) else "", cell.paint, width, style)
                for part, cell, width in zip(wrapped, row, widths, strict=True)
            ]
            lines.append(_join(parts))
    return lines


def _painted(text: str, paint: str, width: int, style: Style) -> str:
    return style.paint(text, paint) + " " * (width - columns_of(text))


def _join(parts: Sequence[str]) -> str:
    return _GAP.join(parts).rstrip()


def _longest_word(text: str) -> int:
    return min(_LONGEST_WORD, max(map(columns_of, text.split()), default=0))


def _fit(widths: list[int], room: int, least: Mapping[int, int]) -> bool:
    """Narrow the columns in `least`, the widest first, to no less than that, until all fit in `room`.

    Changes `widths`. False where it cannot be done.
    """
    excess = sum(widths) + len(_GAP) * (len(widths) - 1) - room
    while excess > 0:
        able = [index for index, fewest in least.items() if widths[index] > fewest]
        if not able:
            return False
        widest = max(able, key=lambda index: widths[index])
        widths[widest] -= 1
        excess -= 1
    return True


def _records(headers: Sequence[str], cells: Sequence[Sequence[Cell]], style: Style) -> list[str]:
    label = max(map(len, headers)) + len(_GAP)
    lines: list[str] = []
    for row in cells:
        if lines:
            lines.append("")
        for header, cell in zip(headers, row, strict=True):
            room = max(NARROWEST, (style.width or 0) - label)
            for number, line in enumerate(wrap(cell.text, room)):
                opening = style.paint(pad("" if number else header, label), "bold")
                lines.append((opening + style.paint(line, cell.paint)).rstrip())
    return lines
