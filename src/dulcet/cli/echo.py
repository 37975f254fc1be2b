"""`dulcet echo`: is the peer there, and does it speak DICOM?"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from dulcet.cli.command import CALLING, JSON, PEER, option, verb
from dulcet.cli.output import FAILED, say, say_json
from dulcet.cli.tls_options import calls_with_tls

if TYPE_CHECKING:
    from dulcet.io.tls import TLSConfig

__all__ = ["echo"]


@verb("echo")
@PEER
@CALLING
@option("-n", "--count", type=click.IntRange(1), metavar="N", default=1, help="How many to send.")
@option("--timeout", type=click.FloatRange(0.1), metavar="SECONDS", default=30.0, help="To wait for each step.")
@JSON
@calls_with_tls
def echo(peer: str, aet: str, count: int, timeout: float, json: bool, tls: TLSConfig | None) -> int:
    """Verify a peer with C-ECHO.

    \b
    dulcet echo ARCHIVE@127.0.0.1:11112
    dulcet echo ARCHIVE@pacs:104 --aet WORKSTATION --count 10
    dulcet echo ARCHIVE@pacs:2762 --tls-ca ca.pem --tls-cert our.pem
    """
    from dulcet import uids
    from dulcet.blocking.association import associate
    from dulcet.cli.waiting import timers
    from dulcet.config import AssociationConfig
    from dulcet.services.proposals import proposals

    config = AssociationConfig(timers=timers(timeout, "connect", "associate", "response"))
    good = True
    contexts = proposals([uids.VERIFICATION])
    with associate(peer, calling_ae_title=aet, contexts=contexts, config=config, tls=tls) as association:
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
