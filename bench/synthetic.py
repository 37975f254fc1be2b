"""An archive's index with as many instances as wanted, through its own interface; there are no objects behind it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from tests.corpus import CT_IMAGE, EXPLICIT, FIRST_NUMBER, UID_ROOT, file_meta, instance_header

from dulcet.archive.attributes import WANTED
from dulcet.archive.identity import Identity, Kept
from dulcet.archive.records import Record
from dulcet.archive.sqlite import SqliteIndex
from dulcet.part10.scanner import scan

TOGETHER = 2000  # rows in one transaction


def uid(study: int, instance: int | None = None) -> str:
    """Of a study, of its only series, or of an instance in it."""
    return f"{UID_ROOT}.{study}" if instance is None else f"{UID_ROOT}.{study}.1.{FIRST_NUMBER + instance}"


def fill(folder: Path, instances: int, in_series: int) -> None:
    """Make `instances` rows in studies of one series with `in_series` instances each."""
    folder.mkdir(parents=True, exist_ok=True)
    index = SqliteIndex(folder / "index.sqlite", durable=False)
    try:
        batch: list[Record] = []
        for record in _records(instances, in_series):
            batch.append(record)
            if len(batch) == TOGETHER:
                index.add(batch)
                batch.clear()
        if batch:
            index.add(batch)
    finally:
        index.close()


def _records(instances: int, in_series: int) -> Iterator[Record]:
    old_name = old_number = template = b""
    for number in range(instances):
        study, place = divmod(number, in_series)
        if place == 0:
            content = instance_header(2000, 0, CT_IMAGE, study + 1, 1)
            template = content[file_meta(content)[1] :] + bytes(2000)
            old_name, old_number = uid(study + 1, 0).encode(), str(FIRST_NUMBER).encode()
        instance = uid(study + 1, place)
        # The new text is as long as the old one: numbers have eight digits.
        data = template.replace(old_name, instance.encode()).replace(old_number, str(FIRST_NUMBER + place).encode())
        key = f"{uid(study + 1)}/{uid(study + 1)}.1/{instance}.dcm"
        digest = hashlib.sha256(instance.encode()).digest()
        identity = Identity(CT_IMAGE, instance, uid(study + 1), f"{uid(study + 1)}.1")
        kept = Kept(CT_IMAGE, instance, EXPLICIT, key, 300, len(data), digest)
        header = scan(data, EXPLICIT, wanted=WANTED)
        yield Record(identity, kept, header, 1.7e9 + number, "BENCH")
