"""Ctrl-C at any moment leaves a clean wire: whole PDUs, then A-ABORT, and the program is gone within three seconds."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from tests.blocking.interruptible import Stopped, without_coverage
from tests.blocking.providing import provider
from tests.blocking.scripted import PATIENCE, Message, Wire, aborts, peer
from tests.corpus import CT_IMAGE, make_folder, make_instance

import dulcet
from dulcet.services.proposals import proposals
from dulcet.upper_layer.items import AsynchronousOperationsWindow
from dulcet.upper_layer.pdu import Abort, PDataTF

TRIES = 100
PROGRAM = (sys.executable, "-m", "tests.blocking.interruptible")
ROOT = Path(__file__).resolve().parents[2]


class Moment:
    """When Ctrl-C is to be pressed."""

    def __init__(self) -> None:
        self.come = threading.Event()


@pytest.fixture
def moment() -> Moment:
    return Moment()


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return make_folder(tmp_path / "files", 40, 100_000, CT_IMAGE)


def ends_quickly(moment: Moment, address: str, verb: str, *files: Path) -> None:
    """Run the program, press Ctrl-C when the moment has come, and see it end."""
    command = [*PROGRAM, address, verb, *map(str, files)]
    process = subprocess.Popen(command, cwd=ROOT, env=without_coverage(), stderr=subprocess.PIPE, text=True)
    try:
        assert moment.come.wait(PATIENCE)
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE)
        assert time.monotonic() - start < 3
        assert "KeyboardInterrupt" in errors
        assert process.returncode == -signal.SIGINT
    finally:
        process.kill()
        process.wait(PATIENCE)


def test_while_an_answer_is_awaited(moment: Moment) -> None:
    def silent(wire: Wire) -> None:
        wire.accept()
        wire.message()
        moment.come.set()
        assert aborts(wire) == Abort(0, 0)

    with peer(silent) as made:
        ends_quickly(moment, made.address, "echo")


def test_while_the_association_is_awaited(moment: Moment) -> None:
    def silent(wire: Wire) -> None:
        wire.pdu()
        moment.come.set()
        aborts(wire)

    with peer(silent) as made:
        ends_quickly(moment, made.address, "echo")


def test_while_requests_are_awaited(moment: Moment) -> None:
    def silent(wire: Wire) -> None:
        wire.accept()
        moment.come.set()
        aborts(wire)

    with peer(silent) as made:
        ends_quickly(moment, made.address, "requests")


@pytest.mark.parametrize("window", [None, AsynchronousOperationsWindow(8, 1)], ids=["one", "eight"])
def test_in_the_middle_of_many(moment: Moment, files: list[Path], window: AsynchronousOperationsWindow | None) -> None:
    def half_of_them(wire: Wire) -> None:
        wire.accept(window=window)
        for number in range(38):  # of 40: it cannot get away before
            message = wire.message()
            if not isinstance(message, Message):
                assert isinstance(message, Abort)
                return
            wire.answer(message)
            if number == 20:
                moment.come.set()
        aborts(wire)

    with peer(half_of_them) as made:
        ends_quickly(moment, made.address, "store_many", *files)


def test_in_the_middle_of_a_large_one(moment: Moment, tmp_path: Path) -> None:
    """The peer reads slowly, so that Ctrl-C finds the buffers full."""
    large = make_instance(tmp_path / "large.dcm", 64 << 20, sop_class_uid=CT_IMAGE)

    def slow(wire: Wire) -> None:
        wire.accept()
        for _ in range(20):
            assert isinstance(wire.pdu(), PDataTF)
        moment.come.set()
        aborts(wire)

    with peer(slow) as made:
        ends_quickly(moment, made.address, "store", large)


def test_with_several_associations_and_a_peer_that_has_stopped_answering(moment: Moment, files: list[Path]) -> None:
    def stops(wire: Wire) -> None:
        wire.accept(window=AsynchronousOperationsWindow(8, 1))
        for _ in range(3):
            message = wire.message()
            assert message is None or isinstance(message, Message | Abort)
        moment.come.set()
        if "Abort" not in wire.pdus and "PDataTF" in wire.pdus:  # one that had not begun yet may just be closed
            aborts(wire)

    def given(wire: Wire) -> None:
        wire.accept()
        aborts(wire)

    with peer(given, stops) as made:
        ends_quickly(moment, made.address, "parallel", *files)


def test_at_any_moment(tmp_path: Path) -> None:
    """Many tries at random moments: the stream is whole PDUs up to the A-ABORT, each time."""
    large = make_instance(tmp_path / "large.dcm", 8 << 20, sop_class_uid=CT_IMAGE)
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)

    def reads(wire: Wire) -> None:
        wire.accept(maximum_length=chance.choice([0, 4096, 16384]))
        wire.serve()

    with peer(reads) as made:
        done = subprocess.run(
            [*PROGRAM, made.address, "at_any_moment", str(large), str(TRIES), str(seed)],
            cwd=ROOT, env=without_coverage(), stdout=subprocess.PIPE, timeout=60, check=True,
        )  # fmt: skip
        made.join()
        assert int(done.stdout) == TRIES, f"seed {seed}"
        for wire in made.wires:
            assert "Abort" in wire.pdus, f"seed {seed}: {wire.pdus[-3:]}"


def test_a_caught_interrupt_of_store_does_not_send_another_file_in_its_place(tmp_path: Path) -> None:
    """The file was closed under the half-sent message: that association cannot go on."""
    large = make_instance(tmp_path / "large.dcm", 32 << 20, sop_class_uid=CT_IMAGE)

    def reads_a_little(wire: Wire) -> None:
        wire.accept()
        wire.pdu()
        aborts(wire)

    with peer(reads_a_little) as made:
        association = dulcet.associate(made.address, contexts=proposals([CT_IMAGE]))

        def raises() -> None:
            raise Stopped

        waits = 0
        real = association._transport.wait

        def wait(**options: object) -> object:
            nonlocal waits
            waits += 1
            if waits == 3:
                raises()
            return real(**options)  # type: ignore[arg-type]

        association._transport.wait = wait  # type: ignore[method-assign,assignment]
        with pytest.raises(Stopped):
            association.store(large)
        assert association.ending == "aborted"
        with pytest.raises(dulcet.AssociationAborted):
            association.store(large)


def test_a_provider_in_the_middle_of_receiving(tmp_path: Path) -> None:
    """An exception in the loop over requests aborts, and the sender hears of it."""
    file = make_instance(tmp_path / "one.dcm", 8 << 20, sop_class_uid=CT_IMAGE)

    def fails(made: object, association: dulcet.Association) -> None:
        for request in association.requests():
            for _ in request.chunks():
                raise Stopped

    with provider(each=fails) as made:
        association = dulcet.associate(made.address, contexts=proposals([CT_IMAGE]))
        with pytest.raises(dulcet.AssociationError):
            association.store(file)
        made.join()
        assert made.endings == ["aborted"]
        assert [type(error) for error in made.errors] == [Stopped]
