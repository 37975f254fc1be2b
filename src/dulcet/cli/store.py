"""`dulcet store`: send files and folders."""

from __future__ import annotations

import json as jsonlib
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from dulcet.cli.output import CALLING, FAILED, JSON, PEER, USAGE, complain, say_json

if TYPE_CHECKING:
    from dulcet.services.results import Sent

__all__ = ["store"]


@dataclass(slots=True)
class _Tally:
    """What became of the files."""

    sent: int = 0
    failed: int = 0
    skipped: int = 0
    size: int = 0
    reasons: Counter[str] = field(default_factory=Counter)


def store(
    peer: PEER,
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Files and folders.", show_default=False)],
    aet: CALLING = "DULCET",
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, max=64, help="Associations in parallel.")] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be sent.")] = False,
    report: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a JSON line for each file.")] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for each answer.")] = 120.0,
    json: JSON = False,
) -> int:
    """Send DICOM files, and those in folders, with C-STORE; what is not DICOM is skipped and counted.

    dulcet store ARCHIVE@127.0.0.1:11112 study/

    dulcet store ARCHIVE@pacs:104 a.dcm b.dcm --jobs 4 --report sent.jsonl
    """
    from dulcet.upper_layer.address import Address

    address = Address.parse(peer)
    missing = [path for path in paths if not path.exists()]
    if missing:
        complain(f"{missing[0]} does not exist; nothing was sent")
        return USAGE
    try:
        log = report.open("w", encoding="utf-8") if report is not None else None
    except OSError as error:
        complain(f"cannot write the report {report}: {error.strerror}")
        return USAGE
    files = list(_walk(paths))
    tally = _Tally()
    start = time.perf_counter()
    try:
        results = _examined(files) if dry_run else _send(address, files, aet, jobs, timeout)
        with _bar(len(files), json) as advance:
            for sent in results:
                _note(sent, tally, json, dry_run, log)
                advance()
    finally:
        if log is not None:
            log.close()
        _summary(tally, len(files), time.perf_counter() - start, json, dry_run)
    if not files:
        complain("no files found")
    return FAILED if tally.failed or not (tally.sent or tally.skipped) else 0


def _walk(paths: Iterable[Path]) -> Iterator[str]:
    """Every file, folders in the order of their names."""
    for path in paths:
        if not path.is_dir():
            yield str(path)
            continue
        for folder, folders, names in os.walk(path):
            folders.sort()
            for name in sorted(names):
                yield os.path.join(folder, name)


def _send(peer: Any, files: list[str], aet: str, jobs: int, timeout: float) -> Iterator[Sent]:
    from dulcet.blocking.sending import StoreMany
    from dulcet.config import AssociationConfig, Timers

    config = AssociationConfig(timers=Timers(response=timeout))
    return StoreMany(peer, calling_ae_title=aet, config=config, associations=jobs).run(files)


def _examined(files: Iterable[str]) -> Iterator[Sent]:
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
            location = found.location
            yield Sent(
                path, Status.SUCCESS, None, found.sop_class_uid, found.sop_instance_uid, found.transfer_syntax,
                location.length,
            )  # fmt: skip


def _note(sent: Sent, tally: _Tally, json: bool, dry_run: bool, log: TextIO | None) -> None:
    from dulcet.errors import NotDicom

    reason = str(sent.error) if sent.error is not None else ""
    if sent.ok:
        result = "would send" if dry_run else "sent"
        tally.sent += 1
        tally.size += sent.size
    elif isinstance(sent.error, NotDicom):
        result = "skipped"
        tally.skipped += 1
    else:
        result = "failed"
        tally.failed += 1
        reason = reason or str(sent.status)
        tally.reasons[str(sent.status) if sent.error is None else type(sent.error).__name__] += 1
    if not (json or log) and result != "failed":
        return
    line = {
        "path": str(sent.path),
        "result": result,
        "status": None if sent.status is None or dry_run else int(sent.status),
        "reason": reason or None,
        "sop_class_uid": sent.sop_class_uid or None,
        "sop_instance_uid": sent.sop_instance_uid or None,
        "transfer_syntax": sent.transfer_syntax or None,
        "bytes": sent.size,
    }
    if log is not None:
        log.write(jsonlib.dumps(line, ensure_ascii=False) + "\n")
        log.flush()
    if json:
        say_json(**line)
    elif result == "failed":
        complain(reason if str(sent.path) in reason else f"{sent.path}: {reason}")


def _summary(tally: _Tally, total: int, seconds: float, json: bool, dry_run: bool) -> None:
    left = total - tally.sent - tally.failed - tally.skipped
    if json:
        say_json(
            summary=True, sent=tally.sent, failed=tally.failed, skipped=tally.skipped, not_tried=left,
            bytes=tally.size, seconds=round(seconds, 3),
        )  # fmt: skip
        return
    verb = "would be sent" if dry_run else "sent"
    parts = [f"{tally.sent} {verb} ({tally.size / 1e6:.1f} MB)", f"{tally.failed} failed", f"{tally.skipped} skipped"]
    if left:
        parts.append(f"{left} not tried")
    typer.echo(f"{', '.join(parts)} in {seconds:.2f} s")
    for reason, count in tally.reasons.most_common():
        typer.echo(f"  {count} x {reason}")
    if tally.skipped:
        typer.echo(f"  {tally.skipped} not DICOM")


class _bar:
    """A progress bar on a terminal, nothing elsewhere."""

    def __init__(self, total: int, json: bool) -> None:
        self._progress: Any = None
        if sys.stderr.isatty() and not json and total > 1:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

            self._progress = Progress(
                "sending", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=Console(stderr=True)
            )
            self._task = self._progress.add_task("sending", total=total)

    def __enter__(self) -> Any:
        if self._progress is None:
            return lambda: None
        self._progress.start()
        return lambda: self._progress.advance(self._task)

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()
