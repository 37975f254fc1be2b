"""TLS with DCMTK and pynetdicom, in both directions: versions, trust, and what is told where there is none."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pynetdicom import AE, evt
from tests.blocking.providing import Provider, provider
from tests.corpus import SECONDARY_CAPTURE, make_folder, make_instance, read_instance
from tests.interop import peers
from tests.tls.authority import Authority, Credentials

import dulcet
from dulcet import TLSConfig
from dulcet.errors import CertificateRefused, PeerNotTrusted, TLSError

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
VERSIONS = {V12: "TLSv1.2", V13: "TLSv1.3"}
SYNTAX = "1.2.840.10008.1.2.1"


class Parties:
    """An authority, two that it vouches for, and one of another authority."""

    def __init__(self, folder: Path) -> None:
        self.authority, self.stranger = Authority(folder), Authority(folder, "Stranger")
        self.ours, self.theirs = self.authority.issue(kind="rsa"), self.authority.issue("peer", "DNS:localhost")
        self.unknown = self.stranger.issue()
        self.revoked = self.authority.issue()
        self.expired = self.authority.issue(days=-1, since=-3)
        self.crl = self.authority.revocation_list(self.revoked)

    @property
    def tls(self) -> TLSConfig:
        """Ours, on either side."""
        return TLSConfig(ca_file=self.authority.file, **self.ours.files)

    def dcmtk(self, credentials: Credentials | None = None, ca: Authority | None = None) -> list[str]:
        """The options of DCMTK's tools."""
        chosen = credentials or self.theirs
        return ["+tls", str(chosen.key), str(chosen.certificate), "+cf", str((ca or self.authority).file)]


@pytest.fixture(scope="module")
def parties(tmp_path_factory: pytest.TempPathFactory) -> Parties:
    return Parties(tmp_path_factory.mktemp("parties"))


def found_whole(server: Provider, files: list[Path]) -> bool:
    """Every data set came once, byte for byte."""
    sent = {read_instance(file).sop_instance_uid: [read_instance(file).data_set()] for file in files}
    return server.stored == sent


# ---------------------------------------------------------------------- DCMTK calls


@pytest.mark.parametrize(("profile", "version"), [("+py", "TLSv1.3"), ("+px", "TLSv1.3"), ("+pz", "TLSv1.2")])
def test_storescu_of_each_profile(parties: Parties, tmp_path: Path, profile: str, version: str) -> None:
    files = [*make_folder(tmp_path / "files", 5, 30_000), make_instance(tmp_path / "big.dcm", 1 << 20, 99)]
    with provider(tls=parties.tls) as server:
        peers.storescu(server.listener.address.port, files, *parties.dcmtk(), profile, "-xe", aet="PROVIDER").check()
        server.join()
        session = server.associations[0].tls
        assert session is not None
        assert session.version == version
        assert session.certificate is not None
        assert session.certificate.pin == parties.theirs.pin
        assert server.endings == ["released"]
        assert found_whole(server, files)


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread is about to do."""
    deadline = time.monotonic() + 10.0
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_storescu_without_a_certificate(parties: Parties, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = make_folder(tmp_path / "files", 2, 1000)
    anonymous = ["--anonymous-tls", "+cf", str(parties.authority.file), "-xe"]
    with provider(tls=replace(parties.tls, client_certificates="none")) as server:
        peers.storescu(server.listener.address.port, files, *anonymous, aet="PROVIDER").check()
        server.join()
        assert found_whole(server, files)
    with provider(tls=parties.tls) as server:
        assert peers.storescu(server.listener.address.port, files, *anonymous, aet="PROVIDER").returncode != 0
        until(lambda: server.listener.handshake_failures == 1)  # storescu may be gone before we have noticed
        assert server.stored == {}
    assert "gave no certificate, and one is required here" in caplog.text


REFUSED = {
    "unknown": "nobody here knows its CA",
    "expired": "it has expired",
    "revoked": "certificate revoked",
}


@pytest.mark.parametrize("who", REFUSED)
def test_storescu_with_a_certificate_that_is_no_good(
    parties: Parties, tmp_path: Path, who: str, caplog: pytest.LogCaptureFixture
) -> None:
    files = make_folder(tmp_path / "files", 1, 1000)
    with provider(tls=replace(parties.tls, crl_file=parties.crl)) as server:
        options = parties.dcmtk(getattr(parties, who))
        assert peers.storescu(server.listener.address.port, files, *options, aet="PROVIDER").returncode != 0
        assert server.stored == {}
    assert REFUSED[who] in caplog.text


def test_storescu_that_does_not_know_our_ca(parties: Parties, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = make_folder(tmp_path / "files", 1, 1000)
    with provider(tls=parties.tls) as server:
        options = parties.dcmtk(ca=parties.stranger)
        assert peers.storescu(server.listener.address.port, files, *options, aet="PROVIDER").returncode != 0
    assert "refused our certificate" in caplog.text


def test_storescu_without_tls_at_a_port_with_it_and_the_other_way_round(
    parties: Parties, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = make_folder(tmp_path / "files", 1, 1000)
    with provider(tls=parties.tls) as server:
        assert peers.storescu(server.listener.address.port, files, aet="PROVIDER").returncode != 0
    assert "speaks DICOM without TLS to a port with TLS" in caplog.text
    with provider() as server:
        finished = peers.storescu(server.listener.address.port, files, *parties.dcmtk(), aet="PROVIDER")
        assert finished.returncode != 0
    assert "the peer speaks TLS to a port without TLS" in caplog.text


# ---------------------------------------------------------------------- DCMTK is called


@pytest.mark.parametrize(("profile", "version"), [("+py", "TLSv1.3"), ("+pz", "TLSv1.2")])
def test_storescp_of_each_profile(parties: Parties, tmp_path: Path, profile: str, version: str) -> None:
    files = [*make_folder(tmp_path / "files", 20, 30_000), make_instance(tmp_path / "big.dcm", 1 << 20, 99)]
    folder = tmp_path / "kept"
    folder.mkdir()
    with peers.storescp(folder, *parties.dcmtk(), profile, "--fork") as server:
        address = server.address.replace("127.0.0.1", "localhost")
        with dulcet.associate(address, tls=parties.tls) as association:
            assert association.tls is not None
            assert association.tls.version == version
            assert all(sent.ok for sent in association.store_many(files, associations=2))
    assert sorted(read_instance(path).data_set() for path in folder.iterdir()) == sorted(
        read_instance(path).data_set() for path in files
    )


@contextmanager
def storescp(tmp_path: Path, *options: str) -> Iterator[str]:
    folder = tmp_path / "kept"
    folder.mkdir()
    with peers.storescp(folder, *options) as server:
        yield server.address.replace("127.0.0.1", "localhost")


def test_storescp_whose_certificate_is_no_good(parties: Parties, tmp_path: Path) -> None:
    with storescp(tmp_path, *parties.dcmtk()) as address:
        for tls, why in (
            (replace(parties.tls, ca_file=parties.stranger.file), "nobody here knows its CA"),
            (replace(parties.tls, expected_name="archive.example.org"), "Hostname mismatch"),
            (replace(parties.tls, crl_file=parties.stranger.revocation_list()), "no revocation list of its issuer"),
        ):
            with pytest.raises(PeerNotTrusted, match=why):
                dulcet.associate(address, tls=tls)
        by_address = address.replace("localhost", "127.0.0.1")
        with pytest.raises(PeerNotTrusted, match="IP address mismatch"):
            dulcet.associate(by_address, tls=parties.tls)
        with dulcet.associate(by_address, tls=replace(parties.tls, expected_name="localhost")) as association:
            association.echo().check()
        with dulcet.associate(by_address, tls=TLSConfig(insecure=True, **parties.ours.files)) as association:
            association.echo().check()


def test_storescp_that_does_not_accept_us(parties: Parties, tmp_path: Path) -> None:
    with storescp(tmp_path, *parties.dcmtk()) as address:
        with pytest.raises(CertificateRefused, match=r"wants a certificate|probably refused"):
            dulcet.associate(address, tls=TLSConfig(ca_file=parties.authority.file))
        with pytest.raises(CertificateRefused, match="refused our certificate"):
            dulcet.associate(address, tls=replace(parties.tls, **parties.unknown.files))
        with dulcet.associate(address, tls=parties.tls) as association:
            association.echo().check()


def test_storescp_without_tls(parties: Parties, tmp_path: Path) -> None:
    with storescp(tmp_path) as address, pytest.raises(TLSError, match=r"without TLS|does it speak TLS"):
        dulcet.associate(address, tls=parties.tls)


# ---------------------------------------------------------------------- pynetdicom


def context_of(parties: Parties, version: ssl.TLSVersion, purpose: ssl.Purpose) -> ssl.SSLContext:
    """A context as pynetdicom's documentation has its users make one."""
    context = ssl.create_default_context(purpose, cafile=str(parties.authority.file))
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = context.maximum_version = version
    context.load_cert_chain(parties.theirs.certificate, parties.theirs.key)
    return context


@pytest.mark.parametrize("version", VERSIONS)
def test_pynetdicom_calls(parties: Parties, tmp_path: Path, version: ssl.TLSVersion) -> None:
    files = make_folder(tmp_path / "files", 3, 200_000)
    application: Any = AE("PYNETDICOM")
    application.add_requested_context(SECONDARY_CAPTURE, SYNTAX)
    context = context_of(parties, version, ssl.Purpose.SERVER_AUTH)
    with provider(tls=parties.tls) as server:
        port = server.listener.address.port
        association = application.associate("127.0.0.1", port, ae_title="PROVIDER", tls_args=(context, "localhost"))
        assert association.is_established
        for file in files:
            assert association.send_c_store(file).Status == 0
        association.release()
        server.join()
        session = server.associations[0].tls
        assert session is not None
        assert session.version == VERSIONS[version]
        assert server.endings == ["released"]
        assert found_whole(server, files)


@pytest.mark.parametrize("version", VERSIONS)
def test_pynetdicom_is_called(parties: Parties, tmp_path: Path, version: ssl.TLSVersion) -> None:
    files = make_folder(tmp_path / "files", 3, 200_000)
    stored: dict[str, bytes] = {}

    def keep(event: evt.Event) -> int:
        request: Any = event.request
        stored[request.AffectedSOPInstanceUID] = event.encoded_dataset(include_meta=False)
        return 0

    application: Any = AE("PYNETDICOM")
    application.add_supported_context(SECONDARY_CAPTURE, SYNTAX)
    application.add_supported_context("1.2.840.10008.1.1")
    handlers: Any = [(evt.EVT_C_STORE, keep)]
    context = context_of(parties, version, ssl.Purpose.CLIENT_AUTH)
    server: Any = application.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers, ssl_context=context)
    try:
        address = f"PYNETDICOM@localhost:{server.socket.getsockname()[1]}"
        with dulcet.associate(address, tls=parties.tls) as association:
            assert association.tls is not None
            assert association.tls.version == VERSIONS[version]
            assert all(sent.ok for sent in association.store_many(files))
        with pytest.raises(TLSError, match=r"wants a certificate|probably refused|closed the connection"):
            dulcet.associate(address, tls=TLSConfig(ca_file=parties.authority.file))
    finally:
        server.shutdown()
    assert stored == {read_instance(file).sop_instance_uid: read_instance(file).data_set() for file in files}
