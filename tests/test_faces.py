"""What every face does, in both roles; and that their names, parameters and docstrings are the same."""

from __future__ import annotations

import inspect
import io
import threading
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from tests.corpus import CT_IMAGE, EXPLICIT, IMPLICIT, make_folder, make_instance, read_instance
from tests.faces import Faces, on_each_face, until

import dulcet
import dulcet.aio
from dulcet import AcceptancePolicy, AssociationConfig, Proposal, Status, Timers, uids
from dulcet.aio.threads import RequestInThread
from dulcet.blocking.association import Association
from dulcet.blocking.receiver import Receiver
from dulcet.dimse.messages import CommandField
from dulcet.services.identifiers import decode_dataset, encode_dataset
from dulcet.services.proposals import proposals

STORE = CommandField.C_STORE_RQ
FIND = uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND
GET = uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_GET
MOVE = uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_MOVE
PRINTER = uids.KEYWORDS["Printer"]
MPPS = uids.KEYWORDS["ModalityPerformedProcedureStep"]
ANYTHING = AcceptancePolicy(any_class=())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return make_instance(tmp_path / "one.dcm", 300_000, sop_class_uid=CT_IMAGE)


class Keeping:
    """A handler that keeps what is stored and answers everything with success."""

    def __init__(self) -> None:
        self.stored: dict[str, bytes] = {}
        self.names: list[str] = []

    async def __call__(self, request: Any) -> None:
        self.names.append(request.name)
        if request.field == STORE:
            self.stored[request.sop_instance_uid] = await request.read()
        await request.respond(Status.SUCCESS)


def keeping() -> tuple[Keeping, Any]:
    kept = Keeping()

    async def handler(request: Any) -> None:
        await kept(request)

    return kept, handler


# ---------------------------------------------------------------------- verification, storage


@on_each_face
async def test_echo_and_what_an_association_tells(faces: Faces) -> None:
    async def script(association: Any) -> None:
        assert (association.calling_ae_title, association.is_requestor) == ("ME", False)
        async for request in association.requests():
            assert (request.name, request.sop_class_uid) == ("C-ECHO-RQ", uids.VERIFICATION)
            await request.respond()

    with faces.accepting(script) as provider:
        async with faces.associate(provider.address, calling_ae_title="ME") as association:
            response = (await association.echo()).check()
            assert (response.status, response.command.name) == (0, "C-ECHO-RSP")
            assert association.is_established
            assert association.is_requestor
            assert association.peer == str(association.address) == provider.address
            assert (association.called_ae_title, association.calling_ae_title) == ("PROVIDER", "ME")
            assert association.contexts
            assert (association.window.invoked, association.ending) == (1, None)
        assert association.ending == "released"
        assert not association.is_established
    assert (provider.endings, provider.errors) == (["released"], [])


SOURCES: dict[str, Any] = {
    "Path": lambda path: path,
    "str": str,
    "bytes": Path.read_bytes,
    "memoryview": lambda path: memoryview(path.read_bytes()),
    "open file": lambda path: path.open("rb"),
    "BytesIO": lambda path: io.BytesIO(path.read_bytes()),
    "Dataset": pydicom.dcmread,
}


@pytest.mark.parametrize("kind", SOURCES)
@on_each_face
async def test_every_kind_of_source_is_stored_bit_for_bit(faces: Faces, kind: str, file: Path) -> None:
    instance = read_instance(file)
    kept, handler = keeping()
    with faces.handling(handler) as provider:
        async with faces.associate(provider.address) as association:
            what = SOURCES[kind](file)
            sent = (await association.store(what)).check()
            assert sent.path is what
            assert (sent.sop_class_uid, sent.sop_instance_uid) == (CT_IMAGE, instance.sop_instance_uid)
            assert (sent.transfer_syntax, sent.size) == (EXPLICIT, len(instance.data_set()))
    assert kept.stored == {instance.sop_instance_uid: instance.data_set()}


@on_each_face
async def test_an_instance_is_converted_where_its_own_syntax_is_not_accepted(faces: Faces, file: Path) -> None:
    kept, handler = keeping()
    policy = AcceptancePolicy(syntaxes={CT_IMAGE: (IMPLICIT,)})
    with faces.handling(handler, policy=policy) as provider:
        contexts = [Proposal(CT_IMAGE, (EXPLICIT,)), Proposal(CT_IMAGE, (IMPLICIT,))]
        async with faces.associate(provider.address, contexts=contexts) as association:
            sent = (await association.store(file)).check()
    assert sent.transfer_syntax == IMPLICIT
    [data] = kept.stored.values()
    one, other = decode_dataset(data, IMPLICIT), decode_dataset(read_instance(file).data_set(), EXPLICIT)
    assert [(one.tag, one.value) for one in one] == [(one.tag, one.value) for one in other]


@on_each_face
async def test_what_cannot_be_sent_costs_only_itself(faces: Faces, file: Path, tmp_path: Path) -> None:
    junk = tmp_path / "junk"
    junk.write_bytes(b"nothing of DICOM" * 100)
    _, handler = keeping()
    with faces.handling(handler) as provider:
        async with faces.associate(provider.address, contexts=proposals([CT_IMAGE])) as association:
            with pytest.raises(dulcet.NotDicom):
                await association.store(junk)
            with pytest.raises(dulcet.InstanceError, match="missing"):
                await association.store(tmp_path / "missing")
            with pytest.raises(dulcet.NoPresentationContext):
                await association.store(make_instance(tmp_path / "other.dcm", 1000))
            with pytest.raises(dulcet.NoPresentationContext):
                await association.echo()
            assert (await association.store(file)).ok


@on_each_face
async def test_a_status_is_an_answer_and_check_raises(faces: Faces, file: Path) -> None:
    async def handler(request: Any) -> None:
        await request.respond(0xA700, ErrorComment="the disk is full")

    with faces.handling(handler) as provider:
        async with faces.associate(provider.address) as association:
            sent = await association.store(file)
            assert (sent.ok, sent.status) == (False, 0xA700)
            with pytest.raises(dulcet.StatusError):
                sent.check()
            with pytest.raises(dulcet.StatusError, match="the disk is full"):
                (await association.echo()).check()


# ---------------------------------------------------------------------- many at once


@pytest.mark.parametrize("associations", [1, 3])
@on_each_face
async def test_many_are_stored_over_windows_and_associations(faces: Faces, associations: int, tmp_path: Path) -> None:
    files = make_folder(tmp_path / "some", 40, 5_000) + make_folder(tmp_path / "more", 5, 200_000, CT_IMAGE)
    for index, path in enumerate(files):
        data = path.read_bytes()
        uid = read_instance(path).sop_instance_uid.encode()
        path.write_bytes(data.replace(uid, uid[:-3] + b"%03d" % index))
    (tmp_path / "junk").write_bytes(b"?" * 1000)
    kept, handler = keeping()
    with faces.handling(handler) as provider:
        async with faces.associate(provider.address, contexts=proposals([uids.VERIFICATION])) as association:
            results = [
                sent
                async for sent in association.store_many(
                    [*files, tmp_path / "junk"], associations=associations, window=4
                )
            ]
            assert sorted(sent.path for sent in results if sent.ok) == sorted(files)
            assert [type(sent.error) for sent in results if not sent.ok] == [dulcet.NotDicom]
            assert (await association.echo()).status == 0
    assert kept.stored == {read_instance(path).sop_instance_uid: read_instance(path).data_set() for path in files}


@on_each_face
async def test_answers_may_come_in_any_order_within_the_window(faces: Faces, tmp_path: Path) -> None:
    files = make_folder(tmp_path / "some", 8, 3_000)
    waiting: list[Any] = []
    order: list[str] = []

    async def script(association: Any) -> None:
        assert association.window.performed == 4
        async for request in association.requests():
            waiting.append(await request.defer())
            assert request.deferred
            if len(waiting) == 4:
                for deferred in reversed(waiting):
                    order.append(deferred.sop_instance_uid)
                    assert len(await deferred.read()) > 3_000
                    await deferred.respond(Status.SUCCESS)
                waiting.clear()

    with faces.accepting(script, config=AssociationConfig(window_performed=4)) as provider:
        config = AssociationConfig(window_invoked=4)
        contexts = proposals([dulcet.uids.SECONDARY_CAPTURE_IMAGE_STORAGE])
        async with faces.associate(provider.address, config=config, contexts=contexts) as association:
            sent = [sent async for sent in association.store_many(files, window=4)]
    assert all(one.ok for one in sent)
    assert [one.sop_instance_uid for one in sent] == order
    assert len(set(order)) == 8
    assert provider.errors == []


@on_each_face
async def test_a_deferred_request_is_answered_by_another_thread(faces: Faces, file: Path) -> None:
    threads: list[threading.Thread] = []

    async def script(association: Any) -> None:
        async for request in association.requests():
            deferred = await request.defer()
            answer = getattr(deferred, "inner", deferred).respond
            threads.append(threading.Thread(target=answer, args=(Status.SUCCESS,)))
            threads[-1].start()

    with faces.accepting(script) as provider:
        async with faces.associate(provider.address) as association:
            for _ in range(5):
                assert (await association.store(file)).ok
                assert (await association.echo()).status == 0
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert len(threads) == 10


@on_each_face
async def test_leaving_store_many_early_leaves_the_association_usable(faces: Faces, tmp_path: Path) -> None:
    files = make_folder(tmp_path / "some", 30, 3_000)
    _, handler = keeping()
    with faces.handling(handler) as provider:
        config = AssociationConfig(window_invoked=4)
        async with faces.associate(provider.address, config=config) as association:
            sending = association.store_many(files)
            async for sent in sending:
                assert sent.ok
                break
            await sending.aclose()
            assert (await association.echo()).status == 0
        assert association.ending == "released"


# ---------------------------------------------------------------------- query, retrieve


def matches(count: int) -> list[Dataset]:
    found = []
    for index in range(count):
        match = Dataset()
        match.QueryRetrieveLevel = "STUDY"
        match.StudyInstanceUID = f"1.2.3.{index}"
        match.PatientName = f"Doe^Number {index}"
        found.append(match)
    return found


@on_each_face
async def test_find_gives_the_matches_one_by_one(faces: Faces) -> None:
    asked: list[Dataset] = []

    async def handler(request: Any) -> None:
        asked.append(await request.dataset())
        for match in matches(300):
            await request.respond(Status.PENDING, encode_dataset(match, request.transfer_syntax)[0])
        await request.respond(Status.SUCCESS)

    with faces.handling(handler, policy=ANYTHING) as provider:
        async with faces.associate(provider.address) as association:
            found = [match async for match in association.find(level="STUDY", PatientName="DOE*", StudyDate=None)]
            again = [match async for match in association.find(found[0], model="patient")]
    assert [match.StudyInstanceUID for match in found] == [f"1.2.3.{index}" for index in range(300)]
    assert len(again) == 300
    assert (asked[0].QueryRetrieveLevel, asked[0].PatientName, asked[0].StudyDate) == ("STUDY", "DOE*", "")
    assert asked[1].PatientName == "Doe^Number 0"
    assert provider.errors == []


@on_each_face
async def test_find_raises_the_status_it_ends_with(faces: Faces) -> None:
    async def handler(request: Any) -> None:
        await request.respond(Status.PENDING, encode_dataset(matches(1)[0], request.transfer_syntax)[0])
        await request.respond(0xA700)

    with faces.handling(handler, policy=ANYTHING) as provider:
        async with faces.associate(provider.address) as association:
            found = []
            with pytest.raises(dulcet.StatusError) as raised:  # noqa: PT012
                async for match in association.find(level="STUDY", PatientName=""):
                    found.append(match)
            assert (len(found), raised.value.status) == (1, 0xA700)
            with pytest.raises(ValueError, match="Nonsense"):
                async for _ in association.find(level="STUDY", Nonsense=""):
                    pass
            with pytest.raises(dulcet.NoPresentationContext):
                async for _ in association.find(PatientName="", model="hanging-protocol"):
                    pass


@pytest.mark.parametrize("how", ["aclose", "dropped"])
@on_each_face
async def test_leaving_a_find_early_cancels_it(faces: Faces, how: str) -> None:
    cancelled = threading.Event()

    async def script(association: Any) -> None:
        async for request in association.requests():
            if request.field == CommandField.C_ECHO_RQ:
                await request.respond()
                continue
            [match] = matches(1)
            data = encode_dataset(match, request.transfer_syntax)[0]
            while not request.cancelled:
                await request.respond(Status.PENDING, data)
                if hasattr(association, "inner"):
                    association.inner._look()
            cancelled.set()
            await request.respond(Status.CANCEL)

    with faces.accepting(script, policy=ANYTHING) as provider:
        async with faces.associate(provider.address) as association:
            finding = association.find(level="STUDY", PatientName="")
            async for match in finding:
                assert match.StudyInstanceUID == "1.2.3.0"
                break
            if how == "aclose":
                await finding.aclose()
            else:
                del finding
            assert (await association.echo()).status == 0
            assert cancelled.is_set()
        assert association.ending == "released"
    assert provider.errors == []


def identifier_of(uid: str) -> Dataset:
    study = Dataset()
    study.QueryRetrieveLevel = "STUDY"
    study.StudyInstanceUID = uid
    return study


COUNTS = "NumberOfRemainingSuboperations NumberOfCompletedSuboperations NumberOfFailedSuboperations".split()


@pytest.mark.parametrize("to", ["folder", "directory", "handler"])
@on_each_face
async def test_get_brings_the_instances_back_on_the_same_association(faces: Faces, to: str, tmp_path: Path) -> None:
    files = make_folder(tmp_path / "there", 3, 70_000, CT_IMAGE)

    async def script(association: Any) -> None:
        async for request in association.requests():
            assert (await request.dataset()).StudyInstanceUID == "1.2.3"
            for index, path in enumerate(files):
                assert (await association.store(path)).ok
                counts = dict(zip(COUNTS, (2 - index, index + 1, 0)))
                if index < 2:
                    await request.respond(Status.PENDING, **counts)
            failed = Dataset()
            failed.FailedSOPInstanceUIDList = ["1.2.3.4"]
            data = encode_dataset(failed, request.transfer_syntax)[0]
            await request.respond(0xB000, data, **dict(zip(COUNTS[1:], (3, 1))))

    came: dict[str, bytes] = {}

    async def take(request: Any) -> None:
        came[request.sop_instance_uid] = await request.read()
        await request.respond(Status.SUCCESS)

    seen: list[tuple[int, int]] = []
    target: Any = {"folder": tmp_path / "here", "handler": take}.get(to) or dulcet.StoreDirectory(tmp_path / "here")
    with faces.accepting(script, policy=ANYTHING) as provider:
        contexts = [*proposals([GET]), *proposals([CT_IMAGE], provider=True)]
        async with faces.associate(provider.address, contexts=contexts) as association:
            result = await association.get(
                identifier_of("1.2.3"), to=target, progress=lambda one: seen.append((one.remaining, one.completed))
            )
        assert (result.status, result.completed, result.failed) == (0xB000, 3, 1)
        assert result.failed_uids == ["1.2.3.4"]
        with pytest.raises(dulcet.StatusError):
            result.check()
    assert seen == [(2, 1), (1, 2)]
    if to != "handler":
        came = {path.stem: read_instance(path).data_set() for path in result.received}
    assert came == {read_instance(path).sop_instance_uid: read_instance(path).data_set() for path in files}
    assert provider.errors == []


@on_each_face
async def test_move_receives_on_a_port_of_its_own(faces: Faces, tmp_path: Path) -> None:
    [file] = make_folder(tmp_path / "there", 1, 5_000, CT_IMAGE)
    port = free_port()

    async def handler(request: Any) -> None:
        assert request.command.move_destination == "HERE"
        identifier = await request.dataset()
        if identifier.StudyInstanceUID == "1.2.3":
            # Whoever provides may use the other face to send.
            with dulcet.associate(f"HERE@127.0.0.1:{port}") as outgoing:
                outgoing.store(file, originator=(request.association.calling_ae_title, request.message_id)).check()
        await request.respond(Status.SUCCESS, NumberOfCompletedSuboperations=1)

    with faces.handling(handler, policy=ANYTHING) as provider:
        async with faces.associate(provider.address) as association:
            result = await association.move(
                identifier_of("1.2.3"), destination="HERE", receive=f"HERE@127.0.0.1:{port}", to=tmp_path / "here"
            )
            assert [path.name for path in result.check().received] == [f"{read_instance(file).sop_instance_uid}.dcm"]
            plain = await association.move(identifier_of("1.2"), destination="HERE")
            assert (plain.status, plain.completed, plain.received) == (0, 1, [])
            with pytest.raises(ValueError, match="needs `receive`"):
                await association.move(identifier_of("1.2"), destination="HERE", to=tmp_path / "here")
            with pytest.raises(ValueError, match="needs `to`"):
                await association.move(identifier_of("1.2"), destination="HERE", receive=f"HERE@127.0.0.1:{port}")
    assert provider.errors == []


def free_port() -> int:
    import socket

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


# ---------------------------------------------------------------------- N-services


@on_each_face
async def test_every_normalized_service(faces: Faces) -> None:
    heard: list[tuple[Any, ...]] = []

    async def handler(request: Any) -> None:
        command = request.command
        dataset = await request.dataset() if request.command.has_data_set else None
        heard.append((
            request.name,
            request.sop_class_uid,
            request.sop_instance_uid,
            command.event_type_id or command.action_type_id,
            None if dataset is None else dataset.PatientName,
            command.attribute_identifier_list,
        ))  # fmt: skip
        reply = Dataset()
        reply.PatientName = "Reply"
        options = {"AffectedSOPInstanceUID": "1.9"} if request.name == "N-CREATE-RQ" else {}
        data = None if request.name == "N-DELETE-RQ" else encode_dataset(reply, request.transfer_syntax)[0]
        await request.respond(Status.SUCCESS, data, **options)

    given = Dataset()
    given.PatientName = "Given"
    with faces.handling(handler, policy=ANYTHING) as provider:
        async with faces.associate(provider.address, contexts=proposals([MPPS, PRINTER])) as association:
            responses = [
                await association.n_event_report(MPPS, "1.1", 3, given),
                await association.n_get(MPPS, "1.2", ["PatientName", 0x00100020]),
                await association.n_get(MPPS, "1.2"),
                await association.n_set(MPPS, "1.3", given),
                await association.n_action(MPPS, "1.4", 7, given),
                await association.n_create(MPPS, None, given),
                await association.n_create(MPPS, "1.5"),
                await association.n_delete(MPPS, "1.6"),
                await association.n_get(uids.VERIFICATION, "1.7", context=PRINTER),
            ]
    for response in responses:
        dataset = response.check().dataset()
        assert (dataset is None) == (response.command.name == "N-DELETE-RSP")
        assert dataset is None or dataset.PatientName == "Reply"
    assert responses[5].command.sop_instance_uid == "1.9"
    assert heard == [
        ("N-EVENT-REPORT-RQ", MPPS, "1.1", 3, "Given", None),
        ("N-GET-RQ", MPPS, "1.2", None, None, (0x00100010, 0x00100020)),
        ("N-GET-RQ", MPPS, "1.2", None, None, None),
        ("N-SET-RQ", MPPS, "1.3", None, "Given", None),
        ("N-ACTION-RQ", MPPS, "1.4", 7, "Given", None),
        ("N-CREATE-RQ", MPPS, "", None, "Given", None),
        ("N-CREATE-RQ", MPPS, "1.5", None, None, None),
        ("N-DELETE-RQ", MPPS, "1.6", None, None, None),
        ("N-GET-RQ", uids.VERIFICATION, "1.7", None, None, None),
    ]
    assert provider.errors == []


@on_each_face
async def test_the_acceptor_asks_and_the_requestor_answers(faces: Faces, file: Path) -> None:
    heard: list[str] = []

    async def script(association: Any) -> None:
        async for request in association.requests():
            report = Dataset()
            report.PatientName = "Report"
            response = await association.n_event_report(MPPS, "1.1", 3, report)
            stored = await association.store(file)
            await request.respond(response.status if stored.ok else Status.PROCESSING_FAILURE)

    async def handler(request: Any) -> None:
        heard.append(f"{request.name} {len(await request.read())}")
        await request.respond(Status.SUCCESS)

    contexts = [*proposals([uids.VERIFICATION]), *proposals([MPPS, CT_IMAGE], provider=True)]
    with faces.accepting(script, policy=ANYTHING) as provider:
        async with faces.associate(provider.address, contexts=contexts, handler=handler) as association:
            assert (await association.echo()).status == 0
    assert heard == ["N-EVENT-REPORT-RQ 14", f"C-STORE-RQ {len(read_instance(file).data_set())}"]
    assert provider.errors == []


@on_each_face
async def test_a_requestor_without_a_handler_refuses_what_it_is_asked(faces: Faces, file: Path) -> None:
    statuses: list[int] = []

    async def script(association: Any) -> None:
        async for request in association.requests():
            statuses.append(int((await association.n_delete(MPPS, "1.1")).status))
            statuses.append(int((await association.store(file)).status))
            await request.respond()

    contexts = [*proposals([uids.VERIFICATION]), *proposals([MPPS, CT_IMAGE], provider=True)]
    with faces.accepting(script, policy=ANYTHING) as provider:
        async with faces.associate(provider.address, contexts=contexts) as association:
            assert (await association.echo()).status == 0
    assert statuses == [Status.SOP_CLASS_NOT_SUPPORTED] * 2


# ---------------------------------------------------------------------- as provider


@on_each_face
async def test_a_data_set_comes_in_pieces_or_whole_or_into_a_folder(faces: Faces, tmp_path: Path) -> None:
    file = make_instance(tmp_path / "long.dcm", 3 << 20, sop_class_uid=CT_IMAGE)
    data = read_instance(file).data_set()
    folder = dulcet.StoreDirectory(tmp_path / "kept", durability="fsync")
    ways: list[str] = []

    async def pieces(request: Any) -> None:
        assert request.streams
        whole = b"".join([bytes(piece) async for piece in request.chunks()])
        assert whole == data
        assert not request.streams
        assert await request.read() == b""

    async def read(request: Any) -> None:
        assert await request.read() == data

    async def dataset(request: Any) -> None:
        assert (await request.dataset()).SOPInstanceUID == request.sop_instance_uid

    async def save(request: Any) -> None:
        path = await request.save(folder)
        assert read_instance(path).data_set() == data
        assert path.parent == tmp_path / "kept"

    async def begun(request: Any) -> None:
        async for piece in request.chunks():
            assert data.startswith(bytes(piece))
            break

    async def nothing(request: Any) -> None:
        assert request.streams

    takers = [pieces, read, dataset, save, begun, nothing]

    async def handler(request: Any) -> None:
        taker = takers[len(ways)]
        ways.append(taker.__name__)
        await taker(request)
        assert not request.answered
        await request.respond(Status.SUCCESS)
        with pytest.raises(dulcet.LocalProtocolError):
            await request.respond(Status.SUCCESS)

    with faces.handling(handler) as provider:
        async with faces.associate(provider.address) as association:
            for _ in takers:
                assert (await association.store(file)).ok
            assert len(ways) == len(takers)
    folder.close()
    assert provider.errors == []


@on_each_face
async def test_a_request_left_unanswered_has_failed(faces: Faces, file: Path) -> None:
    async def script(association: Any) -> None:
        async for _ in association.requests():
            pass

    with faces.accepting(script) as provider:
        async with faces.associate(provider.address) as association:
            assert (await association.echo()).status == Status.PROCESSING_FAILURE
            assert (await association.store(file)).status == Status.PROCESSING_FAILURE
    assert provider.endings == ["released"]


@on_each_face
async def test_a_handler_that_raises_or_forgets_gives_a_failure_status(
    faces: Faces, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(request: Any) -> None:
        if request.message_id == 1:
            raise RuntimeError("a fault of the application")
        if request.message_id == 2:
            await request.read()
            raise dulcet.ReceiveError("not this one", 0xA900)
        if request.message_id == 3:
            raise dulcet.ReceiveError("not this one", 0xC123)

    with faces.handling(handler) as provider:
        async with faces.associate(provider.address) as association:
            assert (await association.store(file)).status == Status.PROCESSING_FAILURE
            assert (await association.store(file)).status == 0xA900
            assert (await association.store(file)).status == 0xC123
            assert (await association.echo()).status == Status.PROCESSING_FAILURE
    assert len(provider.errors) == 3
    assert "a fault of the application" in caplog.text


@on_each_face
async def test_what_cannot_be_kept_is_refused_with_the_reason_and_the_tags(faces: Faces) -> None:
    async def handler(request: Any) -> None:
        raise dulcet.ReceiveError("the file's name is ours to know", comment="not this one", offending=(0x7FE00010,))

    with faces.handling(handler, policy=ANYTHING) as provider:
        async with faces.associate(provider.address, contexts=proposals([MPPS])) as association:
            response = await association.n_get(MPPS, "1.2")
    assert response.status == 0xC000
    assert response.command.error_comment == "not this one"
    assert response.command.offending_element == (0x7FE00010,)


class Trouble:
    """A destination that fails at one step or another."""

    def __init__(self) -> None:
        self.step = ""
        self.seen: list[str] = []

    def fail(self, step: str) -> None:
        self.seen.append(step)
        if step == self.step:
            raise dulcet.ReceiveError(f"no {step}", {"begin": 0xA700, "write": 0xA701, "commit": 0xA900}[step])

    def begin(self, *about: str, source_ae_title: str = "") -> Trouble:
        assert source_ae_title == "DULCET"
        self.fail("begin")
        return self

    def write(self, data: memoryview, /) -> None:
        self.fail("write")

    def commit(self) -> str:
        self.fail("commit")
        return "kept"

    def discard(self) -> None:
        self.seen.append("discard")


@on_each_face
async def test_a_destination_that_fails_refuses_with_its_status_and_is_cleaned_up(faces: Faces, file: Path) -> None:
    trouble = Trouble()

    async def handler(request: Any) -> None:
        assert await request.save(trouble) == "kept"
        await request.respond(Status.SUCCESS)

    with faces.handling(handler) as provider:
        async with faces.associate(provider.address) as association:
            for step, status in (("begin", 0xA700), ("write", 0xA701), ("commit", 0xA900), ("", 0)):
                trouble.step = step
                trouble.seen.clear()
                assert (await association.store(file)).status == status
                assert trouble.seen.count("write") == {"begin": 0, "write": 1}.get(step, trouble.seen.count("write"))
                assert ("discard" in trouble.seen) == (step != "begin")


# ---------------------------------------------------------------------- how it ends


@on_each_face
async def test_an_exception_in_the_block_aborts(faces: Faces) -> None:
    async def script(association: Any) -> None:
        async for request in association.requests():
            await request.respond()

    with faces.accepting(script) as provider:
        with pytest.raises(ZeroDivisionError):  # noqa: PT012
            async with faces.associate(provider.address) as association:
                await association.echo()
                raise ZeroDivisionError
        assert association.ending == "aborted"
        with pytest.raises(dulcet.AssociationAborted):
            await association.echo()
        await association.release()
        await association.abort()
        await association.close()
        assert association.ending == "aborted"
    assert provider.endings == ["aborted"]
    assert [type(error) for error in provider.errors] == [dulcet.AssociationAborted]


@on_each_face
@pytest.mark.parametrize("no", ["context", "status"])
async def test_a_no_of_the_peer_ends_the_block_in_order(faces: Faces, no: str) -> None:
    async def script(association: Any) -> None:
        async for request in association.requests():
            await request.respond(0x0110)

    with faces.accepting(script) as provider:
        refused = dulcet.NoPresentationContext if no == "context" else dulcet.StatusError
        with pytest.raises(refused):
            async with faces.associate(provider.address) as association:
                (await association.echo()).check() if no == "status" else await association.n_get("1.2.3", "1.2.3.4")
        assert association.ending == "released"
    assert provider.endings == ["released"]
    assert provider.errors == []


@on_each_face
async def test_the_provider_may_abort_or_release(faces: Faces, file: Path) -> None:
    async def script(association: Any) -> None:
        async for request in association.requests():
            if request.field == STORE:
                await association.abort()
                return
            await request.respond()
            await association.release()
            return

    with faces.accepting(script) as provider:
        async with faces.associate(provider.address) as association:
            with pytest.raises(dulcet.AssociationAborted) as raised:
                await association.store(file)
            assert (raised.value.by_us, association.ending) == (False, "aborted")
        until(lambda: provider.endings == ["aborted"])
        async with faces.associate(provider.address) as association:
            assert (await association.echo()).status == 0
            with pytest.raises(dulcet.AssociationClosed, match="released"):  # noqa: PT012
                while True:
                    await association.echo()
            assert association.ending == "released"
    assert provider.endings == ["aborted", "released"]


@on_each_face
async def test_a_response_that_does_not_come_is_a_timeout(faces: Faces) -> None:
    gone = threading.Event()

    async def script(association: Any) -> None:
        async for request in association.requests():
            await request.defer()
            assert gone.wait(20)

    with faces.accepting(script) as provider:
        config = AssociationConfig(timers=Timers(response=0.2))
        async with faces.associate(provider.address, config=config) as association:
            with pytest.raises(dulcet.DimseTimeout, match=r"Timers\.response"):
                await association.echo()
            gone.set()
            assert association.ending == "timeout"
            with pytest.raises(dulcet.DimseTimeout):
                await association.echo()


@on_each_face
async def test_an_interrupt_from_another_thread_ends_the_wait(faces: Faces) -> None:
    gone = threading.Event()

    async def script(association: Any) -> None:
        async for request in association.requests():
            await request.defer()
            assert gone.wait(20)

    with faces.accepting(script) as provider:
        async with faces.associate(provider.address) as association:
            timer = threading.Timer(0.1, getattr(association, "inner", association).interrupt)
            timer.start()
            with pytest.raises(dulcet.AssociationAborted) as raised:
                await association.echo()
            assert raised.value.by_us
            gone.set()
            timer.join()


@on_each_face
async def test_refusals_carry_what_the_peer_said(faces: Faces) -> None:
    _, handler = keeping()
    policies = {
        (1, 1, 7): AcceptancePolicy(called=frozenset(["OTHER"])),
        (1, 1, 3): AcceptancePolicy(calling=frozenset(["FRIEND"])),
        (2, 3, 1): AcceptancePolicy(admission_hook=lambda request: (2, 3, 1)),
        (1, 1, 1): AcceptancePolicy(verifier=lambda identity, request: False),
    }
    for expected, policy in policies.items():
        with faces.handling(handler, policy=policy) as provider:
            with pytest.raises(dulcet.AssociationRefused) as raised:
                async with faces.associate(provider.address):
                    pass
            refused = raised.value
            assert (refused.result, refused.source, refused.reason) == expected
            assert refused.transient == (expected[0] == 2)


@on_each_face
async def test_a_server_takes_as_many_as_it_may(faces: Faces) -> None:
    _, handler = keeping()
    with faces.handling(handler, maximum_associations=2) as provider:
        async with faces.associate(provider.address) as first, faces.associate(provider.address) as second:
            with pytest.raises(dulcet.AssociationRefused, match="2,3,2"):
                async with faces.associate(provider.address):
                    pass
            assert [(await one.echo()).status for one in (first, second)] == [0, 0]
        provider.finish()
        async with faces.associate(provider.address) as third:
            assert (await third.echo()).status == 0


@on_each_face
async def test_who_asks_is_negotiated(faces: Faces) -> None:
    heard: list[Any] = []

    async def script(association: Any) -> None:
        heard.append(association.identity)
        heard.append(association.extended(FIND))
        async for request in association.requests():
            await request.respond()

    def verifier(identity: Any, request: Any) -> Any:
        return None if identity is None else dulcet.Identified(identity.primary.decode())

    policy = AcceptancePolicy(
        any_class=(), verifier=verifier, extended={FIND: dulcet.QueryOptions(relational=True, fuzzy=True)}
    )
    with faces.accepting(script, policy=policy) as provider:
        options = {"identity": dulcet.UserIdentity.username("me", confirm=True)}
        extended = {FIND: dulcet.QueryOptions(relational=True)}
        async with faces.associate(provider.address, extended=extended, **options) as association:
            agreed = association.extended(FIND)
            assert agreed is not None
            assert agreed.relational
            assert not agreed.fuzzy
    assert heard[0] == "me"
    assert heard[1].relational
    with faces.accepting(script, policy=ANYTHING) as provider, pytest.raises(dulcet.IdentityUnconfirmed):
        async with faces.associate(provider.address, **options):
            pass


@on_each_face
async def test_a_peer_that_is_not_there_is_unreachable(faces: Faces) -> None:
    with pytest.raises(dulcet.PeerUnreachable, match=r"127\.0\.0\.1:\d+: refused, nothing listens on that port"):
        async with faces.associate(f"NOBODY@127.0.0.1:{free_port()}"):
            pass
    with pytest.raises(dulcet.PeerUnreachable, match="check the name before the colon"):
        async with faces.associate("NOBODY@no-such-host.invalid:104"):
            pass
    with pytest.raises(dulcet.AddressError):
        async with faces.associate("no address"):
            pass


@on_each_face
async def test_observers_are_told_the_same(faces: Faces, file: Path) -> None:
    user, other = dulcet.Metrics(), dulcet.Metrics()
    _, handler = keeping()
    with faces.handling(handler, config=AssociationConfig(observers=(other,))) as provider:
        async with faces.associate(provider.address, config=AssociationConfig(observers=(user,))) as association:
            await association.echo()
            await association.store(file)
        provider.finish()
    for metrics in (user, other):
        assert metrics.counts["C-ECHO 0000H"] == metrics.counts["C-STORE 0000H"] == 1
        assert metrics.counts["C-STORE bytes"] == len(read_instance(file).data_set())
        for name in ("ConnectionOpened", "AssociationRequested", "AssociationAccepted", "AssociationReleased"):
            assert metrics.counts[name] == 1, name
        assert metrics.counts["ConnectionClosed"] == 1


# ---------------------------------------------------------------------- twins


def public(kind: type) -> set[str]:
    return {name for name, _ in inspect.getmembers(kind) if not name.startswith("_")}


def shape(function: Any) -> list[tuple[str, Any, Any]]:
    parameters = inspect.signature(function).parameters.values()
    return [(one.name, one.kind, one.default) for one in parameters]


CLASSES: dict[str, tuple[type, type]] = {
    "Association": (Association, dulcet.aio.Association),
    "IncomingRequest": (dulcet.IncomingRequest, dulcet.aio.IncomingRequest),
    "Pool": (dulcet.Pool, dulcet.aio.Pool),
    "RequestInThread": (dulcet.IncomingRequest, RequestInThread),
}


def twins() -> dict[str, tuple[Any, Any]]:
    found: dict[str, tuple[Any, Any]] = {"associate": (dulcet.associate, dulcet.aio.associate)}
    for name, (one, other) in CLASSES.items():
        for member in sorted(public(one) & public(other)):
            found[f"{name}.{member}"] = (inspect.getattr_static(one, member), inspect.getattr_static(other, member))
    return found


@pytest.mark.parametrize("name", CLASSES)
def test_twins_have_the_same_names(name: str) -> None:
    one, other = CLASSES[name]
    assert public(one) ^ public(other) == set()


@pytest.mark.parametrize("name", twins())
def test_twins_are_identical_up_to_await(name: str) -> None:
    one, other = twins()[name]
    assert inspect.getdoc(one) == inspect.getdoc(other)
    assert isinstance(one, property) == isinstance(other, property)
    if callable(one):
        assert shape(one) == shape(other)


def test_servers_and_receivers_take_the_same_parameters() -> None:
    assert shape(dulcet.listen) == [one for one in shape(dulcet.aio.serve) if one[0] != "handler"]
    wanted = {name for name, _, _ in shape(Receiver.__init__)}
    assert wanted - {"self"} == {name for name, _, _ in shape(dulcet.aio.serve)}
    for kind in (dulcet.Listener, Receiver):
        assert public(kind) <= public(dulcet.aio.Server)
    # `Receiver.interrupt` may hold for associations still to be taken: a loop takes them at once.
    for name in ("accept", "close", "stop"):
        server = getattr(dulcet.aio.Server, name)
        twin = getattr(Receiver, name, None) or getattr(dulcet.Listener, name)
        assert shape(server) == shape(twin)
