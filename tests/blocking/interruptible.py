"""A program to press Ctrl-C in: `python -m tests.blocking.interruptible ADDRESS VERB [FILES...]`.

With `at_any_moment FILE TRIES SEED` it interrupts itself, and prints how many associations were aborted.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
from collections.abc import Mapping
from types import FrameType

import dulcet
from dulcet import uids
from dulcet.services.proposals import proposals


class Stopped(BaseException):
    """What the handler raises, as Python's own for SIGINT does."""


def without_coverage(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """An environment in which no coverage is measured: its lock does not survive an interrupt in the wrong place."""
    return {name: value for name, value in environment.items() if not name.startswith("COVERAGE_")}


def at_any_moment(address: str, file: str, tries: int, seed: int) -> int:
    """Store again and again until an alarm rings; the associations that ended as aborted."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise Stopped

    signal.signal(signal.SIGALRM, ring)
    chance = random.Random(seed)
    aborted = 0
    for _ in range(tries):
        association = dulcet.associate(address, contexts=proposals(["1.2.840.10008.5.1.4.1.1.2"]))
        with contextlib.suppress(Stopped), association:
            # Again after a second: Python drops an exception that is raised within a weak reference's callback.
            signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.0001, 0.012), 1.0)
            try:
                while True:
                    association.store(file)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        aborted += association.ending == "aborted"
    return aborted


def main(address: str, verb: str, *files: str) -> None:
    if verb == "at_any_moment":
        print(at_any_moment(address, files[0], int(files[1]), int(files[2])))
        return
    contexts = proposals([uids.VERIFICATION, "1.2.840.10008.5.1.4.1.1.2"])
    config = dulcet.AssociationConfig(window_invoked=8)
    with dulcet.associate(address, contexts=contexts, config=config) as association:
        if verb == "echo":
            association.echo()
        elif verb == "store":
            association.store(files[0])
        elif verb == "store_many":
            for _ in association.store_many(files):
                pass
        elif verb == "parallel":
            for _ in association.store_many(files, associations=4):
                pass
        elif verb == "requests":
            for request in association.requests():
                request.respond(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
