"""Storage commitment between a user and a node on loopback: the result on either association, restarts, refusals."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from tests.node.raw import GARBAGE, ask
from tests.node.serving import FACES, served

import dulcet
from dulcet import uids
from dulcet.blocking.commitment import Commitments, request_commitment
from dulcet.blocking.serving import NESTED, serve_until
from dulcet.config import AssociationConfig
from dulcet.dimse.messages import CommandField
from dulcet.dimse.status import Status
from dulcet.errors import AssociationAborted, AssociationClosed, StatusError
from dulcet.node.commitment import StorageCommitment
from dulcet.node.event_report_sender import EventReportSender, Report
from dulcet.node.transactions import MemoryTransactions, SQLiteTransactions
from dulcet.services.acceptance import AcceptancePolicy
from dulcet.services.commitment import (
    COMMITMENT_PROPOSALS,
    SOP_CLASS,
    SOP_INSTANCE,
    Reference,
    Transaction,
    action_information,
)
from dulcet.services.identifiers import build_identifier
from dulcet.services.proposals import proposals
from dulcet.services.retrying import Backoff

MPPS_EVENTS = uids.MODALITY_PERFORMED_PROCEDURE_STEP_NOTIFICATION
CT = "1.2.840.10008.5.1.4.1.1.2"
SAFE = Reference(CT, "1.2.1")
LOST = Reference(CT, "1.2.2")
QUICK = Backoff(first=0.02, longest=0.05, attempts=100)
WAIT = 20.0


def is_safe(reference: Reference) -> bool:
    return reference == SAFE


@contextmanager
def archive(
    *,
    peers: dict[str, str] | None = None,
    exists: Callable[[Reference], bool | int] = is_safe,
    face: str = "threads",
    **options: object,
) -> Iterator[tuple[dulcet.Address, StorageCommitment]]:
    node = dulcet.Node("ARCHIVE", peers=peers)
    commitment = StorageCommitment(node, exists, backoff=QUICK, **options)
    with served(node, face) as address:
        yield address, commitment


def associate(address: dulcet.Address, **options: object) -> dulcet.Association:
    return dulcet.associate(address, calling_ae_title="MODALITY", contexts=COMMITMENT_PROPOSALS, **options)


@contextmanager
def modality(**options: object) -> Iterator[tuple[str, Commitments]]:
    """A node that hears results."""
    node = dulcet.Node("MODALITY")
    commitments = Commitments(node, **options)
    with node.threads() as serving:
        yield str(serving.address), commitments


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("window", [1, 8])
def test_the_result_on_the_same_association(window, face):
    with (
        archive(face=face) as (address, _),
        associate(address, config=AssociationConfig(window_invoked=window)) as association,
    ):
        pending = request_commitment(association, [SAFE, LOST])
        result = pending.wait(WAIT)
    assert result is not None
    assert result.committed == (SAFE,)
    assert result.failed == ((LOST, Status.NO_SUCH_INSTANCE),)
    assert pending.wait(0.0) is result


@pytest.mark.parametrize("face", FACES)
def test_several_transactions_on_one_association(face):
    with archive(face=face) as (address, _), associate(address) as association:
        pending = [request_commitment(association, [reference]) for reference in (SAFE, LOST, SAFE)]
        assert [found.wait(WAIT).ok for found in pending] == [True, False, True]


def test_a_result_may_come_while_something_else_is_asked():
    with (
        archive() as (address, _),
        dulcet.associate(address, contexts=[*COMMITMENT_PROPOSALS, *proposals([uids.VERIFICATION])]) as association,
    ):
        pending = request_commitment(association, [SAFE])
        while pending.result is None:
            association.echo().check()
        assert pending.wait(0.0).ok


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("report", ["auto", "other"])
def test_the_result_on_another_association(report, face):
    peers = {}
    with modality() as (peers["MODALITY"], commitments), archive(peers=peers, report=report, face=face) as (address, _):
        with associate(address) as association:
            pending = request_commitment(association, [SAFE, LOST], results=commitments)
        assert pending.wait(WAIT).committed == (SAFE,)  # the first association is released


def test_a_wait_on_the_first_association_ends_with_a_result_on_another():
    with (
        modality() as (here, commitments),
        archive(peers={"MODALITY": here}) as (address, _),
        associate(address) as association,
    ):
        assert request_commitment(association, [SAFE], results=commitments).wait(WAIT).ok
        assert association.is_established


def test_the_requestor_that_does_not_wait_gets_it_on_another_association():
    asked = threading.Event()

    def slow(reference: Reference) -> bool:
        asked.wait(WAIT)
        return True

    with (
        modality() as (here, commitments),
        archive(peers={"MODALITY": here}, report="same", exists=slow) as (address, _),
    ):
        association = associate(address)
        pending = request_commitment(association, [SAFE], results=commitments)
        association.abort()
        asked.set()
        assert pending.wait(WAIT).ok


def test_the_provider_role_is_negotiated_on_the_other_association():
    seen = []
    with modality() as (here, commitments), archive(peers={"MODALITY": here}) as (address, commitment):
        original = commitment.event_report_sender._associate

        def watched(*arguments):
            association = original(*arguments)
            seen.extend(association.contexts)
            return association

        commitment.event_report_sender._associate = watched
        with associate(address) as association:
            request_commitment(association, [SAFE], results=commitments).wait(WAIT)
    assert [(context.as_user, context.as_provider) for context in seen] == [(False, True)]


# ------------------------------------------------------------------------------ restarts and tries


@pytest.mark.parametrize("face", FACES)
def test_a_transaction_survives_a_restart(face, tmp_path):
    path = tmp_path / "transactions.db"
    first = SQLiteTransactions(path)
    with archive(report="other", store=first, face=face) as (address, _), associate(address) as association:
        pending = request_commitment(association, [SAFE], results=(commitments := Commitments()))
        assert pending.wait(0.1) is None  # nobody knows where MODALITY is
    first.disconnect()
    store = SQLiteTransactions(path)
    assert [transaction.uid for transaction in store.open()] == [pending.transaction_uid]
    results = []
    with (
        modality(on_result=results.append) as (here, _),
        archive(peers={"MODALITY": here}, store=store, face=face) as (_, again),
    ):
        assert again.event_report_sender.wait(WAIT)
    assert [result.transaction_uid for result in results] == [pending.transaction_uid]
    assert results[0].ok
    assert list(store.open()) == []
    assert not commitments._pending[pending.transaction_uid].result
    store.disconnect()


def test_what_was_decided_before_a_restart_stays_decided():
    store = MemoryTransactions()
    store.add(Transaction(uid="9.9", requestor="MODALITY", references=(SAFE,), failures=((SAFE, 0x0213),)))
    results = []
    with modality(on_result=results.append) as (here, _), archive(peers={"MODALITY": here}, store=store) as (_, again):
        assert again.event_report_sender.wait(WAIT)
    assert results[0].failed == ((SAFE, 0x0213),)


def test_a_report_that_is_not_taken_is_sent_again():
    answers = iter([Status.PROCESSING_FAILURE, Status.RESOURCE_LIMITATION, Status.SUCCESS])
    taken = []

    def take(request):
        taken.append(request.dataset.TransactionUID)
        return next(answers)

    node = dulcet.Node("MODALITY")
    node.on_n_event_report(take, classes=[SOP_CLASS])
    with node.threads() as here, archive(peers={"MODALITY": str(here.address)}) as (address, commitment):
        with associate(address) as association:
            uid = request_commitment(association, [SAFE]).transaction_uid
        assert commitment.event_report_sender.wait(WAIT)
        assert list(commitment.store.open()) == []
    assert taken == [uid] * 3


def test_an_unknown_transaction_is_the_users_last_word():
    with modality() as (here, commitments), archive(peers={"MODALITY": here}) as (address, commitment):
        with associate(address) as association:
            request_commitment(association, [SAFE])  # nobody listens for it
        assert commitment.event_report_sender.wait(WAIT)
        assert list(commitment.store.open()) == []
    assert not commitments._pending


def test_a_store_that_fails_now_may_work_later():
    class Moody(MemoryTransactions):
        fails = 2

        def update(self, transaction):
            self.fails -= 1
            if self.fails >= 0:
                raise OSError("no space left")
            super().update(transaction)

    results = []
    with (
        modality(on_result=results.append) as (here, _),
        archive(peers={"MODALITY": here}, store=Moody()) as (address, commitment),
    ):
        with associate(address) as association:
            request_commitment(association, [SAFE])
        assert commitment.event_report_sender.wait(WAIT)
    assert len(results) == 1


def test_the_courier_gives_up_in_the_end_and_keeps_its_order():
    node = dulcet.Node("A", peers={"NOBODY": "NOBODY@127.0.0.1:1"})
    event_report_sender = EventReportSender(node, backoff=Backoff(first=0.001, longest=0.001, attempts=3))
    ended: list[tuple[int, object]] = []
    for number in range(3):
        event_report_sender.send(
            Report(
                "NOBODY",
                SOP_CLASS,
                SOP_INSTANCE,
                prepare=lambda: (1, build_identifier({})),
                done=lambda report, status, number=number: ended.append((number, status)),
            )
        )
    with node.threads():
        assert event_report_sender.wait(WAIT)
    assert ended == [(0, None), (1, None), (2, None)]


# ------------------------------------------------------------------------------ bad input


def action(address: dulcet.Address, *, instance: str = SOP_INSTANCE, kind: int = 1, **keys: object) -> int:
    with associate(address) as association:
        return association.n_action(SOP_CLASS, instance, kind, build_identifier(keys)).status


def test_refusals():
    item = {"ReferencedSOPClassUID": CT, "ReferencedSOPInstanceUID": "1.2.1"}
    with archive() as (address, _):
        assert action(address, TransactionUID="9.9", kind=2, ReferencedSOPSequence=[item]) == 0x0123
        assert action(address, TransactionUID="9.9", instance="1.2", ReferencedSOPSequence=[item]) == 0x0112
        assert action(address, ReferencedSOPSequence=[item]) == 0x0115
        assert action(address, TransactionUID="9.9") == 0x0115


def test_a_transaction_uid_is_used_once():
    with archive(report="other") as (address, _), associate(address) as association:
        request_commitment(association, [SAFE], transaction_uid="9.9")
        with pytest.raises(StatusError) as caught:
            request_commitment(association, [SAFE], transaction_uid="9.9")
        assert caught.value.status == Status.DUPLICATE_TRANSACTION_UID
        association.n_action(SOP_CLASS, SOP_INSTANCE, 1, action_information("9.8", [SAFE])).check()  # it lives on


def test_a_data_set_that_does_not_decode_is_a_processing_failure():
    with archive() as (address, _), associate(address) as association:
        named = {"RequestedSOPClassUID": SOP_CLASS, "RequestedSOPInstanceUID": SOP_INSTANCE}
        response = ask(association, CommandField.N_ACTION_RQ, SOP_CLASS, GARBAGE, ActionTypeID=1, **named)
        assert response.status == Status.PROCESSING_FAILURE
        assert request_commitment(association, [SAFE]).wait(WAIT).ok


def test_exists_must_be_plain():
    async def exists(reference):
        return True

    with pytest.raises(TypeError, match="plain function"):
        StorageCommitment(dulcet.Node("A"), exists)


def test_a_wait_ends_with_its_time_and_with_the_association():
    with archive(report="other") as (address, _):
        association = associate(address)
        pending = request_commitment(association, [SAFE])
        assert pending.wait(0.05) is None
        association.abort()
        with pytest.raises(AssociationAborted):
            pending.wait(WAIT)


def test_what_can_be_named_as_an_instance(tmp_path):
    from pydicom.dataset import Dataset
    from pydicom.uid import ExplicitVRLittleEndian

    from dulcet.services.results import Sent

    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = CT, "1.2.1"
    path = tmp_path / "a.dcm"
    dataset.file_meta = __import__("pydicom").dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(path, enforce_file_format=True)
    sent = Sent("a", Status.SUCCESS, None, CT, "1.2.1")
    with archive() as (address, _), associate(address) as association:
        for instance in (path, dataset, sent, (CT, "1.2.1"), SAFE):
            assert request_commitment(association, [instance]).wait(WAIT).committed == (SAFE,)


def test_a_user_that_asks_on_and_on_and_answers_nothing():
    """Results wait for one another on its association up to a bound; the others go to the courier."""
    deferred = []
    with archive() as (address, commitment):
        association = associate(address)
        association.handler = lambda request: deferred.append(request.defer())
        for number in range(40):
            action = action_information(f"9.{number}", [SAFE])
            association.n_action(SOP_CLASS, SOP_INSTANCE, 1, action).check()
        assert len(deferred) == 1  # the window is 1: the second result waits for the answer to the first
        while deferred:
            deferred.pop().respond(Status.SUCCESS)
            serve_until(association, lambda: bool(deferred), 0.2)
        association.n_action(SOP_CLASS, SOP_INSTANCE, 9)  # answered once all that came before was dealt with
        assert len(list(commitment.store.open())) == 40 - NESTED
        association.abort()


def test_other_requests_on_the_association_go_where_they_went():
    """Events of commitment are taken, everything else is handled as before."""
    seen = []

    def handler(request):
        seen.append(request.name)
        request.respond(Status.SUCCESS)

    listener = dulcet.listen("ARCHIVE@127.0.0.1:0", policy=AcceptancePolicy(syntaxes={SOP_CLASS: (), MPPS_EVENTS: ()}))
    statuses = []

    def provide():
        association = listener.accept(WAIT)
        request = next(association.requests())
        request.respond(Status.SUCCESS)
        for sop_class, event, keys in (
            (MPPS_EVENTS, 1, {}),
            (SOP_CLASS, 7, {"TransactionUID": "9.9"}),
            (SOP_CLASS, 1, {}),
            (SOP_CLASS, 1, {"TransactionUID": "9.8"}),
            (SOP_CLASS, 1, {"TransactionUID": "9.9"}),
        ):
            statuses.append(association.n_event_report(sop_class, SOP_INSTANCE, event, build_identifier(keys)).status)
        named = {"AffectedSOPClassUID": SOP_CLASS, "AffectedSOPInstanceUID": SOP_INSTANCE, "EventTypeID": 1}
        statuses.append(ask(association, CommandField.N_EVENT_REPORT_RQ, SOP_CLASS, GARBAGE, **named).status)
        association.release()

    with listener:
        for chained in (True, False):
            statuses.clear()
            provider = threading.Thread(target=provide)
            provider.start()
            contexts = proposals([SOP_CLASS, MPPS_EVENTS], provider=True)
            association = dulcet.associate(listener.address, contexts=contexts, handler=handler if chained else None)
            results = []
            pending = request_commitment(
                association, [SAFE], transaction_uid="9.9", results=Commitments(on_result=results.append)
            )
            assert pending.wait(WAIT).transaction_uid == "9.9"
            with pytest.raises(AssociationClosed):
                serve_until(association, lambda: False, WAIT)
            provider.join(WAIT)
            assert statuses == [0x0000 if chained else 0x0122, 0x0113, 0x0115, 0x0000, 0x0000, 0x0110]
            assert [result.transaction_uid for result in results] == ["9.8", "9.9"]
            assert pending.wait(0.0) is results[1]
    assert seen == ["N-EVENT-REPORT-RQ"]


def test_a_result_that_cannot_come_any_more_is_not_waited_for():
    with archive(report="other") as (address, _):
        association = associate(address)
        pending = request_commitment(association, [SAFE])
        association.release()
        with pytest.raises(AssociationClosed):
            pending.wait(WAIT)
        here = Commitments(dulcet.Node("MODALITY"))
        with associate(address) as association:
            pending = request_commitment(association, [SAFE], results=here)
            association.abort()
            assert pending.wait(0.01) is None  # it may come on another one


def test_serving_the_same_node_twice_sends_nothing_twice():
    node = dulcet.Node("ARCHIVE")
    commitment = StorageCommitment(node, is_safe, backoff=QUICK, report="other")
    with node.threads() as serving, associate(serving.address) as association:
        request_commitment(association, [SAFE])
    results = []
    with modality(on_result=results.append) as (here, _):
        node.peers["MODALITY"] = dulcet.Address.parse(here)
        with node.threads():
            assert commitment.event_report_sender.wait(WAIT)
    assert len(results) == 1
