"""Every line that is logged above DEBUG has a code of the table, with the table's level; no code is left over."""

from __future__ import annotations

import ast
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import dulcet.log_codes
from dulcet.cli.output import _Printable
from dulcet.log_codes import CODES, coded

PACKAGE = Path(dulcet.log_codes.__file__).parent
LEVELS = {"info": "INFO", "warning": "WARNING", "error": "ERROR", "exception": "ERROR", "critical": "CRITICAL"}
TOLD_BY_LEVEL = {"services/observing.py"}
"""`log_trace_events` logs what happens, at a level that depends on it."""


def log_calls() -> Iterator[tuple[str, str, str | None]]:
    """Place, method and code of each call of a logger's method."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        tree = ast.parse(path.read_text(encoding="utf-8"))
        loggers = {
            getattr(node.target if isinstance(node, ast.AnnAssign) else node.targets[0], "id", "")
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign | ast.AnnAssign)
            and isinstance(node.value, ast.Call)
            and ast.unparse(node.value.func) == "logging.getLogger"
        }
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            of = ast.unparse(node.func.value)
            if of not in loggers | {"log", "logging"} or node.func.attr not in LEVELS.keys() | {"log", "debug"}:
                continue
            extra = next((word.value for word in node.keywords if word.arg == "extra"), None)
            code = None if extra is None else re.fullmatch(r"coded\('(\w+)'\)", ast.unparse(extra))
            yield f"{name}:{node.lineno}", node.func.attr, code and code[1]


def test_every_line_above_debug_has_a_code_with_its_level():
    wrong = [
        (place, method, code)
        for place, method, code in log_calls()
        if method != "debug" and (code not in CODES or CODES[code].level != LEVELS.get(method))
    ]
    assert wrong == []


def test_only_happenings_are_logged_at_a_level_of_their_own():
    assert {place.partition(":")[0] for place, method, _ in log_calls() if method == "log"} <= TOLD_BY_LEVEL


def test_every_code_is_used():
    assert {code for _, _, code in log_calls()} - {None} == CODES.keys()


def test_codes_are_in_order_and_say_what_to_do():
    assert list(CODES) == sorted(CODES)
    for code, row in CODES.items():
        assert re.fullmatch(r"DUL[1-9]\d\d", code)
        assert row.cause
        assert row.cure
        assert not (row.cause + row.cure).endswith(".")


def test_a_record_carries_its_code_and_a_terminal_shows_it_at_the_end(caplog):
    logging.getLogger("dulcet.anything").warning("%s: went wrong", "PEER", extra=coded("DUL115"))
    (record,) = caplog.records
    assert vars(record)["code"] == "DUL115"
    assert _Printable("%(levelname)s %(message)s").format(record) == "WARNING PEER: went wrong [DUL115]"
