"""`dulcet index`: make an archive's index anew, look it over, copy it."""

from __future__ import annotations

from pathlib import Path

import click

from dulcet.cli.command import JSON, PATH, Misuse, argument, option, verb
from dulcet.cli.output import FAILED, USAGE, complain, say, say_json

__all__ = ["index"]


ACTIONS = ("rebuild", "check", "backup")
SQLITE = b"SQLite format 3\0"
"""With what an index begins, and every copy of one."""


@verb("index")
@argument("action", type=click.Choice(ACTIONS), metavar="rebuild|check|backup", help="What to do.")
@option("--data", type=PATH, metavar="DIR", default="dulcet-data", help="The archive's folder.")
@option("--to", type=PATH, metavar="FILE", help="Where `backup` puts the copy.")
@JSON
def index(action: str, data: Path, to: Path | None, json: bool) -> int:
    """Make an archive's index anew, look it over, or copy it.

    rebuild: make the index from the objects.  check: every row's object, every object's row, and whether each object
    is whole and says which instance it is; other values are not read.  backup: copy it.

    `backup` and `check` work while `dulcet serve` runs; `rebuild` does not.  A backup of everything is the copy of the
    index first, then one of the folder `objects`.

    \b
    dulcet index rebuild --data ./dulcet-data
    dulcet index backup --data ./dulcet-data --to /backup/index.sqlite
    """
    from dulcet.archive.application import INDEX, rebuild
    from dulcet.archive.sqlite import SqliteIndex
    from dulcet.archive.upkeep import check

    if action != "backup" and to is not None:
        raise Misuse(f"--to is for backup; {action} makes no copy")
    if action == "backup" and to is None:
        raise Misuse("backup: --to says where the copy goes")
    if not (data / "objects").is_dir():
        complain(f"{data} is no archive: it has no folder objects")
        return USAGE
    if action == "rebuild":
        swept = rebuild(data)
        return _told(json, {"indexed": swept.adopted, "unreadable": swept.unreadable}, bad=swept.unreadable)
    if to is not None and (wrong := _no_place_for(to, data / INDEX)):
        raise Misuse(wrong)
    found = SqliteIndex(data / INDEX, check=action == "check")
    try:
        if to is not None:
            found.backup(str(to))
            size = to.stat().st_size
            say_json(bytes=size) if json else say(f"{to}: {size} bytes")
            return 0
        result = check(data, found)
        values = {"objects": result.objects, "without row": result.without_row}
        values |= {"rows without object": result.without_object, "damaged": result.damaged}
        return _told(json, values, bad=result.without_object + result.damaged)
    finally:
        found.close()


def _no_place_for(copy: Path, index: Path) -> str:
    """Why a backup cannot have this name, "" where it can: it takes the place of an older backup and nothing else."""
    if copy.is_dir():
        return f"--to {copy} is a folder; name a file in it"
    if not copy.parent.is_dir():
        return f"--to {copy}: {copy.parent} is no folder; make it first"
    if not copy.exists():
        return ""
    if index.exists() and copy.samefile(index):
        return f"--to {copy} is the index itself; name another file"
    with copy.open("rb") as file:
        if file.read(len(SQLITE)) == SQLITE:
            return ""
    return f"--to {copy} is there and no index; it is left as it is, name another file"


def _told(json: bool, values: dict[str, int], *, bad: int) -> int:
    if json:
        say_json(**{name.replace(" ", "_"): value for name, value in values.items()})
    else:
        say(", ".join(f"{value} {name}" for name, value in values.items()))
    return FAILED if bad else 0
