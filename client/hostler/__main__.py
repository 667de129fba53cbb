"""`python3 -m hostler`: the command line without its launcher."""

from __future__ import annotations

import sys

from hostler.cli import main

sys.exit(main())
