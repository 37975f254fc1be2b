"""What arrived, read from files by a parser that is not dulcet's, and compared byte for byte."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.corpus import SYNTAX_NAMES, Instance, NotUsable, file_meta


@dataclass(frozen=True, slots=True)
class Arrived:
    """One received file."""

    path: Path
    sop_class_uid: str
    transfer_syntax: str
    data_set: bytes


def arrived(folder: Path) -> dict[str, Arrived]:
    """Every DICOM file below `folder` by its SOP instance UID; raises NotUsable where there is anything else."""
    found: dict[str, Arrived] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        data = path.read_bytes()
        meta, offset = file_meta(data)
        class_uid, uid, syntax = (meta[tag].text(data) for tag in (0x00020002, 0x00020003, 0x00020010))
        if uid in found:
            raise NotUsable(f"{path} and {found[uid].path} hold the same instance {uid}")
        found[uid] = Arrived(path, class_uid, syntax, data[offset:])
    return found


def on_the_wire(data_set: bytes) -> bytes:
    """A data set as it must travel: of even length (a deflated one gets a zero byte, PS3.5 section A.5)."""
    return data_set + bytes(len(data_set) % 2)


def differences(sent: Iterable[Instance], received: Mapping[str, Arrived]) -> list[str]:
    """A sentence for each instance that did not arrive as it was: syntax, class and every byte of its data set."""
    problems = []
    for instance in sent:
        got = received.get(instance.sop_instance_uid) or received.get(instance.own_instance_uid)
        expected = on_the_wire(instance.data_set())
        if got is None:
            problems.append(f"{instance.name} ({instance.syntax_name}) did not arrive")
        elif got.transfer_syntax != instance.transfer_syntax:
            arrived_as = SYNTAX_NAMES.get(got.transfer_syntax, got.transfer_syntax)
            problems.append(f"{instance.name}: sent as {instance.syntax_name}, arrived as {arrived_as}")
        elif got.sop_class_uid not in (instance.sop_class_uid, instance.own_class_uid):
            problems.append(f"{instance.name}: class {instance.sop_class_uid} became {got.sop_class_uid}")
        elif got.data_set != expected:
            problems.append(f"{instance.name}: {_first_difference(expected, got.data_set)}")
    return problems


def disagreements(expected: Mapping[str, Arrived], received: Mapping[str, Arrived]) -> list[str]:
    """A sentence for each instance on which two receivers of the same sender disagree."""
    problems = []
    for uid in sorted(expected.keys() | received.keys()):
        if uid not in received:
            problems.append(f"{uid} ({expected[uid].path.name}) did not arrive")
        elif uid not in expected:
            problems.append(f"{uid} ({received[uid].path.name}) arrived from nowhere")
        elif expected[uid].transfer_syntax != received[uid].transfer_syntax:
            problems.append(f"{uid}: {expected[uid].transfer_syntax} became {received[uid].transfer_syntax}")
        elif expected[uid].data_set != received[uid].data_set:
            problems.append(f"{uid}: {_first_difference(expected[uid].data_set, received[uid].data_set)}")
    return problems


def _first_difference(expected: bytes, got: bytes) -> str:
    pairs = enumerate(zip(expected, got))
    at = next((position for position, (one, other) in pairs if one != other), min(len(expected), len(got)))
    return f"{len(expected)} bytes expected, {len(got)} arrived, first difference at byte {at}"
