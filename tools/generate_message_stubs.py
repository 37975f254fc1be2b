"""Write src/dulcet/toolkit/message_methods.pyi: the signatures of methods that are made from the message table.

Run it after a change of that table; with --check it writes nothing and fails when the file is not up to date.
"""

from __future__ import annotations

import argparse
import inspect
import sys
from pathlib import Path

from dulcet.toolkit.message_methods import MessageMethods
from dulcet.toolkit.messages import ALIASES, ALL

TARGET = Path(__file__).resolve().parent.parent / "src" / "dulcet" / "toolkit" / "message_methods.pyi"

HEADER = """# Made by tools/generate_message_stubs.py from the message table; do not edit.
from collections.abc import Sequence

from dulcet.dimse.status import Status
from dulcet.toolkit.messages import DataSet, DataSetSource

class MessageMethods:
"""
TYPES = {
    "presentation_id": "int",
    "message_id": "int",
    "priority": "int",
    "status": "int",
    "event_type_id": "int",
    "action_type_id": "int",
    "error_id": "int",
    "remaining": "int",
    "completed": "int",
    "failed": "int",
    "warning": "int",
    "move_originator_id": "int",
    "attributes": "Sequence[int]",
    "offending_element": "Sequence[int]",
    "data_set": "DataSetSource",
}
RECEIVED = {"status": "Status", "data_set": "DataSet | None"}
ALWAYS = ("presentation_id", "message_id", "priority", "status", "attributes", "data_set")
"""What is never None when it is received."""


def render() -> str:
    """The whole file."""
    lines = [HEADER]
    long = {message.name: message for message in ALL}
    for called, message in {**long, **{short: long[name] for short, name in ALIASES.items()}}.items():
        for prefix in ("send", "on_receive"):
            name = f"{prefix}_{called}"
            signature = inspect.signature(getattr(MessageMethods, name))
            parameters = []
            for parameter in list(signature.parameters.values())[1:]:
                if parameter.kind is parameter.KEYWORD_ONLY and "*" not in parameters:
                    parameters.append("*")
                parameters.append(_parameter(parameter, sent=prefix == "send", response=message.is_response))
            result = "int" if prefix == "send" else "None"
            lines.append(f"    def {name}(\n")
            lines += [f"        {parameter},\n" for parameter in ("self", *parameters)]
            lines.append(f"    ) -> {result}: ...\n")
    return "".join(lines)


def _parameter(parameter: inspect.Parameter, *, sent: bool, response: bool) -> str:
    name = parameter.name
    kind = (RECEIVED if not sent else {}).get(name) or TYPES.get(name, "str")
    has_default = parameter.default is not parameter.empty
    default = f" = {parameter.default}" if has_default else ""
    may_be_none = parameter.default is None if sent else name not in ALWAYS
    if sent and name == "message_id" and not response:
        may_be_none = True
    if may_be_none and name != "data_set":
        kind += " | None"
    return f"{name}: {kind}{default}"


def main(arguments: list[str] | None = None) -> int:
    """Write the file, or with --check say whether it is up to date: 0 when it is, 1 when not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when the file is not up to date")
    parser.add_argument("--target", type=Path, default=TARGET, help="the file to write or check")
    options = parser.parse_args(arguments)
    target: Path = options.target
    if not options.check:
        target.write_text(render(), encoding="utf-8")
        return 0
    if target.exists() and target.read_text(encoding="utf-8") == render():
        return 0
    print(f"{target} is not up to date: run python tools/generate_message_stubs.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
