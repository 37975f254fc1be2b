"""PS3.4 Annex J without a network: what is asked, how it is decided, what is reported."""

from __future__ import annotations

import itertools

import pytest
from pydicom.dataset import Dataset

from dulcet.dimse.status import Status
from dulcet.errors import StatusError
from dulcet.node.transactions import MemoryTransactions, SQLiteTransactions
from dulcet.services.commitment import (
    SOP_INSTANCE,
    CommitmentResult,
    Reference,
    Transaction,
    action_information,
    check_request,
    decide,
    event_information,
    read_report,
)
from dulcet.services.identifiers import build_identifier
from dulcet.services.refusals import Refused
from dulcet.services.retrying import Backoff

CT = "1.2.840.10008.5.1.4.1.1.2"
A, B, C = (Reference(CT, f"1.2.{number}") for number in (1, 2, 3))
ASKED = Transaction(uid="9.9", requestor="ME", references=(A, B, C))


def test_a_request_reads_as_it_was_made():
    assert check_request(1, SOP_INSTANCE, action_information("9.9", [A, B])) == ("9.9", (A, B))


def test_a_request_for_nothing_is_not_made():
    with pytest.raises(ValueError, match="at least one"):
        action_information("9.9", [])


def test_an_instance_named_twice_counts_once():
    assert check_request(1, SOP_INSTANCE, action_information("9.9", [A, A, B]))[1] == (A, B)


ITEM = {"ReferencedSOPClassUID": CT, "ReferencedSOPInstanceUID": "1.2.1"}
HALF = {**ITEM, "ReferencedSOPClassUID": ""}


@pytest.mark.parametrize(
    ("action", "instance", "keys", "status"),
    [
        (2, SOP_INSTANCE, {"TransactionUID": "9.9", "ReferencedSOPSequence": [ITEM]}, 0x0123),
        (None, SOP_INSTANCE, {"TransactionUID": "9.9", "ReferencedSOPSequence": [ITEM]}, 0x0123),
        (1, "1.2.3", {"TransactionUID": "9.9", "ReferencedSOPSequence": [ITEM]}, 0x0112),
        (1, SOP_INSTANCE, {"ReferencedSOPSequence": [ITEM]}, 0x0115),
        (1, SOP_INSTANCE, {"TransactionUID": "", "ReferencedSOPSequence": [ITEM]}, 0x0115),
        (1, SOP_INSTANCE, {"TransactionUID": "9.9"}, 0x0115),
        (1, SOP_INSTANCE, {"TransactionUID": "9.9", "ReferencedSOPSequence": []}, 0x0115),
        (1, SOP_INSTANCE, {"TransactionUID": "9.9", "ReferencedSOPSequence": [{}]}, 0x0115),
        (1, SOP_INSTANCE, {"TransactionUID": "9.9", "ReferencedSOPSequence": [ITEM, HALF]}, 0x0115),
    ],
)  # fmt: skip
def test_what_is_no_request_is_refused(action, instance, keys, status):
    with pytest.raises(Refused) as caught:
        check_request(action, instance, build_identifier(keys))
    assert caught.value.status == status


def _raise(_):
    raise RuntimeError("the disk is on fire")


@pytest.mark.parametrize(
    ("exists", "reason"),
    [
        (lambda _: False, 0x0112),
        (lambda _: None, 0x0112),
        (lambda _: 0x0119, 0x0119),
        (lambda _: Status.SOP_CLASS_NOT_SUPPORTED, 0x0122),
        (lambda _: 0x0131, 0x0131),
        (lambda _: 0x0213, 0x0213),
        (lambda _: 0xC000, 0x0110),  # no Failure Reason
        (lambda _: "yes", 0x0110),
        (_raise, 0x0110),
    ],
)
def test_why_an_instance_is_not_safe(exists, reason):
    assert decide(ASKED, exists).failures == ((A, reason), (B, reason), (C, reason))


def test_all_safe():
    decided = decide(ASKED, lambda _: True)
    assert (decided.failures, decided.committed) == ((), (A, B, C))
    event, dataset = event_information(decided, retrieve_ae_title="ARCHIVE")
    assert event == 1
    assert dataset.RetrieveAETitle == "ARCHIVE"
    assert "FailedSOPSequence" not in dataset
    result = read_report(event, dataset)
    assert result == CommitmentResult("9.9", (A, B, C), ())
    assert result.check() is result


def test_some_safe():
    decided = decide(ASKED, lambda reference: reference is not B)
    event, dataset = event_information(decided)
    assert event == 2
    result = read_report(event, dataset)
    assert (result.committed, result.failed, result.ok) == ((A, C), ((B, 0x0112),), False)
    with pytest.raises(StatusError, match="1 of 3 instances are not safe, the first because of 0112H no such object"):
        result.check()


def test_none_safe():
    event, dataset = event_information(decide(ASKED, lambda _: False))
    assert event == 2
    assert "ReferencedSOPSequence" not in dataset
    assert read_report(event, dataset).committed == ()


@pytest.mark.parametrize(("event", "status"), [(3, 0x0113), (None, 0x0113), (1, 0x0115)])
def test_what_is_no_report_is_refused(event, status):
    with pytest.raises(Refused) as caught:
        read_report(event, Dataset())
    assert caught.value.status == status


def test_a_failure_without_a_reason_is_a_failure():
    assert read_report(1, build_identifier({"TransactionUID": "1", "FailedSOPSequence": [ITEM]})).failed == (
        (Reference(CT, "1.2.1"), 0x0110),
    )


# ------------------------------------------------------------------------------ stores


@pytest.fixture(params=["memory", "sqlite"])
def store(request, tmp_path):
    if request.param == "memory":
        yield MemoryTransactions()
    else:
        store = SQLiteTransactions(tmp_path / "transactions.db")
        yield store
        store.disconnect()


def test_a_store_knows_duplicates_open_and_closed_ones(store):
    assert store.add(ASKED)
    assert not store.add(ASKED)
    store.close("9.9")
    assert list(store.open()) == []
    assert not store.add(ASKED)


def test_a_store_keeps_what_was_decided(store):
    store.add(ASKED)
    decided = decide(ASKED, lambda reference: reference is A)
    store.update(decided)
    assert list(store.open()) == [decided]


def test_what_is_not_there_is_not_made_by_an_update(store):
    store.update(ASKED)
    store.close("9.9")
    assert list(store.open()) == []
    store.add(ASKED)
    store.close("9.9")
    store.update(ASKED)
    assert list(store.open()) == []


def test_a_file_survives(tmp_path):
    first = SQLiteTransactions(tmp_path / "transactions.db")
    first.add(ASKED)
    second = SQLiteTransactions(tmp_path / "transactions.db")  # the first one was never closed, as after kill -9
    assert list(second.open()) == [ASKED]
    assert not second.add(ASKED)
    first.disconnect()
    second.disconnect()


def test_closed_transactions_are_forgotten_in_the_end(tmp_path):
    store = SQLiteTransactions(tmp_path / "transactions.db", kept=-1.0)
    store.add(ASKED)
    store.close("9.9")
    assert store.add(ASKED)
    store.disconnect()
    memory = MemoryTransactions(limit=1)
    for number in range(3):
        memory.add(Transaction(uid=str(number), requestor="ME", references=(A,)))
        memory.close(str(number))
    assert not memory.add(Transaction(uid="2", requestor="ME", references=(A,)))
    assert memory.add(Transaction(uid="1", requestor="ME", references=(A,)))


# ------------------------------------------------------------------------------ back-off


def test_pauses_grow_to_a_limit_and_end():
    backoff = Backoff(first=1.0, longest=10.0, attempts=7, spread=0.5)
    assert [backoff.pause(failures) for failures in range(1, 8)] == [1, 2, 4, 8, 10, 10, None]
    assert backoff.pause(1, 1.0) == 1.5
    assert all(pause == 3600.0 for pause in map(Backoff().pause, (100, 10_000, 10**9)))
    pauses = [Backoff().pause(failures) for failures in range(1, 100)]
    assert all(one <= other for one, other in itertools.pairwise(pauses))
