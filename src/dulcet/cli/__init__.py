"""The command `dulcet`: one module a verb, loaded when it is called."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from typing import NoReturn

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line; exits with 0 all good, 1 some operation failed, 2 usage, 3 no association."""
    from dulcet.cli.app import run

    if arguments is not None:
        run(list(arguments))
    try:
        run(sys.argv[1:])
    finally:
        gc.freeze()  # what goes with the process need not be searched for cycles: a tenth of a short command's time
