"""Sending many on every face: one association at a time, contexts that are taken over, and looking ahead."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop
from tests.blocking.providing import provider
from tests.blocking.scripted import Wire, peer
from tests.corpus import CT_IMAGE, SECONDARY_CAPTURE, make_folder, make_instance, read_instance
from tests.faces import PATIENCE, tasks_gone

import dulcet
import dulcet.aio.sending
import dulcet.blocking.sending
from dulcet import uids
from dulcet.config import Timers
from dulcet.io import upcoming
from dulcet.services.proposals import proposals
from dulcet.services.results import Sent

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
ONE_CALLER = dulcet.AssociationConfig(timers=Timers(associate=10.0))


class Sender:
    """`StoreMany` of one face; what it gives is added to `results` as it comes."""

    def __init__(self, face: str) -> None:
        self.face = face
        self.results: list[Sent] = []

    def send(self, address: str, what: Iterable[Any], looking: Callable[[], object] = bool, **options: Any) -> None:
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
    monkeypatch.setattr(upcoming, "FIRST", first)
    monkeypatch.setattr(upcoming, "BATCH", 6)
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
    mixed = of_classes(tmp_path, sorted(uids.STORAGE_CLASSES)[:150])  # two contexts each
    with peer(one_caller()) as made:
        sender.send(made.address, mixed, config=ONE_CALLER)
    assert sender.failed == {}
    assert len(sender.results) == 150
    assert len(made.wires) == 3


def test_the_next_association_takes_over_the_contexts_of_the_one_before(
    sender: Sender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upcoming, "BATCH", 1)
    mixed = of_classes(tmp_path, [CT_IMAGE, SECONDARY_CAPTURE, *sorted(uids.STORAGE_CLASSES)[:4], CT_IMAGE])
    most = 0

    def look() -> None:
        nonlocal most
        most = max(most, made.listener.count)

    with provider() as made:
        sender.send(made.address, mixed, look)
        made.join()
        assert made.endings == ["released"] * (len(mixed) - 1)
        assert [len(association.contexts) for association in made.associations] == [2, 4, 6, 8, 10, 12]
    assert sender.failed == {}
    assert most <= 2  # the provider may still count the one that was just released


def test_what_was_refused_is_not_proposed_again_and_again(
    sender: Sender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upcoming, "FIRST", 2)
    monkeypatch.setattr(upcoming, "BATCH", 3)
    mixed = of_classes(tmp_path, [CT_IMAGE, "1.2.3.4.5"] * 6)
    with provider() as made:
        sender.send(made.address, mixed)
        assert len(made.associations) == 1
    assert Counter(sent.path for sent in sender.results) == Counter(mixed)
    assert sender.failed == dict.fromkeys(mixed[1::2], dulcet.NoPresentationContext)


# ---------------------------------------------------------------------- looking ahead


def test_what_follows_is_looked_at_while_the_first_are_sent(
    sender: Sender, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over the same association where it fits; the others have their turn, each once, whatever cannot be sent."""
    monkeypatch.setattr(upcoming, "FIRST", 3)
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
    monkeypatch.setattr(upcoming, "FIRST", 2)
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
        patch.setattr(upcoming, "FIRST", 2)
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
