"""The command line: each verb of the api as a command, its events on the terminal.

Nothing heavy is imported until a command runs, so that help appears at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (None: that of this process) and return its exit status.

    0 done; 1 the doctor found errors, or some images failed; 2 something the user can mend (one message on stderr);
    130 stopped by Ctrl-C; 141 the reader of the output went away.
    """
    from unetkit.cli.entry import run
    from unetkit.core.settings import patient_threads

    patient_threads()
    return run(list(sys.argv[1:] if argv is None else argv))
