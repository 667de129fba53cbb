"""Reading that remembers what it was not allowed to read: doctor says so, and guesses nothing from it."""

from __future__ import annotations

from hostlerd.host import Files
from hostlerd.observe.reading import BLANK


class Careful:
    """`unread`: the files that are there and may not be read by whoever runs this, in order."""

    def __init__(self, files: Files, *, live: bool) -> None:
        """`live`: all of the host is there, so what is missing does not exist. A recording may lack anything."""
        self.files = files
        self.live = live
        self.unread: list[str] = []

    def text(self, path: str) -> str | None:
        try:
            return self.files.read(path).strip(BLANK)
        except PermissionError:
            self._note(path)
        except OSError:
            return None
        return None

    def names(self, path: str) -> list[str] | None:
        """What is in a folder, in order; None if that is not known. Empty where there is none, on a live host."""
        try:
            return sorted(self.files.listdir(path))
        except PermissionError:
            self._note(path)
        except OSError:
            return [] if self.live else None
        return None

    def exists(self, path: str) -> bool | None:
        """None where that is not known: it is in a folder that a recording lacks, or that may not be read."""
        folder, _, name = path.rpartition("/")
        found = self.names(folder)
        if found is None:
            return True if self.files.exists(path) else None
        return name in found

    def _note(self, path: str) -> None:
        if path not in self.unread:
            self.unread.append(path)
