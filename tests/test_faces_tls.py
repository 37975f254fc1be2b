"""Associations under TLS, the same on every face and between any two."""

from __future__ import annotations

import logging
import socket
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
import pytest
from tests.corpus import CT_IMAGE, make_folder, make_instance, read_instance
from tests.faces import Faces, on_each_face, until
from tests.tls.authority import Authority

import dulcet
from dulcet import AcceptancePolicy, AssociationConfig, Status, Timers
from dulcet.errors import CertificateRefused, PeerNotTrusted, TLSConfigError, TLSError
from dulcet.io.certificates import CertificateTable
from dulcet.io.tls import TLSConfig
from dulcet.services.identifiers import encode_dataset


@dataclass
class Secured:
    """What both sides need."""

    authority: Authority
    server: TLSConfig
    client: TLSConfig
    pin: str


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Secured:
    authority = Authority(tmp_path_factory.mktemp("tls"))
    theirs, ours = authority.issue(), authority.issue("user", "DNS:user")
    return Secured(
        authority,
        TLSConfig(ca_file=authority.file, **theirs.files),
        TLSConfig(ca_file=authority.file, **ours.files),
        ours.pin,
    )


async def succeed(request: Any) -> None:
    await request.respond()


@on_each_face
async def test_images_travel_under_tls(faces: Faces, secured: Secured, tmp_path: Path) -> None:
    files = [*make_folder(tmp_path / "some", 20, 3_000), make_instance(tmp_path / "long.dcm", 9 << 20, 99, CT_IMAGE)]
    stored: dict[str, bytes] = {}
    sessions: list[Any] = []

    async def script(association: Any) -> None:
        sessions.append(association.tls)
        async for request in association.requests():
            stored[request.sop_instance_uid] = await request.read()
            await request.respond()

    with faces.accepting(script, tls=secured.server) as provider:
        config = AssociationConfig(window_invoked=4)
        async with faces.associate(provider.address, tls=secured.client, config=config) as association:
            assert association.tls.version == "TLSv1.3"
            assert association.tls.certificate is not None
            assert all([sent.ok async for sent in association.store_many(files)])
        assert association.ending == "released"
    assert stored == {read_instance(path).sop_instance_uid: read_instance(path).data_set() for path in files}
    assert sessions[0].certificate is not None
    assert provider.errors == []


@on_each_face
async def test_find_and_large_answers_under_tls(faces: Faces, secured: Secured) -> None:
    async def handler(request: Any) -> None:
        match = pydicom.Dataset()
        match.PatientName = "DOE"
        data = encode_dataset(match, request.transfer_syntax)[0]
        for _ in range(500):
            await request.respond(Status.PENDING, data)
        await request.respond()

    with faces.handling(handler, tls=secured.server, policy=AcceptancePolicy(any_class=())) as provider:
        async with faces.associate(provider.address, tls=secured.client) as association:
            found = 0
            async for _ in association.find(level="STUDY", PatientName=""):
                found += 1
            assert found == 500


@on_each_face
async def test_a_slow_reader_of_a_data_set_gets_it_whole(faces: Faces, secured: Secured, tmp_path: Path) -> None:
    file = make_instance(tmp_path / "long.dcm", 8 << 20, sop_class_uid=CT_IMAGE)
    data = read_instance(file).data_set()
    pause = threading.Event()

    async def handler(request: Any) -> None:
        whole = bytearray()
        async for piece in request.chunks():
            whole += piece
            pause.wait(0.002)
        assert whole == data
        await request.respond()

    with faces.handling(handler, tls=secured.server) as provider:
        async with faces.associate(provider.address, tls=secured.client) as association:
            assert (await association.store(file)).ok
    assert provider.errors == []


@on_each_face
async def test_who_cannot_be_trusted_is_not_spoken_to(
    faces: Faces, secured: Secured, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stranger = Authority(tmp_path, "Stranger")
    with faces.handling(succeed, tls=secured.server) as provider:
        with pytest.raises(PeerNotTrusted, match="nobody here knows its CA"):
            async with faces.associate(provider.address, tls=TLSConfig(ca_file=stranger.file)):
                pass
        with pytest.raises(CertificateRefused):
            async with faces.associate(provider.address, tls=TLSConfig(ca_file=secured.authority.file)):
                pass
        with pytest.raises((dulcet.AssociationError, dulcet.DimseTimeout)):
            async with faces.associate(
                provider.address, config=AssociationConfig(timers=Timers(associate=1.0))
            ):
                pass
        with pytest.raises(TLSConfigError, match="missing"):
            async with faces.associate(provider.address, tls=TLSConfig(ca_file=tmp_path / "missing")):
                pass
        async with faces.associate(provider.address, tls=secured.client) as association:
            assert (await association.echo()).status == 0
    assert "gave no certificate" in caplog.text
    assert "without TLS" in caplog.text


@on_each_face
async def test_a_client_meets_a_port_without_tls(faces: Faces, secured: Secured) -> None:
    with faces.handling(succeed) as provider, pytest.raises(TLSError, match="without TLS"):
        async with faces.associate(provider.address, tls=secured.client):
            pass


@on_each_face
async def test_a_handshake_that_does_not_come_is_given_up(
    faces: Faces, secured: Secured, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    quick = AssociationConfig(timers=Timers(tls=0.3))
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(TLSError, match=r"no TLS handshake within 0\.3 s; does it speak TLS"):
            async with faces.associate(f"X@127.0.0.1:{silent.getsockname()[1]}", tls=secured.client, config=quick):
                pass
    with faces.handling(succeed, tls=secured.server, config=quick) as provider:
        port = int(provider.address.rpartition(":")[2])
        for said in (b"", b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/1.1\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", port)) as sock:
                sock.settimeout(10)
                sock.sendall(said)
                while sock.recv(1000):
                    pass
        until(lambda: "no TLS handshake within 0.3 s" in caplog.text and "speaks HTTP" in caplog.text)


@on_each_face
async def test_a_certificate_is_bound_to_titles(faces: Faces, secured: Secured) -> None:
    table = CertificateTable({f"sha256:{secured.pin}": "USER"})
    server = TLSConfig(
        ca_file=secured.server.ca_file, certificate=secured.server.certificate, key=secured.server.key, table=table
    )
    with faces.handling(succeed, tls=server) as provider:
        async with faces.associate(provider.address, tls=secured.client, calling_ae_title="USER") as association:
            assert (await association.echo()).status == 0
        with pytest.raises(dulcet.AssociationRefused, match="1,1,3"):
            async with faces.associate(provider.address, tls=secured.client, calling_ae_title="OTHER"):
                pass
