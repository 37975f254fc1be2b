"""`dulcet echo`: is the peer there, and does it speak DICOM?"""

from __future__ import annotations

import time
from typing import Annotated

import typer

from dulcet.cli.output import CALLING, FAILED, JSON, PEER, say, say_json

__all__ = ["echo"]


def echo(
    peer: PEER,
    aet: CALLING = "DULCET",
    count: Annotated[int, typer.Option("--count", "-n", metavar="N", min=1, help="How many to send.")] = 1,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", min=0.1, help="How long to wait for each step.")] = 30.0,
    json: JSON = False,
) -> int:
    """Verify a peer with C-ECHO.

    \b
    dulcet echo ARCHIVE@127.0.0.1:11112
    dulcet echo ARCHIVE@pacs:104 --aet WORKSTATION --count 10
    """
    from dulcet import uids
    from dulcet.blocking.association import associate
    from dulcet.config import AssociationConfig, Timers
    from dulcet.services.proposals import proposals

    config = AssociationConfig(timers=Timers(connect=timeout, associate=timeout, response=timeout))
    good = True
    with associate(peer, calling_ae_title=aet, contexts=proposals([uids.VERIFICATION]), config=config) as association:
        for _ in range(count):
            start = time.perf_counter()
            response = association.echo()
            milliseconds = (time.perf_counter() - start) * 1000
            good = good and response.status.is_success
            if json:
                say_json(peer=peer, status=int(response.status), milliseconds=round(milliseconds, 3))
            else:
                say(f"{peer}: {response.status} in {milliseconds:.2f} ms")
    return 0 if good else FAILED
