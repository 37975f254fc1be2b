"""`dulcet store` to everybody: every usable file arrives in its own transfer syntax, bit for bit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.corpus import SYNTAX_NAMES, Instance, make_folder, read_instance
from tests.interop import peers
from tests.interop.comparing import Arrived, arrived, differences

RECEIVERS = ("storescp", "storescp-fork", "dcmrecv", "pynetdicom", "dulcet")


def receiver(name: str, folder: Path, instances: list[Instance]) -> peers.ServerContext:
    match name:
        case "storescp":
            return peers.storescp(folder, "+xa")
        case "storescp-fork":
            return peers.storescp(folder, "+xa", "--fork")
        case "dcmrecv":
            return peers.dcmrecv(folder, sop_classes={instance.sop_class_uid for instance in instances})
        case "pynetdicom":
            return peers.pynetdicom_scp(folder)
        case _:
            return peers.dulcet_listen(folder, "--durability", "none")


@dataclass(frozen=True, slots=True)
class Delivery:
    """One run of `dulcet store` over the whole corpus and what the receiver has of it."""

    receiver: str
    sent: list[Instance]
    finished: peers.Finished
    received: dict[str, Arrived]


@pytest.fixture(scope="module", params=RECEIVERS)
def delivery(
    request: pytest.FixtureRequest, whole: list[Instance], tmp_path_factory: pytest.TempPathFactory
) -> Delivery:
    name = str(request.param)
    # A data set that contradicts its file meta is another test: our own listener refuses it.
    sent = [instance for instance in whole if instance.consistent or name != "dulcet"]
    folder = tmp_path_factory.mktemp(name)
    with receiver(name, folder, sent) as server:
        finished = peers.dulcet("store", server.address, *[instance.path for instance in sent])
    return Delivery(name, sent, finished, arrived(folder))


def test_store_says_that_all_went_well(delivery: Delivery) -> None:
    assert delivery.finished.returncode == 0, delivery.finished.output + delivery.finished.errors
    assert len(delivery.received) == len(delivery.sent)


@pytest.mark.parametrize("syntax", SYNTAX_NAMES.values())
def test_files_arrive_bit_for_bit_in_their_own_transfer_syntax(delivery: Delivery, syntax: str) -> None:
    group = [instance for instance in delivery.sent if instance.syntax_name == syntax]
    assert group
    assert differences(group, delivery.received) == []


def test_a_folder_is_walked_and_what_is_no_instance_is_skipped_with_a_reason(tmp_path: Path) -> None:
    files = make_folder(tmp_path / "study", 3, 2048)
    (tmp_path / "study" / "deeper").mkdir()
    files[2].rename(tmp_path / "study" / "deeper" / "third")
    (tmp_path / "study" / "notes.txt").write_text("not an image")
    (tmp_path / "study" / "empty.dcm").touch()
    got = tmp_path / "got"
    got.mkdir()
    with peers.storescp(got) as server:
        finished = peers.dulcet("store", "--json", server.address, tmp_path / "study").check()
    assert len(arrived(got)) == 3
    assert "notes.txt" in finished.output
    assert "empty.dcm" in finished.output


def test_an_archive_keeps_what_it_is_sent(tmp_path: Path) -> None:
    files = make_folder(tmp_path / "sent", 5, 100_000)
    got = tmp_path / "got"
    got.mkdir()
    with peers.dcmqrscp(got) as server:
        peers.dulcet("store", server.address, *files).check()
    (got / "index.dat").unlink()
    assert differences(map(read_instance, files), arrived(got)) == []


def test_parallel_associations_lose_nothing(tmp_path: Path, whole: list[Instance]) -> None:
    sent = [instance for instance in whole if instance.consistent]
    with peers.storescp(tmp_path, "+xa", "--fork") as server:
        peers.dulcet("store", "--jobs", "4", server.address, *[instance.path for instance in sent]).check()
    assert differences(sent, arrived(tmp_path)) == []


def test_a_file_that_contradicts_itself_is_delivered_or_named(tmp_path: Path, whole: list[Instance]) -> None:
    odd = [instance for instance in whole if not instance.consistent]
    assert len(odd) == 13
    with peers.dulcet_listen(tmp_path, "--durability", "none") as server:
        finished = peers.dulcet("store", "--json", server.address, *[instance.path for instance in odd])
    received = arrived(tmp_path)
    lost = [
        instance for instance in odd if not received.keys() & {instance.sop_instance_uid, instance.own_instance_uid}
    ]
    assert all(instance.name in finished.output for instance in lost)
    assert finished.returncode == (1 if lost else 0)
    assert differences([instance for instance in odd if instance not in lost], received) == []


def test_a_truncated_file_is_delivered_as_it_is_or_named(tmp_path: Path, corpus: list[Instance]) -> None:
    broken = [instance for instance in corpus if instance.truncated]
    whole_ones = [instance for instance in corpus if instance.consistent and not instance.truncated][:5]
    with peers.storescp(tmp_path, "+xa") as server:
        paths = [instance.path for instance in broken + whole_ones]
        finished = peers.dulcet("store", "--json", server.address, *paths)
    received = arrived(tmp_path)
    assert differences(whole_ones, received) == []
    for instance in broken:
        if differences([instance], received):
            assert instance.name in finished.output
            assert finished.returncode == 1
