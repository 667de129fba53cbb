"""`python -m hostlerd`."""

from hostlerd.main import main

raise SystemExit(main())
