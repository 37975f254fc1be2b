"""What is said again and again is said once, and counted."""

from __future__ import annotations

import logging

from dulcet.cli.repeats import Repeats
from dulcet.log_codes import coded


def _said() -> tuple[logging.Logger, Repeats, list[str]]:
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    repeats = Repeats(handler.emit, window=3600)
    handler.addFilter(repeats)
    log = logging.Logger("alone")
    log.addHandler(handler)
    return log, repeats, said


def test_six_hundred_half_open_connections_are_one_line_and_a_count() -> None:
    log, repeats, said = _said()
    for port in range(600):
        log.warning("%s: no whole A-ASSOCIATE-RQ within %g s", f"10.0.0.1:{port}", 10, extra=coded("DUL102"))
    log.warning("%s: no whole A-ASSOCIATE-RQ within %g s", "10.0.0.2:1", 10, extra=coded("DUL102"))
    assert said == [f"{host}: no whole A-ASSOCIATE-RQ within 10 s" for host in ("10.0.0.1:0", "10.0.0.2:1")]
    repeats.tell()
    assert said[2:] == ["10.0.0.1: the last line of this code and address came 599 times more"]
    log.warning("%s: again", "10.0.0.1:7", extra=coded("DUL102"))
    assert said[3:] == ["10.0.0.1:7: again"]


def test_what_is_no_strangers_doing_is_always_said() -> None:
    log, repeats, said = _said()
    for _ in range(3):
        log.warning("%s: refused", "10.0.0.1:1", extra=coded("DUL202"))
        log.warning("no code")
    repeats.tell()
    assert len(said) == 6
