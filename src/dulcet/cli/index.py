"""`dulcet index`: make an archive's index anew, look it over, copy it."""

from __future__ import annotations

from pathlib import Path

import click

from dulcet.cli.command import JSON, PATH, argument, option, verb
from dulcet.cli.output import FAILED, USAGE, complain, say, say_json

__all__ = ["index"]


ACTIONS = ("rebuild", "check", "backup")


@verb("index")
@argument("action", type=click.Choice(ACTIONS), metavar="rebuild|check|backup", help="What to do.")
@option("--data", type=PATH, metavar="DIR", default="dulcet-data", help="The archive's folder.")
@option("--to", type=PATH, metavar="FILE", help="Where `backup` puts the copy.")
@JSON
def index(action: str, data: Path, to: Path | None, json: bool) -> int:
    """Make an archive's index anew, look it over, or copy it.

    rebuild: make the index from the objects.  check: every row's object, every object's row, and whether each object
    is whole; values are not read.  backup: copy it.

    `backup` and `check` work while `dulcet serve` runs; `rebuild` does not.  A backup of everything is the copy of the
    index first, then one of the folder `objects`.

    \b
    dulcet index rebuild --data ./dulcet-data
    dulcet index backup --data ./dulcet-data --to /backup/index.sqlite
    """
    from dulcet.archive.application import INDEX, rebuild
    from dulcet.archive.sqlite import SqliteIndex
    from dulcet.archive.upkeep import check

    if not (data / "objects").is_dir():
        complain(f"{data} is no archive: it has no folder objects")
        return USAGE
    if action == "rebuild":
        swept = rebuild(data)
        return _told(json, {"indexed": swept.adopted, "unreadable": swept.unreadable}, bad=swept.unreadable)
    found = SqliteIndex(data / INDEX, check=action == "check")
    try:
        if action == "backup":
            if to is None:
                complain("backup: --to says where the copy goes")
                return USAGE
            found.backup(str(to))
            return _told(json, {"bytes": to.stat().st_size}, bad=0)
        result = check(data, found)
        values = {"objects": result.objects, "without row": result.without_row}
        values |= {"rows without object": result.without_object, "damaged": result.damaged}
        return _told(json, values, bad=result.without_object + result.damaged)
    finally:
        found.close()


def _told(json: bool, values: dict[str, int], *, bad: int) -> int:
    if json:
        say_json(**{name.replace(" ", "_"): value for name, value in values.items()})
    else:
        say(", ".join(f"{value} {name}" for name, value in values.items()))
    return FAILED if bad else 0
