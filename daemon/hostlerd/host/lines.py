"""Lines that have a word in them, of a file that comes in pieces and may be very long (/proc/PID/maps)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence


def lines_with_words(chunks: Iterator[bytes], words: Sequence[str]) -> list[str]:
    """In the order of the file. A line may be in several pieces."""
    wanted = [word.encode() for word in words]
    found: list[str] = []
    rest = b""
    for chunk in chunks:
        whole, newline, after = (rest + chunk).rpartition(b"\n")
        found += _chosen(whole, wanted) if newline else []
        rest = after
    return found + _chosen(rest, wanted)


def _chosen(text: bytes, wanted: Iterable[bytes]) -> list[str]:
    """Lines with one of these in them, found from the words: most of a long text is never looked at line by line."""
    lines = set[tuple[int, int]]()
    for word in wanted:
        at = text.find(word)
        while at >= 0:
            end = text.find(b"\n", at)
            lines.add((text.rfind(b"\n", 0, at) + 1, end if end >= 0 else len(text)))
            at = text.find(word, end) if end >= 0 else -1
    return [text[start:end].decode(errors="replace") for start, end in sorted(lines)]
