"""`python -m unetkit` is the command `unetkit`."""

from __future__ import annotations

import sys

from unetkit.cli import main

if __name__ == "__main__":
    sys.exit(main())
