"""C-ECHO and C-STORE in both roles: every kind of source, in its own syntax or converted, one way and the other."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest
from tests.blocking.providing import Provider, provider
from tests.blocking.scripted import Wire, peer
from tests.corpus import (
    BIG_ENDIAN,
    CT_IMAGE,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    SECONDARY_CAPTURE,
    make_instance,
    read_instance,
    survey,
)

import dulcet
from dulcet import uids
from dulcet.blocking.association import Association
from dulcet.blocking.requests import IncomingRequest
from dulcet.part10.convert import convert
from dulcet.part10.location import locate_path
from dulcet.services.proposals import proposals

MEGABYTE = 1 << 20


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return make_instance(tmp_path / "one.dcm", 300_000, sop_class_uid=CT_IMAGE)


def test_echo() -> None:
    with provider(lambda provider, request: request.respond(0)) as made:
        with dulcet.associate(made.address, calling_ae_title="ME") as association:
            response = association.echo().check()
            assert response.status == 0
            assert association.is_established
            assert (association.called_ae_title, association.calling_ae_title) == ("PROVIDER", "ME")
            assert association.peer == made.address
            assert association.is_requestor
        assert association.ending == "released"
        made.join()
        assert made.endings == ["released"]
        assert made.associations[0].calling_ae_title == "ME"
        assert not made.associations[0].is_requestor


SOURCES: dict[str, Callable[[Path], Any]] = {
    "Path": lambda path: path,
    "str": str,
    "bytes": Path.read_bytes,
    "open file": lambda path: path.open("rb"),
    "BytesIO": lambda path: io.BytesIO(path.read_bytes()),
    "Dataset": pydicom.dcmread,
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES.keys())
def test_every_kind_of_source_is_stored_bit_for_bit(file: Path, source: Callable[[Path], Any]) -> None:
    instance = read_instance(file)
    what = source(file)
    with provider() as made, dulcet.associate(made.address) as association:
        sent = association.store(what).check()
        assert sent.path is what
        assert (sent.sop_class_uid, sent.sop_instance_uid) == (CT_IMAGE, instance.sop_instance_uid)
        assert (sent.transfer_syntax, sent.size) == (EXPLICIT, len(instance.data_set()))
        [again] = association.store_many([source(file)])
        assert again.ok
    assert made.stored == {instance.sop_instance_uid: [instance.data_set()] * 2}


def test_priority_and_originator_travel_with_it(file: Path) -> None:
    seen = []

    def note(provider: Provider, request: IncomingRequest) -> None:
        seen.append([request.command.elements[tag] for tag in (0x0700, 0x1030, 0x1031)])
        provider.keep(request)

    with provider(note) as made, dulcet.associate(made.address) as association:
        association.store(file, priority=1, originator=("MOVER", 17)).check()
    assert seen == [[1, "MOVER", 17]]


def accepting(**syntaxes: tuple[str, ...]) -> dulcet.AcceptancePolicy:
    """A policy for CT and secondary capture in these syntaxes only."""
    return dulcet.AcceptancePolicy(syntaxes={CT_IMAGE: syntaxes["ct"], SECONDARY_CAPTURE: syntaxes.get("sc", ())})


@pytest.mark.parametrize("accepted", [IMPLICIT, BIG_ENDIAN, DEFLATED])
def test_what_the_peer_takes_only_in_another_uncompressed_syntax_is_converted(file: Path, accepted: str) -> None:
    expected, _ = convert(file, locate_path(file), [accepted])
    uid = read_instance(file).sop_instance_uid
    contexts = [dulcet.Proposal(CT_IMAGE, (EXPLICIT,)), dulcet.Proposal(CT_IMAGE, (accepted,))]
    with (
        provider(policy=accepting(ct=(accepted,))) as made,
        dulcet.associate(made.address, contexts=contexts) as association,
    ):
        for sent in (association.store(file), association.store(file.read_bytes())):
            assert (sent.check().transfer_syntax, sent.size) == (accepted, len(expected))
    assert made.stored[uid] == [expected, expected]
    assert made.syntaxes[uid] == accepted


def test_store_many_converts_where_it_must(file: Path) -> None:
    expected, _ = convert(file, locate_path(file), [IMPLICIT])
    with (
        provider(policy=accepting(ct=(IMPLICIT,))) as made,
        dulcet.associate(made.address, contexts=proposals([CT_IMAGE])) as association,
    ):
        [sent] = association.store_many([file])
        assert sent.check().transfer_syntax == IMPLICIT
    assert list(made.stored.values()) == [[expected]]


def test_a_compressed_image_that_the_peer_does_not_take_fails_for_itself_alone(file: Path) -> None:
    jpeg = next(found for found in survey()[0] if found.syntax_name == "JPEGBaseline")
    policy = dulcet.AcceptancePolicy(syntaxes={jpeg.sop_class_uid: (EXPLICIT,), CT_IMAGE: (EXPLICIT,)})
    contexts = proposals([jpeg.sop_class_uid, CT_IMAGE])
    with provider(policy=policy) as made, dulcet.associate(made.address, contexts=contexts) as association:
        with pytest.raises(dulcet.CannotConvert) as caught:
            association.store(jpeg.path)
        assert caught.value.path == jpeg.path
        assert association.store(file).ok
        bad, good = sorted(association.store_many([jpeg.path, file]), key=lambda sent: sent.ok)
        assert isinstance(bad.error, dulcet.CannotConvert | dulcet.NoPresentationContext)
        assert good.ok


def test_a_class_that_the_peer_does_not_take_says_so(file: Path) -> None:
    with (
        provider(policy=dulcet.AcceptancePolicy(syntaxes={uids.VERIFICATION: (IMPLICIT,)})) as made,
        dulcet.associate(made.address) as association,
    ):
        with pytest.raises(dulcet.NoPresentationContext, match=f"did not accept {CT_IMAGE}"):
            association.store(file)
        assert association.is_established
        [sent] = association.store_many([file])
        assert isinstance(sent.error, dulcet.NoPresentationContext)
        with pytest.raises(dulcet.NoPresentationContext):
            sent.check()
    with (
        provider(policy=accepting(ct=())) as made,
        dulcet.associate(made.address, contexts=proposals([CT_IMAGE])) as association,
        pytest.raises(dulcet.NoPresentationContext, match=uids.VERIFICATION),
    ):
        association.echo()


def test_what_cannot_be_sent_is_an_error_and_the_association_stands(tmp_path: Path, file: Path) -> None:
    with provider() as made, dulcet.associate(made.address) as association:
        for what in (tmp_path / "none.dcm", b"no dicom", None):
            with pytest.raises(dulcet.InstanceError):
                association.store(what)
        results = list(association.store_many([tmp_path / "none.dcm", file, b"no dicom"]))
        assert [sent.ok for sent in results] == [False, False, True]
        assert association.store(file).ok


@pytest.mark.parametrize("status", [0x0000, 0xB000, 0xA700, 0xC123, 0x0122])
def test_a_status_is_an_answer(file: Path, status: int) -> None:
    with (
        provider(lambda provider, request: request.respond(status)) as made,
        dulcet.associate(made.address) as association,
    ):
        sent = association.store(file)
        assert (int(sent.status or 0), sent.ok) == (status, status in (0, 0xB000))
        if not sent.ok:
            with pytest.raises(dulcet.StatusError) as caught:
                sent.check()
            assert caught.value.status == status


def test_an_acceptor_stores_and_echoes_where_it_was_given_the_role(file: Path, tmp_path: Path) -> None:
    """As in C-GET: the requestor proposes to be provider of storage, and the acceptor sends."""
    foreign = next(found.path for found in survey()[0] if found.sop_class_uid == SECONDARY_CAPTURE)
    second = make_instance(tmp_path / "two.dcm", 1000, seed=2, sop_class_uid=CT_IMAGE)
    results: list[Any] = []

    def send(provider: Provider, association: Association) -> None:
        results.append(association.echo().status)
        results.append(association.store(file))
        results.extend(association.store_many([file, second, tmp_path / "none", foreign]))

    contexts = [dulcet.Proposal(uid, (EXPLICIT,), provider=True) for uid in (CT_IMAGE, uids.VERIFICATION)]
    got: list[tuple[str, bytes]] = []

    with provider(each=send) as made, dulcet.associate(made.address, contexts=contexts) as association:
        for request in association.requests():  # until the acceptor releases
            got.append((request.sop_instance_uid, request.read()))
            request.respond(0)
    assert results[0] == 0
    errors = [sent.error for sent in results[1:] if not sent.ok]
    assert sorted(type(error).__name__ for error in errors) == ["InstanceError", "NoPresentationContext"]
    one, two = read_instance(file), read_instance(second)
    expected = [("", b""), (one.sop_instance_uid, one.data_set())]
    assert got[:2] == expected
    assert sorted(got[2:]) == sorted([(one.sop_instance_uid, one.data_set()), (two.sop_instance_uid, two.data_set())])
    assert made.errors == []


def test_an_acceptor_sends_over_its_own_association_only(file: Path) -> None:
    errors: list[Exception] = []

    def send(provider: Provider, association: Association) -> None:
        try:
            list(association.store_many([file], associations=2))
        except ValueError as error:
            errors.append(error)
        for _ in association.requests():
            pass

    with provider(each=send) as made, dulcet.associate(made.address):
        pass
    assert "associations must be 1" in str(errors[0])


@pytest.mark.parametrize("length", [8, 4096, 16384, 0])
def test_any_length_that_the_peer_takes_will_do(tmp_path: Path, length: int) -> None:
    file = make_instance(tmp_path / "one.dcm", 1000 if length == 8 else 300_000, sop_class_uid=CT_IMAGE)
    got: list[bytes] = []

    def answering(wire: Wire) -> None:
        wire.accept(maximum_length=length)

        def each(message: Any) -> int:
            got.append(message.data)
            return 0

        wire.serve(each)

    with peer(answering) as made, dulcet.associate(made.address, contexts=proposals([CT_IMAGE])) as association:
        assert association.store(file).ok
    assert got == [read_instance(file).data_set()]


def test_ipv6_and_localhost(file: Path) -> None:
    for host in ("::1", "localhost"):
        with provider(host=host) as made, dulcet.associate(made.address) as association:
            assert association.store(file).ok
