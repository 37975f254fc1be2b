"""`dulcet get` and `dulcet move`: have a peer send what it has, here or elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from click.core import ParameterSource

from dulcet.cli.command import CALLING, JSON, PATH, PEER, Misuse, option, verb
from dulcet.cli.deadline import DEADLINE, TimeIsUp, deadline
from dulcet.cli.keys import KEYS, LEVELS, MODEL, check_model, parse_keys
from dulcet.cli.nicknames import title_of
from dulcet.cli.output import FAILED, complain, say, say_json, show_below
from dulcet.cli.tls_options import calls_with_tls

if TYPE_CHECKING:
    from dulcet.config import AssociationConfig
    from dulcet.io.store_directory import StoreDirectory
    from dulcet.io.tls import TLSConfig
    from dulcet.services.results import Retrieved

__all__ = ["get", "move"]

OUT: Final = option("--out", type=PATH, metavar="DIR", default="incoming", help="Where files go.")
LEVEL: Final = option(
    "--level", type=click.Choice(LEVELS, case_sensitive=False), metavar="LEVEL",
    help="patient, study, series or image; that of the lowest key without it.",
)  # fmt: skip
TIMEOUT: Final = option(
    "--timeout", type=click.FloatRange(0.1), metavar="SECONDS", default=120.0, help="To wait for each answer."
)


@verb("get")
@PEER
@KEYS
@LEVEL
@MODEL
@OUT
@option("--syntax", multiple=True, metavar="UID", help="Transfer syntaxes to take, best first; for compressed ones.")
@option(
    "--class", "classes", multiple=True, metavar="CLASS",
    help="SOP class to propose too: UID, keyword or name.",
)
@CALLING
@TIMEOUT
@DEADLINE
@JSON
@calls_with_tls
def get(
    peer: str,
    key: tuple[str, ...],
    level: str | None,
    model: str | None,
    out: Path,
    syntax: tuple[str, ...],
    classes: tuple[str, ...],
    aet: str,
    timeout: float,
    seconds: float | None,
    json: bool,
    tls: TLSConfig | None,
) -> int:
    """Retrieve with C-GET. The instances come back on the same association.

    The peer is asked which SOP classes it has there. Where it does not tell, every storage class that we know is
    proposed, and --class adds a private one.

    \b
    dulcet get ARCHIVE@127.0.0.1:11112 -k StudyInstanceUID=1.2.3 --out study
    dulcet get ARCHIVE@pacs:104 -k PatientID=4711 --level patient --json
    dulcet get ARCHIVE@pacs:104 --level series -k StudyInstanceUID=1.2.3 \\
        -k SeriesInstanceUID=1.2.3.4
    """
    from dulcet.blocking.retrieving import retrieve
    from dulcet.services.retrieval import find_class

    keys, config = _prepared(key, level, model, timeout)
    try:
        wanted = [find_class(one) for one in classes]
    except ValueError as error:
        raise Misuse(f"--class {error}") from None
    course = _Course(_progress(json))
    try:
        with _folder(out) as folder, deadline(seconds):
            result = retrieve(
                peer, to=folder, level=level, model=model, syntaxes=syntax, classes=wanted, calling_ae_title=aet,
                config=config, tls=tls, progress=course, **keys,
            )  # fmt: skip
    except TimeIsUp as error:
        return course.cut_short(peer, error, json)
    return _told(peer, result, json, proposes=True, syntaxes=bool(syntax))


@verb("move")
@PEER
@KEYS
@LEVEL
@MODEL
@option("--to", metavar="AET", help="Who gets it; by default ourselves.")
@option("--receive", type=click.IntRange(0, 65535), metavar="PORT", help="Listen here for what comes to ourselves.")
@option("--bind", metavar="HOST", default="127.0.0.1", help="Where --receive listens.")
@option("--receive-tls", is_flag=True, rare=True, group="TLS", help="--receive listens with TLS, by the same files.")
@OUT
@CALLING
@TIMEOUT
@DEADLINE
@JSON
@calls_with_tls
def move(
    peer: str,
    key: tuple[str, ...],
    level: str | None,
    model: str | None,
    to: str | None,
    receive: int | None,
    bind: str,
    receive_tls: bool,
    out: Path,
    aet: str,
    timeout: float,
    seconds: float | None,
    json: bool,
    tls: TLSConfig | None,
) -> int:
    """Have a peer send to an AE title that it knows, with C-MOVE.

    \b
    dulcet move ARCHIVE@pacs:104 -k StudyInstanceUID=1.2.3 --to WORKSTATION
    dulcet move ARCHIVE@pacs:104 -k StudyInstanceUID=1.2.3 --receive 11113
    dulcet move ARCHIVE@pacs:104 -k StudyInstanceUID=1.2.3 --receive 11113 \\
        --bind 0.0.0.0 --out study
    """
    from dulcet.blocking.association import associate
    from dulcet.services.models import MODELS
    from dulcet.services.proposals import proposals
    from dulcet.upper_layer.address import Address
    from dulcet.upper_layer.negotiation import check_ae_title

    if to is None and receive is None:
        raise Misuse("--to AET says who gets it, --receive PORT that it comes here")
    for name in ("out", "bind") if receive is None else ():
        if click.get_current_context().get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise Misuse(f"--{name} is about what comes here, which needs --receive PORT")
    if receive_tls and tls is None:
        raise Misuse("--receive-tls needs --tls-cert, our certificate")
    keys, config = _prepared(key, level, model, timeout)
    classes = [uid for row in MODELS.values() if (uid := row.move) is not None]
    destination = check_ae_title(title_of(to), "--to") if to else aet
    address = None if receive is None else Address(destination, bind, receive, tls if receive_tls else None)
    course = _Course(_progress(json))
    try:
        with (
            nullcontext() if receive is None else _folder(out) as folder,
            deadline(seconds),
            associate(peer, calling_ae_title=aet, contexts=proposals(classes), config=config, tls=tls) as association,
        ):
            result = association.move(
                destination=destination,
                receive=address,
                to=folder,
                level=level,
                model=model,
                progress=course,
                **keys,
            )
    except TimeIsUp as error:
        return course.cut_short(peer, error, json)
    return _told(peer, result, json)


def _folder(out: Path) -> StoreDirectory:
    """Where files go, made before anybody is called."""
    from dulcet.io.store_directory import StoreDirectory

    try:
        return StoreDirectory(out)
    except OSError as error:
        raise Misuse(f"cannot receive into {out}: {error.strerror}; name a folder that can be written to") from error


class _Course:
    """How far a retrieve has come, for the case that time is up before its end."""

    def __init__(self, show: Callable[[Retrieved], None] | None) -> None:
        self._show = show
        self._latest: Retrieved | None = None

    def __call__(self, result: Retrieved) -> None:
        self._latest = result
        if self._show is not None:
            self._show(result)

    def cut_short(self, peer: str, error: TimeIsUp, json: bool) -> int:
        """What was counted by then, and why it is not all; the exit code."""
        if self._latest is not None:
            _told(peer, self._latest, json)
        complain(f"{peer}: {error}; the rest was cancelled, what came is kept")
        return FAILED


def _prepared(
    key: Iterable[str], level: str | None, model: str | None, timeout: float
) -> tuple[dict[str, Any], AssociationConfig]:
    from dulcet.cli.waiting import timers
    from dulcet.config import AssociationConfig
    from dulcet.services.models import find_model, model_of

    row = check_model(model) or (find_model("patient") if model is None else model_of(model))
    keys = parse_keys(key)
    if not any(keyword.endswith(("UID", "ID")) and value for keyword, value in keys.items()):
        raise Misuse("name what to retrieve with -k, for example -k StudyInstanceUID=1.2.3")
    if row is not None and row.levels:
        unique = dict(row.levels)
        for keyword in keys.keys() - unique.values():  # left out, it would bring more than was asked for
            raise Misuse(f"-k {keyword}: a retrieve goes by {', '.join(unique.values())} alone; use find for the rest")
        if level is not None and (wanted := unique.get(level.upper())) is not None and not keys.get(wanted):
            raise Misuse(f"--level {level} needs -k {wanted}=VALUE")
    return keys, AssociationConfig(timers=timers(timeout, "response"))


def _progress(json: bool) -> Callable[[Retrieved], None] | None:
    """Sub-operations as they are counted: a line that is written over on a terminal, JSON lines where asked for."""
    if json:
        return lambda result: say_json(
            completed=result.completed, failed=result.failed, warning=result.warning, remaining=result.remaining
        )
    from dulcet.cli.progress import Bar, can_show

    if not can_show():
        return None
    bar = Bar()

    def show(result: Retrieved) -> None:
        done = result.completed + result.failed + result.warning
        bar.at(done, done + result.remaining)

    return show


def _told(peer: str, result: Retrieved, json: bool, *, proposes: bool = False, syntaxes: bool = False) -> int:
    if sys.stderr.isatty() and not json:
        show_below("")
    good = result.status.is_success and not result.failed and not result.differs and not result.is_empty
    if json:
        say_json(
            summary=True, status=int(result.status), comment=result.comment,
            completed=result.completed, failed=result.failed, warning=result.warning,
            failed_uids=result.failed_uids, received=[str(path) for path in result.received],
            not_accepted=result.not_accepted, refused=result.refused,
        )  # fmt: skip
    else:
        received = f", {len(result.received)} received" if result.received else ""
        say(f"{peer}: {result.answer}; {result.completed} completed, {result.failed} failed{received}")
        for uid in result.failed_uids:
            complain(f"failed: {uid}")
    _complain(result, proposes=proposes, syntaxes=syntaxes)
    return 0 if good else FAILED


def _complain(result: Retrieved, *, proposes: bool, syntaxes: bool) -> None:
    """What is missing, and why, as far as anybody knows."""
    from dulcet.uids import name_of

    for uid in result.not_accepted:
        name = name_of(uid)
        complain(f"SOP class {name if name == uid else f'{name} ({uid})'}: proposed, and the peer accepted no context")
    if result.refused:
        count = len(result.refused)
        complain(f"{count} came and could not be kept here, the log above says why; ask again once that is mended")
    if result.failed > len(result.refused) and proposes and not result.not_accepted:
        complain("every storage class that we know was proposed; a private one of a peer that tells none: --class UID")
        if syntaxes:
            complain("of compressed transfer syntaxes those of --syntax alone were proposed")
    if result.differs:
        complain(result.difference)
    if result.is_empty:
        complain("nothing matched")
