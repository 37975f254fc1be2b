"""`dulcet export` and `dulcet import`: a study out of an archive into a folder, files from folders into an archive."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from dulcet.cli.command import JSON, PATH, argument, option, verb
from dulcet.cli.output import FAILED, USAGE, complain, say, say_json

__all__ = ["export", "import_"]

DATA: Final = option("--data", type=PATH, metavar="DIR", default="dulcet-data", help="The archive's folder.")


@verb("export")
@argument("study", metavar="UID...", nargs=-1, required=True, help="Study Instance UIDs.")
@option("--to", type=PATH, metavar="DIR", required=True, help="An empty folder, or one to be made.")
@DATA
@option("--plain", is_flag=True, help="The files under their UIDs, without a DICOMDIR.")
@JSON
def export(study: tuple[str, ...], to: Path, data: Path, plain: bool, json: bool) -> int:
    """Copy studies into a folder, with a DICOMDIR. Also while `dulcet serve` runs.

    \b
    dulcet export 1.2.840.113619.2.1 --to /media/cd --data ./dulcet-data
    dulcet export 1.2.840.113619.2.1 1.2.840.113619.2.2 --to study --plain
    """
    from itertools import chain

    from dulcet.archive import upkeep
    from dulcet.archive.application import INDEX
    from dulcet.archive.objects import FileObjects
    from dulcet.archive.sqlite import SqliteIndex

    if not (data / INDEX).is_file():
        complain(f"{data} is no archive: it has no {INDEX}")
        return USAGE
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        complain(f"{to} is not an empty folder")
        return USAGE
    index, objects = SqliteIndex(data / INDEX, check=False), FileObjects(data, durable=False)
    try:
        chosen = chain.from_iterable(upkeep.study(index, uid) for uid in study)
        failures: list[str] = []
        if plain:
            count = upkeep.export_plain(chosen, objects, to)
        else:
            count, failures = upkeep.export_with_directory(chosen, objects, to)
    finally:
        index.close()
    return _told(json, "exported", count, failures)


@verb("import")
@argument("paths", metavar="PATH...", nargs=-1, required=True, type=PATH, help="Files and folders.")
@DATA
@JSON
def import_(paths: tuple[Path, ...], data: Path, json: bool) -> int:
    """Put files into an archive that nobody serves at the moment.

    Into one that is served, `dulcet store` does.

    \b
    dulcet import /media/cd --data ./dulcet-data
    dulcet import a.dcm b.dcm study/ --json
    """
    from dulcet.archive.application import Archive
    from dulcet.archive.upkeep import import_files

    for path in paths:
        if not path.exists():
            complain(f"{path} does not exist; nothing was imported")
            return USAGE
    failures: list[str] = []
    with Archive(data, allow_any=True) as archive:
        for path, error in import_files(_walk(paths), archive.ingest):
            if error is not None:
                failures.append(f"{path}: {error}" if str(path) not in str(error) else str(error))
        counts = archive.ingest.counts
        count = counts["stored"] + counts["again"] + counts["beside"] + counts["restored"]
    return _told(json, "imported", count, failures)


def _walk(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        for folder, folders, names in os.walk(path):
            folders.sort()
            yield from (Path(folder, name) for name in sorted(names))


def _told(json: bool, what: str, count: int, failures: list[str]) -> int:
    if json:
        say_json(**{what: count, "failed": len(failures)})
    else:
        say(f"{count} {what}, {len(failures)} failed")
    for failure in failures:
        complain(failure)
    return FAILED if failures or not count else 0
