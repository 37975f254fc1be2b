"""Sending many on every face: one association at a time, contexts that are taken over, and looking ahead."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
import time
import warnings
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pydicom.config
import pytest
import uvloop
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID
from tests.blocking.providing import provider
from tests.blocking.scripted import Message, Peer, Wire, aborts, peer
from tests.corpus import CT_IMAGE, SECONDARY_CAPTURE, make_folder, make_instance, read_instance
from tests.faces import PATIENCE, tasks_gone

import dulcet
import dulcet.aio
import dulcet.aio.sending
import dulcet.blocking.sending
from dulcet import uids
from dulcet.config import Timers
from dulcet.dimse.command import encode_response
from dulcet.io import store_queue
from dulcet.services.proposals import proposals
from dulcet.services.results import Sent
from dulcet.upper_layer.items import AsynchronousOperationsWindow
from dulcet.upper_layer.pdu import AssociateRJ, AssociateRQ, ReleaseRP

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
EXPLICIT, IMPLICIT = uids.EXPLICIT_VR_LITTLE_ENDIAN, uids.IMPLICIT_VR_LITTLE_ENDIAN
BIG, JPEG = uids.EXPLICIT_VR_BIG_ENDIAN, uids.JPEG_BASELINE_8_BIT
LONG = "1.2.840.10008.5.1.4.1.1.7." + "1" * 44
"""70 characters."""
ONE_CALLER = dulcet.AssociationConfig(timers=Timers(associate=10.0))


class Sender:
    """`StoreMany` of one face; what it gives is added to `results` as it comes."""

    def __init__(self, face: str) -> None:
        self.face = face
        self.results: list[Sent] = []

    def send(self, address: str, what: Any, looking: Callable[[], object] = bool, **options: Any) -> None:
        """Send all, and call `looking` after each."""
        where = dulcet.Address.parse(address)
        if self.face == "blocking":
            for sent in dulcet.blocking.sending.StoreMany(where, calling_ae_title="ME", **options).run(what):
                self.results.append(sent)
                looking()
            return

        async def main() -> None:
            async with asyncio.timeout(PATIENCE):
                async for sent in dulcet.aio.sending.StoreMany(where, calling_ae_title="ME", **options).run(what):
                    self.results.append(sent)
                    looking()
            await tasks_gone()

        try:
            with asyncio.Runner(loop_factory=LOOPS[self.face]) as runner:
                runner.run(main())
        except TimeoutError:
            raise AssertionError(f"it hangs after {len(self.results)}") from None

    def send_on(self, address: str, what: Any, **options: Any) -> None:
        """`store_many` on an association of these options."""
        if self.face == "blocking":
            with dulcet.associate(address, **options) as association:
                self.results += association.store_many(what)
            return

        async def main() -> None:
            async with dulcet.aio.associate(address, **options) as association:
                self.results += [sent async for sent in association.store_many(what)]
            await tasks_gone()

        with asyncio.Runner(loop_factory=LOOPS[self.face]) as runner:
            runner.run(main())

    @property
    def failed(self) -> dict[Any, type[Exception | None]]:
        return {sent.path: type(sent.error) for sent in self.results if not sent.ok}


@pytest.fixture(params=["blocking", *LOOPS])
def sender(request: pytest.FixtureRequest) -> Sender:
    return Sender(request.param)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return make_folder(tmp_path / "files", 12, 1000, CT_IMAGE)


def of_classes(folder: Path, classes: Iterable[str]) -> list[Path]:
    return [make_instance(folder / f"{number}.dcm", 64, number, uid) for number, uid in enumerate(classes)]


def one_caller() -> Callable[[Wire], None]:
    """A peer that takes connections at any time, and answers one when the one before it is over."""
    turn = threading.Lock()

    def in_turn(wire: Wire) -> None:
        with turn:
            wire.accept()
            wire.serve()

    return in_turn


# ---------------------------------------------------------------------- one association at a time


@pytest.mark.parametrize("first", [1, 4, 256])
def test_a_mixed_folder_goes_to_a_peer_that_serves_one_caller(
    sender: Sender, first: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_queue, "FIRST", first)
    monkeypatch.setattr(store_queue, "BATCH", 6)
    classes = [CT_IMAGE, SECONDARY_CAPTURE, *sorted(uids.STORAGE_CLASSES)[:6]]
    mixed = of_classes(tmp_path, (classes[number * number % 8 if number < 20 else number % 8] for number in range(40)))
    with peer(one_caller()) as made:
        sender.send(made.address, mixed, config=ONE_CALLER)
        made.join()
        assert all(wire.pdus[-2:] == ["ReleaseRQ", "end"] for wire in made.wires)
    assert sender.failed == {}
    assert Counter(sent.path for sent in sender.results) == Counter(mixed)
    assert 1 < len(made.wires) <= 8, "each new one takes over what was proposed before"


def test_more_contexts_than_one_association_takes_go_to_a_peer_that_serves_one_caller(
    sender: Sender, tmp_path: Path
) -> None:
    mixed = of_classes(tmp_path, sorted(uids.STORAGE_CLASSES)[:150])
    with peer(one_caller()) as made:
        sender.send(made.address, mixed, config=ONE_CALLER)
    assert sender.failed == {}
    assert len(sender.results) == 150
    assert len(made.wires) == 2


def test_the_next_association_takes_over_the_contexts_of_the_one_before(
    sender: Sender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_queue, "BATCH", 1)
    mixed = of_classes(tmp_path, [CT_IMAGE, SECONDARY_CAPTURE, *sorted(uids.STORAGE_CLASSES)[:4], CT_IMAGE])
    most = 0

    def look() -> None:
        nonlocal most
        most = max(most, made.listener.count)

    with provider() as made:
        sender.send(made.address, mixed, look)
        made.join()
        assert made.endings == ["released"] * (len(mixed) - 1)
        assert [len(association.contexts) for association in made.associations] == [1, 2, 3, 4, 5, 6]
    assert sender.failed == {}
    assert most <= 2  # the provider may still count the one that was just released


def test_what_was_refused_is_not_proposed_again_and_again(
    sender: Sender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_queue, "FIRST", 2)
    monkeypatch.setattr(store_queue, "BATCH", 3)
    mixed = of_classes(tmp_path, [CT_IMAGE, "1.2.3.4.5"] * 6)
    with provider() as made:
        sender.send(made.address, mixed)
        assert len(made.associations) == 2, "the second one for the fallback"
    assert Counter(sent.path for sent in sender.results) == Counter(mixed)
    assert sender.failed == dict.fromkeys(mixed[1::2], dulcet.NoPresentationContext)


# ---------------------------------------------------------------------- one context for each class


def in_syntax(syntax: str, number: int, sop_class: str = CT_IMAGE, instance: str = "") -> Dataset:
    """A data set without pixels, said to be in a transfer syntax."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = UID(syntax)
    with pydicom.config.disable_value_validation():
        made.SOPClassUID = sop_class
        made.SOPInstanceUID = instance or f"1.2.3.{number}"
    made.PatientID = "1"
    return made


def syntaxes(peer: Peer) -> list[list[tuple[str, ...]]]:
    """What was proposed for each class on each association."""
    requests = [wire.request for wire in peer.wires if wire.request is not None]
    for request in requests:
        classes = [context.abstract_syntax for context in request.presentation_contexts]
        assert len(set(classes)) == len(classes), "one context for each class"
    return [[context.transfer_syntaxes for context in request.presentation_contexts] for request in requests]


def taking(*wanted: str) -> Callable[[Wire], None]:
    """A peer that takes one of these, in its own order, and no more than one caller at a time."""
    turn = threading.Lock()

    def script(wire: Wire) -> None:
        with turn:
            wire.accept(lambda proposed: next((uid for uid in wanted if uid in proposed.transfer_syntaxes), None))
            wire.serve()

    return script


def test_a_class_in_several_syntaxes_goes_as_it_is_over_an_association_for_each(sender: Sender) -> None:
    mixed = [in_syntax((JPEG, EXPLICIT, IMPLICIT)[number % 3], number) for number in range(30)]
    with peer(taking(IMPLICIT, EXPLICIT, JPEG)) as made:
        sender.send(made.address, [in_syntax((JPEG, IMPLICIT)[number % 2], number) for number in range(20)])
        assert syntaxes(made) == [[(JPEG, IMPLICIT)], [(JPEG,)]]
    assert {(str(sent.path.file_meta.TransferSyntaxUID), sent.transfer_syntax) for sent in sender.results} == {
        (JPEG, JPEG), (IMPLICIT, IMPLICIT),
    }  # fmt: skip
    sender.results.clear()
    with peer(taking(EXPLICIT, JPEG, IMPLICIT)) as made:
        sender.send(made.address, mixed)
        assert syntaxes(made) == [[(JPEG, EXPLICIT, IMPLICIT)], [(JPEG, IMPLICIT)], [(IMPLICIT,)]]
    assert sender.failed == {}
    assert len(sender.results) == 30
    assert all(sent.transfer_syntax == sent.path.file_meta.TransferSyntaxUID for sent in sender.results)


def test_the_uncompressed_fallback_is_proposed_after_a_refusal_alone(sender: Sender) -> None:
    big = [in_syntax(BIG, number) for number in range(4)]
    with peer(taking(BIG, EXPLICIT, IMPLICIT)) as made:
        sender.send(made.address, big)
        assert syntaxes(made) == [[(BIG,)]]
    assert {sent.transfer_syntax for sent in sender.results} == {BIG}
    with peer(taking(EXPLICIT, IMPLICIT)) as made:
        sender.send(made.address, big)
        assert syntaxes(made) == [[(BIG,)], [(EXPLICIT, IMPLICIT)]]
    assert [sent.transfer_syntax for sent in sender.results[4:]] == [EXPLICIT] * 4
    with peer(taking(JPEG)) as made:
        sender.send(made.address, [*big, in_syntax(JPEG, 9)])
    assert len(sender.results) == 13
    last = sender.results[8:]
    assert [type(sent.error) for sent in last if sent.path in big] == [dulcet.NoPresentationContext] * 4
    assert [sent.transfer_syntax for sent in last if sent.ok] == [JPEG]


def test_a_peer_of_the_default_syntax_alone_gets_that_after_its_refusal(sender: Sender) -> None:
    with peer(taking(IMPLICIT)) as made:
        sender.send(made.address, [in_syntax(EXPLICIT, number) for number in range(4)])
        assert syntaxes(made) == [[(EXPLICIT,)], [(IMPLICIT,)]]
    assert [(sent.ok, sent.transfer_syntax) for sent in sender.results] == [(True, IMPLICIT)] * 4


@pytest.mark.parametrize("associations", [1, 3])
def test_a_peer_that_rejects_what_it_cannot_take_is_asked_for_the_fallback(sender: Sender, associations: int) -> None:
    def script(wire: Wire) -> None:
        request = wire.pdu()
        assert isinstance(request, AssociateRQ)
        if all(EXPLICIT not in context.transfer_syntaxes for context in request.presentation_contexts):
            wire.send(AssociateRJ(1, 1, 1))
            return
        wire.take(request)
        wire.serve()

    with peer(script) as made:
        sender.send(made.address, [in_syntax(BIG, number) for number in range(4)], associations=associations)
    assert [(sent.ok, sent.transfer_syntax) for sent in sender.results] == [(True, EXPLICIT)] * 4


def test_a_peer_that_rejects_everything_is_told_of_as_it_is(sender: Sender) -> None:
    with peer(lambda wire: wire.rejects()) as made, pytest.raises(dulcet.AssociationRefused):
        sender.send(made.address, [in_syntax(BIG, 1)])
    assert len(made.wires) == 2


def test_a_peer_that_does_not_listen_while_it_has_an_association_gets_the_next_one(sender: Sender) -> None:
    mixed = [in_syntax((JPEG, EXPLICIT)[number % 2], number) for number in range(6)]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    listens = threading.Event()
    proposed: list[tuple[str, ...]] = []

    def play() -> None:
        for _ in range(2):
            with socket.create_server(("127.0.0.1", port), reuse_port=False) as listener:
                listener.settimeout(PATIENCE)
                listens.set()
                connection, _address = listener.accept()
            with connection:
                connection.settimeout(PATIENCE)
                wire = Wire(connection)
                proposed.extend(context.transfer_syntaxes for context in wire.accept().presentation_contexts)
                wire.serve()
            time.sleep(0.1)  # what it does in between takes its time

    thread = threading.Thread(target=play)
    thread.start()
    assert listens.wait(PATIENCE)
    sender.send(f"PEER@127.0.0.1:{port}", mixed)
    thread.join(PATIENCE)
    assert [sent.ok for sent in sender.results] == [True] * 6
    assert proposed == [(JPEG, EXPLICIT), (EXPLICIT,)]


# ---------------------------------------------------------------------- what cannot be sent, what was not


@pytest.mark.parametrize(
    ("syntax", "sop_class", "instance"),
    [(EXPLICIT, LONG, ""), (LONG, CT_IMAGE, ""), (EXPLICIT, CT_IMAGE, LONG), (EXPLICIT, "no UID", "")],
    ids=["class", "syntax", "instance", "letters"],
)
def test_a_uid_that_may_not_stand_in_a_pdu_fails_its_file_alone(
    sender: Sender, syntax: str, sop_class: str, instance: str, files: list[Path]
) -> None:
    wrong = in_syntax(syntax, 1, sop_class, instance)
    with provider() as made:
        sender.send(made.address, [wrong, *files])
        assert len(made.stored) == len(files)
    assert [type(sent.error) for sent in sender.results if not sent.ok] == [dulcet.InstanceError]


def test_an_answer_for_another_instance_is_none_for_the_one_that_was_sent(sender: Sender, files: list[Path]) -> None:
    def script(wire: Wire) -> None:
        wire.accept()
        for named in ("1.2.3", None):
            message = wire.message()
            assert isinstance(message, Message)
            command, name = message.command, message.command.sop_class_uid
            wire.send_command(message.context_id, encode_response(1, command.message_id or 0, name, named, 0))
        wire.serve()

    with peer(script) as made:
        sender.send(made.address, files, window=1)
    first, second, *_ = sender.results
    assert isinstance(first.error, dulcet.RemoteProtocolError)
    assert "for another instance, 1.2.3, when" in str(first.error)
    assert (first.status, first.ok) == (None, False)
    assert second.ok, "the name is optional in an answer"
    assert len(sender.failed) == 1


@pytest.mark.parametrize("window", [1, 4])
def test_a_peer_that_answers_on_another_context_of_the_class_is_understood_and_logged_once(
    sender: Sender, files: list[Path], window: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The contexts are the program's own: `store_many` proposes one for each class."""

    def script(wire: Wire) -> None:
        wire.accept(window=AsynchronousOperationsWindow(window, 1))
        while isinstance(message := wire.message(), Message):
            message.context_id = 1
            wire.answer(message)
        wire.send(ReleaseRP())

    contexts = [dulcet.Proposal(CT_IMAGE, (syntax,)) for syntax in (IMPLICIT, EXPLICIT)]
    config = dulcet.AssociationConfig(window_invoked=window)
    with peer(script) as made:
        sender.send_on(made.address, files, contexts=contexts, config=config)
    assert [sent.ok for sent in sender.results] == [True] * len(files)
    assert {sent.transfer_syntax for sent in sender.results} == {EXPLICIT}
    said = [record.message for record in caplog.records if "it answers on context 1" in record.message]
    assert len(said) == 1
    assert "asked on context 3" in said[0]


def test_a_peer_whose_answers_fit_nothing_is_not_waited_for(sender: Sender, files: list[Path]) -> None:
    def script(wire: Wire) -> None:
        wire.accept()
        message = wire.message()
        assert isinstance(message, Message)
        wire.send_command(message.context_id, encode_response(1, 999, CT_IMAGE, None, 0))
        aborts(wire)

    with peer(script) as made:
        sender.send(made.address, files)
    assert len(sender.results) == len(files)
    assert set(sender.failed.values()) == {dulcet.AssociationAborted}
    assert "answered with C-STORE-RSP to message 999 on context 1; expected" in str(sender.results[0].error)
    assert len(made.wires) == 3, "it is given up as one that gets nothing across"


def test_a_path_a_folder_and_an_iterable_with_folders_are_sent(sender: Sender, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    files = [*make_folder(folder / "a", 3, 100, CT_IMAGE), make_instance(folder / "z.dcm", 100, 77)]
    (folder / "a" / "README").write_text("this is none, but it is told of")
    (folder / "empty").mkdir()
    found = [str(folder / "z.dcm"), *(str(file) for file in files[:3]), str(folder / "a" / "README")]
    with provider() as made:
        for what, expected in (
            (folder / "z.dcm", [folder / "z.dcm"]),
            (str(folder / "z.dcm"), [str(folder / "z.dcm")]),
            (folder, found),
            (str(folder), found),
            ([folder / "empty", folder / "a", folder / "z.dcm"], [*found[1:], folder / "z.dcm"]),
            (files[0].read_bytes(), [files[0].read_bytes()]),
        ):
            sender.results.clear()
            sender.send(made.address, what)
            assert sorted(map(str, (sent.path for sent in sender.results))) == sorted(map(str, expected))
            assert {type(sent.error) for sent in sender.results if not sent.ok} <= {dulcet.NotDicom}
        sender.results.clear()
        with files[0].open("rb") as file:
            sender.send(made.address, file)
        sender.send(made.address, in_syntax(EXPLICIT, 5))
        assert [sent.ok for sent in sender.results] == [True, True]
        sender.results.clear()
        sender.send(made.address, tmp_path / "nothing")
        assert [type(sent.error) for sent in sender.results] == [dulcet.InstanceError]
        with pytest.raises(TypeError, match="a int cannot be sent"):
            sender.send(made.address, 5)


def test_results_that_nobody_looks_at_are_warned_of(files: list[Path]) -> None:
    where = dulcet.Address.parse("NOBODY@127.0.0.1:1")
    for module in (dulcet.blocking.sending, dulcet.aio.sending):
        job: Any = module.StoreMany(where, calling_ae_title="ME")
        with pytest.warns(RuntimeWarning, match="nothing was sent: what store_many gives is to be iterated over"):
            job.run(files)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dulcet.blocking.sending.StoreMany(where, calling_ae_title="ME").run(files).close()
        gc.collect()


def test_every_face_names_the_move_behind_it_on_an_association_that_was_given(files: list[Path]) -> None:
    behind: list[tuple[Any, Any]] = []

    def script(wire: Wire) -> None:
        wire.accept()
        wire.serve(lambda message: behind.append(tuple(map(message.command.elements.get, (0x1030, 0x1031)))) or 0)

    with peer(script) as made:
        options: Any = {"calling_ae_title": "ME", "originator": ("MOVER", 7)}
        with dulcet.associate(made.address) as association:
            assert all(s.ok for s in dulcet.blocking.sending.StoreMany(None, given=association, **options).run(files))

        async def main() -> None:
            async with dulcet.aio.associate(made.address) as association:
                async for sent in dulcet.aio.sending.StoreMany(None, given=association, **options).run(files):
                    assert sent.ok

        asyncio.run(main())
    assert behind == [("MOVER", 7)] * 2 * len(files)


# ---------------------------------------------------------------------- looking ahead


def test_what_follows_is_looked_at_while_the_first_are_sent(
    sender: Sender, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over the same association where it fits; the others have their turn, each once, whatever cannot be sent."""
    monkeypatch.setattr(store_queue, "FIRST", 3)
    others = [make_instance(tmp_path / f"{number}.dcm", 100, 90 + number, SECONDARY_CAPTURE) for number in range(5)]
    junk = tmp_path / "junk"
    junk.write_bytes(b"no DICOM at all, but long enough to be looked at as if it were")
    mixed = [*files[:4], others[0], junk, *files[4:8], *others[1:], *files[8:]]
    with provider() as made:
        sender.send(made.address, mixed)
        assert set(made.stored) == {read_instance(file).sop_instance_uid for file in [*files, *others]}
        assert len(made.associations) == 2
    assert Counter(sent.path for sent in sender.results) == Counter(mixed)
    assert sender.failed == {junk: dulcet.NotDicom}


def test_a_source_that_fails_later_fails_when_what_it_gave_was_sent(
    sender: Sender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_queue, "FIRST", 2)
    files = make_folder(tmp_path / "files", 100, 200, CT_IMAGE)

    def source() -> Iterator[Path]:
        yield from files
        raise ZeroDivisionError("the source's own")

    with provider() as made:
        with pytest.raises(ZeroDivisionError):
            sender.send(made.address, source())
        assert sender.failed == {}
        assert [sent.path for sent in sender.results] == files
        made.join()
        assert len(made.associations) == 1


def test_nothing_is_sent_for_nothing(sender: Sender) -> None:
    sender.send("NOBODY@127.0.0.1:1", [])
    sender.send("NOBODY@127.0.0.1:1", [b"junk"])
    assert [type(sent.error) for sent in sender.results] == [dulcet.NotDicom]


@pytest.mark.parametrize("loop", LOOPS)
def test_answers_do_not_wait_for_an_asynchronous_source(loop: str, files: list[Path]) -> None:
    """A source that gives the rest once the first were answered, and so would wait for ever otherwise."""
    sender = Sender(loop)
    halfway = asyncio.Event()

    async def source() -> AsyncIterator[Path]:
        for file in files[:6]:
            yield file
            await asyncio.sleep(0.03)  # longer than one look at the source waits: these come by themselves
        await halfway.wait()
        for file in files[6:]:
            yield file

    def look() -> None:
        if len(sender.results) == 6:
            halfway.set()

    monkeypatch = pytest.MonkeyPatch()
    with monkeypatch.context() as patch, provider() as made:
        patch.setattr(store_queue, "FIRST", 2)
        sender.send(made.address, source(), look)  # type: ignore[arg-type]
        assert len(made.associations) == 1
    assert sender.failed == {}
    assert len(sender.results) == 12


def test_what_the_peer_says_of_its_refusal_is_told_on_every_face(sender: Sender, files: list[Path]) -> None:
    def refuse(made: Any, request: Any) -> None:
        request.read()
        request.respond(0xC123, ErrorComment="no Patient ID", OffendingElement=(0x00100020, 0x00100010))

    with provider(refuse) as made:
        sender.send(made.address, files[:2])
        images = proposals([CT_IMAGE])
        with dulcet.Pool() as pool, pool.associate(made.address, contexts=images) as association:
            sender.results.append(association.store(files[2]))
    assert len(sender.results) == 3
    for sent in sender.results:
        assert (sent.status, sent.error_comment, sent.offending_elements) == (
            0xC123, "no Patient ID", (0x00100020, 0x00100010),
        )  # fmt: skip
        with pytest.raises(dulcet.StatusError, match=r"C-STORE of .*\.dcm: C123H .+ \(no Patient ID; \(0010,0020\) "):
            sent.check()
