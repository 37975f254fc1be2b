"""What became of many files: a line for each that failed, a line of JSON for each where asked, a summary at the end."""

from __future__ import annotations

import json
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TextIO

from dulcet.cli.output import complain, say, say_json
from dulcet.cli.waiting import in_our_words
from dulcet.errors import (
    AssociationError,
    CannotConvert,
    DimseTimeout,
    DulcetError,
    InstanceError,
    NoPresentationContext,
    NotDicom,
    PeerUnreachable,
)
from dulcet.services.results import Sent

__all__ = ["TransferSummary"]

KINDS: Final[tuple[tuple[type[DulcetError], str], ...]] = (
    (CannotConvert, "in a transfer syntax that the peer does not accept"),
    (InstanceError, "unreadable, damaged or without its UIDs"),
    (NoPresentationContext, "of a class that the peer does not accept"),
    (DimseTimeout, "not answered in time"),
    (PeerUnreachable, "peer not reachable any more"),
    (AssociationError, "association lost"),
)
"""Errors in the words of a summary, the most particular first."""

NAMED: Final = 3
"""Skipped files that the summary names; the report has all."""


@dataclass(slots=True)
class TransferSummary:
    """Counts by result, and why."""

    total: int
    dry_run: bool = False
    json: bool = False
    report: TextIO | None = None
    peer: str = ""
    resumed: bool = False
    """True where the summary says how many were stored before."""
    sent: int = 0
    before: int = 0
    failed: int = 0
    skipped: list[str] = field(default_factory=list)
    size: int = 0
    warnings: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)

    def note(self, sent: Sent) -> None:
        """Count one, and say what has to be said about it."""
        path, reason = str(sent.path), in_our_words(str(sent.error or ""))
        if sent.ok:
            result = "would send" if self.dry_run else "sent"
            self.sent += 1
            self.size += sent.size
            if sent.status is not None and sent.status.is_warning:
                reason = sent.answer
                self.warnings[str(sent.status)] += 1
        elif isinstance(sent.error, NotDicom):
            result = "skipped"
            self.skipped.append(path)
        else:
            result = "failed"
            self.failed += 1
            reason = reason or sent.answer
            self.reasons[str(sent.status) if sent.error is None else _kind(sent.error)] += 1
        if self.report is not None or self.json:
            self._tell(self._line(sent, result, reason))
        if result == "failed" and not self.json:
            complain(reason if path in reason else f"{path}: {reason}")

    def _tell(self, line: dict[str, Any]) -> None:
        if self.report is not None:  # at once: a run that is killed leaves what it knows
            try:
                self.report.write(json.dumps(line) + "\n")
                self.report.flush()
            except OSError as error:
                with suppress(OSError):  # else what could not be written is tried again, and says less
                    self.report.close()
                raise OSError(error.errno, error.strerror, f"the report {self.report.name}") from error
        if self.json:
            say_json(**line)

    def note_before(self, path: str) -> None:
        """Count one that the report has as stored."""
        self.before += 1
        if self.json:
            say_json(**self._line(Sent(path, None), "stored before", ""))

    def _line(self, sent: Sent, result: str, reason: str) -> dict[str, Any]:
        """What the report and --json say of a file."""
        return {
            "path": str(sent.path),
            "result": result,
            "status": None if sent.status is None or self.dry_run else int(sent.status),
            "reason": reason or None,
            "error_comment": sent.error_comment or None,
            "offending_elements": [f"{tag:08X}" for tag in sent.offending_elements],
            "sop_class_uid": sent.sop_class_uid or None,
            "sop_instance_uid": sent.sop_instance_uid or None,
            "transfer_syntax": sent.transfer_syntax or None,
            "bytes": sent.size,
            "peer": self.peer,
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "file_size": getattr(sent.path, "size", None),
            "file_modified_ns": getattr(sent.path, "modified", None),
        }

    def summary(self, seconds: float) -> None:
        """The last words."""
        left = self.total - self.sent - self.before - self.failed - len(self.skipped)
        if self.json:
            say_json(
                summary=True, sent=self.sent, stored_before=self.before, failed=self.failed, skipped=len(self.skipped),
                not_tried=left, bytes=self.size, seconds=round(seconds, 3),
            )  # fmt: skip
            return
        verb = "would be sent" if self.dry_run else "sent"
        parts = [f"{self.sent} {verb} ({_bytes(self.size)})"]
        if self.resumed:
            parts.append(f"{self.before} stored before")
        parts += [f"{self.failed} failed", f"{len(self.skipped)} skipped"]
        if left:
            parts.append(f"{left} not tried")
        rate = f", {_bytes(self.size / seconds)}/s" if seconds and self.sent and not self.dry_run else ""
        say(f"{', '.join(parts)} in {seconds:.2f} s{rate}")
        for what, reasons in (("failed", self.reasons), ("sent", self.warnings)):
            for reason, count in reasons.most_common():
                say(f"  {count} {what}: {reason}")
        if self.skipped:
            names = ", ".join(Path(path).name for path in self.skipped[:NAMED])
            say(f"  {len(self.skipped)} skipped: not DICOM: {names}{', …' if len(self.skipped) > NAMED else ''}")


def _kind(error: DulcetError) -> str:
    return next((words for kind, words in KINDS if isinstance(error, kind)), type(error).__name__)


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"
