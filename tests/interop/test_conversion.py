"""A peer that accepts one uncompressed transfer syntax: what can be converted is, what cannot fails alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import dcmread
from tests.corpus import IMPLICIT, UNCOMPRESSED, Instance
from tests.interop import peers
from tests.interop.comparing import Arrived, arrived

from dulcet.io.pixels import decompressible

DATA_SET_PADDING = 0xFFFCFFFC


@pytest.fixture(scope="module")
def sent(whole: list[Instance]) -> list[Instance]:
    # badVR.dcm has text where its VRs ask for numbers: pydicom cannot write it anew in any syntax.
    return [instance for instance in whole if instance.consistent and instance.name.find("badVR") < 0]


@pytest.fixture(scope="module")
def reference(sent: list[Instance], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Arrived]:
    """What storescu makes of the same files for the same peer."""
    folder = tmp_path_factory.mktemp("converted-by-storescu")
    with peers.storescp(folder, "+xi", environment=peers.TUNED) as server:
        paths = [instance.path for instance in sent if instance.transfer_syntax in UNCOMPRESSED]
        peers.storescu(server.port, paths, "-nh", "-R", "-xi", environment=peers.TUNED)
    return arrived(folder)


@pytest.fixture(scope="module")
def run(sent: list[Instance], tmp_path_factory: pytest.TempPathFactory) -> tuple[peers.Finished, dict[str, Arrived]]:
    folder = tmp_path_factory.mktemp("implicit-only")
    with peers.storescp(folder, "+xi", environment=peers.TUNED) as server:
        finished = peers.dulcet("store", "--json", server.address, *[instance.path for instance in sent])
    return finished, arrived(folder)


def test_uncompressed_files_arrive_converted_with_the_same_contents(
    run: tuple[peers.Finished, dict[str, Arrived]], sent: list[Instance], reference: dict[str, Arrived]
) -> None:
    _, received = run
    assert len(reference) > 100
    convertible = [instance for instance in sent if instance.transfer_syntax in UNCOMPRESSED]
    assert len(convertible) > 100
    problems = []
    for instance in convertible:
        got = received.get(instance.sop_instance_uid)
        if got is None:
            problems.append(f"{instance.name} ({instance.syntax_name}) did not arrive")
        elif got.transfer_syntax != IMPLICIT:
            problems.append(f"{instance.name} arrived as {got.transfer_syntax}")
        elif instance.sop_instance_uid in reference:
            problems += _other_contents(instance.name, reference[instance.sop_instance_uid].path, got.path)
    assert problems == []


def test_compressed_files_fail_alone_and_say_what_to_do(
    run: tuple[peers.Finished, dict[str, Arrived]], sent: list[Instance]
) -> None:
    finished, received = run
    compressed = [
        instance for instance in sent if instance.transfer_syntax not in UNCOMPRESSED | decompressible()
    ]
    assert compressed
    assert finished.returncode == 1
    assert not received.keys() & {instance.sop_instance_uid for instance in compressed}
    assert all(instance.name in finished.output for instance in compressed)


def test_what_can_be_decompressed_arrives_with_the_same_pixels(
    run: tuple[peers.Finished, dict[str, Arrived]], sent: list[Instance]
) -> None:
    _, received = run
    compressed = [instance for instance in sent if instance.transfer_syntax in decompressible()]
    assert compressed  # run-length encoding needs no more than numpy
    for instance in compressed:
        got = received[instance.sop_instance_uid]
        assert got.transfer_syntax == IMPLICIT
        assert (dcmread(got.path).pixel_array == dcmread(instance.path).pixel_array).all(), instance.name


def test_files_that_are_implicit_already_are_sent_untouched(
    run: tuple[peers.Finished, dict[str, Arrived]], sent: list[Instance]
) -> None:
    _, received = run
    implicit = [instance for instance in sent if instance.transfer_syntax == IMPLICIT]
    assert implicit
    assert all(received[instance.sop_instance_uid].data_set == instance.data_set() for instance in implicit)


def _other_contents(name: str, expected: Path, got: Path) -> list[str]:
    """Elements on which two files in implicit VR disagree, read by pydicom.

    Group lengths and the padding behind a data set belong to an encoding, not to the contents.
    """
    one, other = dcmread(expected), dcmread(got)
    tags = sorted(tag for tag in one.keys() | other.keys() if tag & 0xFFFF and tag != DATA_SET_PADDING)
    return [f"{name}: {tag}" for tag in tags if tag not in one or tag not in other or one[tag] != other[tag]]
