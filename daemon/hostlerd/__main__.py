"""The program `hostlerd`, and `python -m hostlerd`.

Nothing is imported before it is known what is asked: `hostlerd offline` runs without trio, libvirt or D-Bus.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["offline"]:
        from hostlerd import offline  # noqa: PLC0415

        return offline.main(words[1:])
    from hostlerd import main as daemon  # noqa: PLC0415

    return daemon.main(words)


if __name__ == "__main__":
    raise SystemExit(main())
