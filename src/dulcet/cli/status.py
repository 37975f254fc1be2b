"""`dulcet status`: what an archive holds, and what waits."""

from __future__ import annotations

import time
from pathlib import Path

from dulcet.cli.command import JSON, PATH, option, verb
from dulcet.cli.output import USAGE, complain, say, say_json

__all__ = ["status"]


@verb("status")
@option("--data", type=PATH, metavar="DIR", default="dulcet-data", help="The archive's folder.")
@JSON
def status(data: Path, json: bool) -> int:
    """Say what an archive holds, and what waits. Also while `dulcet serve` runs.

    Counts, sizes, the oldest unfinished object, events that nobody has taken yet.

    \b
    dulcet status --data ./dulcet-data
    dulcet status --data ./dulcet-data --json
    """
    import shutil

    from dulcet.archive.application import INDEX
    from dulcet.archive.sqlite import SqliteIndex

    if not (data / INDEX).is_file():
        complain(f"{data} is no archive: it has no {INDEX}")
        return USAGE
    index = SqliteIndex(data / INDEX, check=False)
    try:
        counts = index.counts()
    finally:
        index.close()
    now = time.time()
    partial = [path.stat().st_mtime for path in (data / "partial").glob("*")] if (data / "partial").is_dir() else []
    values = {
        "patients": counts.patients,
        "studies": counts.studies,
        "series": counts.series,
        "instances": counts.instances,
        "kept beside": counts.beside,
        "bytes": counts.bytes,
        "index bytes": sum(path.stat().st_size for path in data.glob(f"{INDEX}*")),
        "free bytes": shutil.disk_usage(data).free,
        "unfinished": len(partial),
        "oldest unfinished, seconds": round(now - min(partial), 1) if partial else None,
        "waiting events": counts.events,
        "oldest event, seconds": None if counts.oldest_event is None else round(now - counts.oldest_event, 1),
    }
    if json:
        say_json(**{name.replace(", ", "_").replace(" ", "_"): value for name, value in values.items()})
    else:
        for name, value in values.items():
            say(f"{name:28} {'-' if value is None else value}")
    return 0
