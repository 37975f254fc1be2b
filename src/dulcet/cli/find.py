"""`dulcet find`: ask a peer what it has."""

from __future__ import annotations

import csv as csvlib
import json as jsonlib
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

import click

from dulcet.cli.command import CALLING, JSON, PEER, Misuse, option, verb
from dulcet.cli.keys import KEYS, LEVEL, MODEL, check_model, headings, parse_keys, shown
from dulcet.cli.output import FAILED, complain, printable, say
from dulcet.cli.tls_options import calls_with_tls

if TYPE_CHECKING:
    from dulcet.io.tls import TLSConfig

__all__ = ["find"]

DEFAULT_KEYS: Final[dict[str, tuple[str, ...]]] = {
    "PATIENT": ("PatientID", "PatientName", "PatientBirthDate"),
    "STUDY": ("PatientID", "PatientName", "StudyDate", "StudyDescription", "ModalitiesInStudy", "StudyInstanceUID"),
    "SERIES": ("StudyInstanceUID", "Modality", "SeriesNumber", "SeriesDescription", "SeriesInstanceUID"),
    "IMAGE": ("StudyInstanceUID", "SeriesInstanceUID", "InstanceNumber", "SOPClassUID", "SOPInstanceUID"),
}
WIDEST: Final = 64
"""Characters of a column."""


@verb("find")
@PEER
@KEYS
@LEVEL
@MODEL
@CALLING
@option("--limit", type=click.IntRange(1), metavar="N", help="Stop after N answers.")
@option("--timeout", type=click.FloatRange(0.1), metavar="SECONDS", default=120.0, help="To wait for each answer.")
@option("--csv", is_flag=True, help="Comma-separated values.")
@JSON
@calls_with_tls
def find(
    peer: str,
    key: tuple[str, ...],
    level: str,
    model: str | None,
    aet: str,
    limit: int | None,
    timeout: float,
    csv: bool,
    json: bool,
    tls: TLSConfig | None,
) -> int:
    """Query a peer with C-FIND. A key without a value asks for it, one with a value matches.

    \b
    dulcet find ARCHIVE@127.0.0.1:11112 -k PatientName='DOE*' -k StudyDate
    dulcet find ARCHIVE@pacs:104 --level series -k StudyInstanceUID=1.2.3 --json
    dulcet find RIS@ris:104 --model worklist -k PatientName \\
        -k ScheduledProcedureStepSequence.Modality=CT
    """
    from dulcet.blocking.association import associate
    from dulcet.config import AssociationConfig, Timers
    from dulcet.errors import StatusError
    from dulcet.services.models import find_model, retrieve_levels
    from dulcet.services.proposals import proposals

    keys = parse_keys(key)
    wanted: str | None = level.upper()
    row = check_model(model)
    if row is not None:
        if row.find is None:
            raise Misuse(f"--model {model} cannot be queried (PS3.4)")
        if not row.levels:
            wanted = None
    if wanted is not None and not keys:
        keys = dict.fromkeys(DEFAULT_KEYS[wanted])
    if model is None:
        classes = [uid for name in retrieve_levels(wanted) if (uid := find_model(name).find)]
    else:
        classes = [model if model[:1].isdigit() else str(find_model(model).find)]
    config = AssociationConfig(timers=Timers(response=timeout))
    answers: list[Any] = []
    count = 0
    failure = ""
    writer = csvlib.writer(sys.stdout)
    if csv:
        writer.writerow(headings(keys))
    with associate(peer, calling_ae_title=aet, contexts=proposals(classes), config=config, tls=tls) as association:
        try:
            for answer in association.find(level=wanted, model=model, **keys):
                count += 1
                if json:
                    say(jsonlib.dumps(answer.to_json_dict()))
                elif csv:
                    writer.writerow(shown(answer, keys))
                else:
                    answers.append(shown(answer, keys))
                if limit is not None and count >= limit:
                    break
        except StatusError as error:
            failure = str(error)
    if not json and not csv:
        _table(headings(keys), answers)
    if failure:
        complain(f"{peer}: {failure}")
        return FAILED
    return 0


def _table(names: list[str], rows: Iterable[list[str]]) -> None:
    """Aligned columns."""
    rows = [[printable(value)[:WIDEST] for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(names, *rows, strict=True)]
    for row in (names, *rows) if rows else ():
        say("  ".join(value.ljust(width) for value, width in zip(row, widths, strict=True)).rstrip())
    say(f"{len(rows)} {'answer' if len(rows) == 1 else 'answers'}")
