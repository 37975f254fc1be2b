"""`dulcet find`: ask a peer what it has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from dulcet.cli.command import CALLING, JSON, PEER, Misuse, option, verb
from dulcet.cli.deadline import DEADLINE, TimeIsUp, deadline
from dulcet.cli.keys import KEYS, LEVEL, MODEL, check_model, parse_keys
from dulcet.cli.output import FAILED, complain
from dulcet.cli.tls_options import calls_with_tls

if TYPE_CHECKING:
    from dulcet.cli.answers import Troubles
    from dulcet.cli.writers import Writer
    from dulcet.io.tls import TLSConfig

__all__ = ["find"]

DEFAULT_KEYS: Final[dict[str, tuple[str, ...]]] = {
    "PATIENT": ("PatientID", "PatientName", "PatientBirthDate"),
    "STUDY": ("PatientID", "PatientName", "StudyDate", "StudyDescription", "ModalitiesInStudy", "StudyInstanceUID"),
    "SERIES": ("StudyInstanceUID", "Modality", "SeriesNumber", "SeriesDescription", "SeriesInstanceUID"),
    "IMAGE": ("StudyInstanceUID", "SeriesInstanceUID", "InstanceNumber", "SOPClassUID", "SOPInstanceUID"),
}
WORKLIST_KEYS: Final = (
    "PatientID", "PatientName", "AccessionNumber",
    *(f"ScheduledProcedureStepSequence.{key}" for key in (
        "Modality", "ScheduledStationAETitle", "ScheduledProcedureStepStartDate", "ScheduledProcedureStepStartTime",
    )),
)  # fmt: skip
OTHER_KEYS: Final = ("SOPClassUID", "SOPInstanceUID")
"""What every information model without levels can tell."""
NAMED: Final = 5
"""Elements of an answer that a warning names."""


@verb("find")
@PEER
@KEYS
@LEVEL
@MODEL
@CALLING
@option("--limit", type=click.IntRange(1), metavar="N", help="Cancel after N answers.")
@option("--timeout", type=click.FloatRange(0.1), metavar="SECONDS", default=120.0, help="To wait for each answer.")
@DEADLINE
@option("--csv", is_flag=True, help="Comma-separated values; no cell is a formula.")
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
    seconds: float | None,
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
    from dulcet.cli.waiting import timers
    from dulcet.cli.writers import writer_of
    from dulcet.config import AssociationConfig
    from dulcet.errors import ReceiveError, StatusError
    from dulcet.services.models import find_model, retrieve_levels
    from dulcet.services.proposals import proposals

    if csv and json:
        raise Misuse("--csv or --json: answers come in one of them")
    keys = parse_keys(key)
    wanted: str | None = level.upper()
    row = check_model(model)
    if row is not None:
        if row.find is None:
            raise Misuse(f"--model {model} cannot be queried (PS3.4)")
        if not row.levels:
            wanted = None
    if not keys:  # an answer without attributes says nothing
        worklist = row is not None and row.find == find_model("worklist").find
        keys = parse_keys(DEFAULT_KEYS[wanted] if wanted else WORKLIST_KEYS if worklist else OTHER_KEYS)
    if model is None:
        classes = [uid for name in retrieve_levels(wanted) if (uid := find_model(name).find)]
    else:
        classes = [model if model[:1].isdigit() else str(find_model(model).find)]
    config = AssociationConfig(timers=timers(timeout, "response"))
    writer = writer_of(keys, as_csv=csv, json=json)
    count = 0
    answered, failure = False, ""
    try:
        with (
            deadline(seconds) as when_time_is_up,
            associate(peer, calling_ae_title=aet, contexts=proposals(classes), config=config, tls=tls) as association,
        ):
            when_time_is_up.append(association.interrupt)
            writer.begin()
            for answer in association.find(level=wanted, model=model, limit=limit, **keys):
                count += 1
                _show(peer, count, answer, writer)
            answered = True
    except TimeIsUp as error:
        failure = f"{peer}: {error}, after {count} {'answer' if count == 1 else 'answers'}; there may be more"
    except StatusError as error:
        failure = f"{peer}: {error}"
    except ReceiveError as error:
        failure = str(error)
    finally:
        writer.close(answered=answered)
    if failure:
        complain(failure)
        return FAILED
    if count == limit:
        complain(f"{peer}: stopped at --limit {limit}; there may be more")
    return 0


def _show(peer: str, number: int, answer: Any, writer: Writer) -> None:
    """One answer, and a warning where not all of it is what it should be."""
    troubles: Troubles = []
    writer.add(answer, troubles)
    if troubles:
        more = f" and {len(troubles) - NAMED} more" if len(troubles) > NAMED else ""
        complain(f"{peer}: answer {number}: {', '.join(troubles[:NAMED])}{more}; shown as it came")
