"""`dulcet index`: make an archive's index anew, look it over, copy it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dulcet.cli.output import FAILED, JSON, USAGE, complain, say, say_json

__all__ = ["index"]


def index(
    action: Annotated[str, typer.Argument(metavar="rebuild|check|backup", help="What to do.", show_default=False)],
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="The archive's folder.")] = Path("dulcet-data"),
    to: Annotated[Path | None, typer.Option("--to", metavar="FILE", help="Where `backup` puts the copy.")] = None,
    json: JSON = False,
) -> int:
    """rebuild: make the index from the objects.  check: every row's object, every object's row.  backup: copy it.

    `backup` and `check` work while `dulcet serve` runs; `rebuild` does not.  A backup of everything is the copy of the
    index first, then one of the folder `objects`.

    \b
    dulcet index rebuild --data ./dulcet-data
    dulcet index backup --data ./dulcet-data --to /backup/index.sqlite && rsync -a dulcet-data/objects /backup/
    """
    from dulcet.archive.application import INDEX, rebuild
    from dulcet.archive.sqlite import SqliteIndex
    from dulcet.archive.upkeep import check

    if action not in ("rebuild", "check", "backup"):
        complain(f"{action!a}: rebuild, check or backup")
        return USAGE
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
        return _told(json, {**values, "rows without object": result.without_object}, bad=result.without_object)
    finally:
        found.close()


def _told(json: bool, values: dict[str, int], *, bad: int) -> int:
    if json:
        say_json(**{name.replace(" ", "_"): value for name, value in values.items()})
    else:
        say(", ".join(f"{value} {name}" for name, value in values.items()))
    return FAILED if bad else 0
