"""`dulcet store`: send files and folders."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from dulcet.cli.command import CALLING, JSON, PATH, PEER, argument, option, verb
from dulcet.cli.output import FAILED, USAGE, complain
from dulcet.cli.tls_options import calls_with_tls

if TYPE_CHECKING:
    from dulcet.cli.resuming import Seen, StoredBefore
    from dulcet.cli.transfer_summary import TransferSummary
    from dulcet.io.tls import TLSConfig
    from dulcet.services.results import Sent
    from dulcet.upper_layer.address import Address

__all__ = ["store"]


@verb("store")
@PEER
@argument("paths", metavar="PATH...", nargs=-1, required=True, type=PATH, help="Files and folders.")
@CALLING
@option("-j", "--jobs", type=click.IntRange(1, 64), metavar="N", default=1, help="Associations in parallel.")
@option("--dry-run", is_flag=True, help="Only say what would be sent.")
@option("--report", type=PATH, metavar="FILE", help="Write a JSON line for each file.")
@option("--resume", type=PATH, metavar="FILE", help="Leave out what this report has as stored.")
@option("--timeout", type=click.FloatRange(0.1), metavar="SECONDS", default=120.0, help="To wait for each answer.")
@JSON
@calls_with_tls
def store(
    peer: str,
    paths: tuple[Path, ...],
    aet: str,
    jobs: int,
    dry_run: bool,
    report: Path | None,
    resume: Path | None,
    timeout: float,
    json: bool,
    tls: TLSConfig | None,
) -> int:
    """Send DICOM files, and those in folders, with C-STORE.

    What is not DICOM is skipped and counted. A run that was cut off, or had failures, goes on with --resume and its
    report: only what the peer confirmed, and what was not changed since, is left out.

    \b
    dulcet store ARCHIVE@127.0.0.1:11112 study/
    dulcet store ARCHIVE@pacs:104 a.dcm b.dcm --jobs 4 --report sent.jsonl
    dulcet store ARCHIVE@pacs:104 study/ --resume sent.jsonl
    """
    from dulcet.cli.progress import Bar, can_show
    from dulcet.cli.resuming import StoredBefore, look_at
    from dulcet.cli.transfer_summary import TransferSummary
    from dulcet.io.files import walk
    from dulcet.upper_layer.address import Address

    address = Address.parse(peer, tls)
    for path in paths:
        if not os.path.lexists(path):
            complain(f"{path} does not exist; nothing was sent")
            return USAGE
    if resume is not None and report not in (None, resume):
        complain("--resume goes on in its own report; leave out --report")
        return USAGE
    with contextlib.ExitStack() as stack:
        try:
            stored = None if resume is None else StoredBefore(resume, str(address))
            log = _opened(report, None if dry_run else stored)
        except ValueError as error:
            complain(str(error))
            return USAGE
        except OSError as error:
            complain(f"cannot write the report {resume or report}: {error.strerror}")
            return USAGE
        if log is not None:
            stack.enter_context(log)
        if stored is not None and stored.is_new:
            complain(f"there is no report {resume} yet: everything is sent")
        unreadable: list[OSError] = []
        files = list(walk(paths, unreadable.append))
        summary = TransferSummary(len(files) + len(unreadable), dry_run, json, log, str(address), stored is not None)
        start = time.perf_counter()
        try:
            for sent in _unreadable(unreadable):
                summary.note(sent)
            with Bar(len(files), shown=can_show() and not json and len(files) > 1).drawn() as bar:
                rest = files if stored is None else list(_without(stored, files, summary, bar.advance))
                seen = map(look_at, rest)  # just before each is read
                results = _examined(seen) if dry_run else _send(address, seen, aet, jobs, timeout)
                with contextlib.closing(results):
                    for sent in results:
                        summary.note(sent)
                        bar.advance()
        finally:
            summary.summary(time.perf_counter() - start)
    if not (summary.sent or summary.before or summary.failed):
        complain("nothing to send: no DICOM files found")
        return FAILED
    return FAILED if summary.failed else 0


def _opened(report: Path | None, stored: StoredBefore | None) -> TextIO | None:
    """Where results are written to: a report of its own, or one that is gone on in."""
    if stored is not None:
        return stored.open()
    return None if report is None else report.open("w", encoding="utf-8")


def _without(
    stored: StoredBefore, files: list[str], summary: TransferSummary, advance: Callable[[], object]
) -> Iterator[str]:
    """The files that are not stored yet."""
    for path in files:
        if path in stored:
            summary.note_before(path)
            advance()
        else:
            yield path


def _unreadable(folders: Iterable[OSError]) -> Iterator[Sent]:
    from dulcet.errors import InstanceError
    from dulcet.services.results import Sent

    for error in folders:
        yield Sent(error.filename, None, InstanceError(f"{error.filename}: {error.strerror}", error.filename))


def _send(peer: Address, files: Iterable[Seen], aet: str, jobs: int, timeout: float) -> Generator[Sent]:
    from dulcet.blocking.sending import StoreMany
    from dulcet.cli.waiting import timers
    from dulcet.config import AssociationConfig

    config = AssociationConfig(timers=timers(timeout, "response"))
    job = StoreMany(peer, calling_ae_title=aet, config=config, associations=jobs)
    yield from job.run(files)


def _examined(files: Iterable[Seen]) -> Generator[Sent]:
    """What would be sent."""
    from dulcet.dimse.status import Status
    from dulcet.errors import InstanceError
    from dulcet.io.instances import examine
    from dulcet.services.results import Sent

    for path in files:
        try:
            found = examine(path)
        except InstanceError as error:
            yield Sent(path, None, error)
        else:
            yield Sent(
                path, Status.SUCCESS, None, found.sop_class_uid, found.sop_instance_uid, found.transfer_syntax,
                found.location.length,
            )  # fmt: skip
