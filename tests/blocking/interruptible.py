"""A program to press Ctrl-C in: `python -m tests.blocking.interruptible ADDRESS VERB [FILES...]`."""

from __future__ import annotations

import sys

import dulcet
from dulcet import uids
from dulcet.services.proposals import proposals


def main(address: str, verb: str, *files: str) -> None:
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


main(*sys.argv[1:])
