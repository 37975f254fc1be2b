"""`dulcet export` and `dulcet import`: a study out of an archive into a folder, files from folders into an archive."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from dulcet.cli.command import JSON, PATH, argument, option, verb
from dulcet.cli.output import FAILED, USAGE, complain, say, say_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dulcet.archive.identity import Kept

__all__ = ["export", "import_"]

NAMED: Final = 5
"""Files that were skipped and are named."""

DATA: Final = option("--data", type=PATH, metavar="DIR", default="dulcet-data", help="The archive's folder.")


@verb("export")
@argument("study", metavar="UID...", nargs=-1, required=True, help="Studies, or objects of no patient.")
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
    from dulcet.archive.application import INDEX
    from dulcet.archive.export import export as copy
    from dulcet.archive.export import study as instances
    from dulcet.archive.objects import FileObjects
    from dulcet.archive.sqlite import SqliteIndex

    if not (data / INDEX).is_file():
        complain(f"{data} is no archive: it has no {INDEX}")
        return USAGE
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        complain(f"{to} is not an empty folder")
        return USAGE
    missing = list(dict.fromkeys(study))

    def chosen() -> Iterator[Kept]:
        for uid in tuple(missing):
            for kept in instances(index, uid):
                if uid in missing:
                    missing.remove(uid)
                yield kept

    index, objects = SqliteIndex(data / INDEX, check=False), FileObjects(data, durable=False)
    try:
        exported = copy(chosen(), objects, to, directory=not plain)
    except OSError as error:
        complain(f"cannot write in {to}: {error.strerror}; nothing was left there")
        return FAILED
    finally:
        index.close()
    count, failed = exported.count, exported.failures
    if json:
        invented = {} if plain else {"invented": exported.invented}
        say_json(exported=count, failed=len(failed), missing=missing, **invented)
    else:
        say(f"{count} exported, {len(failed)} failed")
    if exported.invented and not json:
        values = ", ".join(f"{keyword} in {records}" for keyword, records in sorted(exported.invented.items()))
        complain(f"the DICOMDIR has values that the objects lack (the objects stay as they are): {values} records")
    for uid in missing:
        complain(f"{data} has neither a study nor an object of no patient {uid}")
    return FAILED if missing else _ended(count, failed)


@verb("import")
@argument("paths", metavar="PATH...", nargs=-1, required=True, type=PATH, help="Files and folders.")
@DATA
@JSON
def import_(paths: tuple[Path, ...], data: Path, json: bool) -> int:
    """Put files into an archive that nobody serves at the moment.

    Into one that is served, `dulcet store` does. What is not DICOM, and a DICOMDIR, is skipped and counted.

    \b
    dulcet import /media/cd --data ./dulcet-data
    dulcet import a.dcm b.dcm study/ --json
    """
    from dulcet.archive.application import Archive
    from dulcet.archive.upkeep import import_files
    from dulcet.errors import NotDicom
    from dulcet.io.files import walk

    for path in paths:
        if not path.exists():
            complain(f"{path} does not exist; nothing was imported")
            return USAGE
    failures: list[str] = []
    skipped: list[str] = []
    try:
        archive = Archive(data, allow_any=True)
    except OSError as refused:
        complain(f"cannot keep data in {data}: {refused.strerror or refused}; name a folder that can be written to")
        return USAGE
    with archive:
        found = walk(paths, lambda error: failures.append(f"{error.filename}: {error.strerror}"))
        for path, error in import_files(map(Path, found), archive.ingest):
            if isinstance(error, NotDicom):
                skipped.append(path.name)
            elif error is not None:
                failures.append(f"{path}: {error}" if str(path) not in str(error) else str(error))
        counts = archive.ingest.counts
        count = counts["stored"] + counts["again"] + counts["beside"] + counts["restored"]
    if json:
        known = {"again": counts["again"], "beside": counts["beside"]}
        say_json(imported=count, **known, skipped=len(skipped), failed=len(failures))
    else:
        say(f"{count} imported, {len(skipped)} skipped, {len(failures)} failed")
        if counts["again"]:
            say(f"  {counts['again']} of them were there already")
        if counts["beside"]:
            say(f"  {counts['beside']} of them have other content than what came first; that is served, these are kept")
        if skipped:
            names = ", ".join(skipped[:NAMED])
            say(f"  {len(skipped)} skipped: not DICOM, or a DICOMDIR: {names}{', …' if len(skipped) > NAMED else ''}")
    return _ended(count, failures)


def _ended(count: int, failures: list[str]) -> int:
    for failure in failures:
        complain(failure)
    return FAILED if failures or not count else 0
