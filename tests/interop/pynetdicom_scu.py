"""A pynetdicom user of storage and verification, as a program: sends files as they are, or echoes.

Prints one JSON object: what was sent, the status of each, and the seconds from request to release.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pynetdicom import AE, _config
from pynetdicom.association import Association

VERIFICATION = "1.2.840.10008.1.1"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--aec", default="ANY-SCP")
    parser.add_argument("--aet", default="PYNETDICOM")
    parser.add_argument("--max-pdu", type=int, default=16382)
    parser.add_argument("--echoes", type=int, default=0)
    parser.add_argument("--parse", action="store_true", help="decode each file with pydicom and encode it again")
    parser.add_argument("--abort", action="store_true", help="end with A-ABORT instead of A-RELEASE")
    parser.add_argument("paths", nargs="*", type=Path)
    options = parser.parse_args()
    files = [path for given in options.paths for path in (sorted(given.iterdir()) if given.is_dir() else [given])]
    _config.STORE_SEND_CHUNKED_DATASET = not options.parse
    application = AE(ae_title=options.aet)
    if options.echoes or not files:
        application.add_requested_context(VERIFICATION)
    for class_uid, syntaxes in _contexts(files).items():
        for syntax in syntaxes:
            application.add_requested_context(class_uid, syntax)
    began = time.perf_counter()
    association = application.associate(options.host, options.port, ae_title=options.aec, max_pdu=options.max_pdu)
    if not association.is_established:
        print(json.dumps({"established": False, "rejected": association.is_rejected}))
        return 1
    _keep_answers_for_the_caller(association)
    statuses = {str(path): _status(association, path) for path in files}
    echoes = []
    for number in range(options.echoes if files else max(1, options.echoes)):
        started = time.perf_counter()
        answer = association.send_c_echo(msg_id=number % 65535 + 1)
        echoes.append(time.perf_counter() - started)
        statuses[f"echo {number}"] = answer.get("Status", -1)
    if options.abort:
        association.abort()
    else:
        association.release()
    seconds = time.perf_counter() - began
    print(
        json.dumps(
            {
                "established": True,
                "seconds": seconds,
                "sent": sum(status == 0 for status in statuses.values()),
                "failed": {name: status for name, status in statuses.items() if status != 0},
                "echo_seconds": echoes,
            }
        )
    )
    return 0 if all(status == 0 for status in statuses.values()) else 1


def _keep_answers_for_the_caller(association: Association) -> None:
    """Mend a race of pynetdicom 3.0.4 that a quick peer brings out, once in some thousand messages.

    `send_c_*` pauses the reactor thread by an event and a flag; a reactor between the two takes the answer off the
    queue, drops it, and the caller waits for 30 s.  Nobody sends requests to this program: its reactor need not look.
    """
    take: Any = association.dimse.get_msg
    dimse: Any = association.dimse
    dimse.get_msg = lambda block=False: take(block=True) if block else (None, None)


def _contexts(files: list[Path]) -> dict[str, set[str]]:
    contexts: dict[str, set[str]] = {}
    for path in files:
        meta = dcmread(path, specific_tags=[], stop_before_pixels=True).file_meta
        contexts.setdefault(meta.MediaStorageSOPClassUID, set()).add(meta.TransferSyntaxUID)
    return contexts


def _status(association: Association, path: Path) -> int | str:
    if not association.is_established:
        return "association is gone"
    try:
        return int(association.send_c_store(path).get("Status", -1))
    except Exception as error:
        return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    sys.exit(main())
