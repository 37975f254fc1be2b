"""The archive with TLS: by its configuration file, with peers that are bound to their certificates."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.blocking.providing import provider
from tests.corpus import CT_IMAGE, make_instance
from tests.tls.conftest import Party

import dulcet
from dulcet.archive.configuration import ConfigurationError, open_archive, parse, render, tls_config
from dulcet.errors import AssociationRefused, TLSConfigError
from dulcet.io.tls import TLSConfig


def described(party: Party, data: Path, *more: str) -> str:
    """A configuration in which CT1 is bound to its certificate, and anybody may be WS."""
    return "\n".join(
        [
            f"[server]\nport = 0\ndata = '{data}'",
            f"[tls]\ncertificate = '{party.ours.certificate}'\nkey = '{party.ours.key}'\nca = '{party.authority.file}'",
            "[storage]\ndurability = 'none'",
            "[peers.CT1]\ncertificates = ['DNS:ct1.example.org']",
            "[peers.WS]",
            *more,
        ]
    )


def test_peers_are_bound_and_called_with_tls(party: Party, tmp_path: Path) -> None:
    image = make_instance(tmp_path / "a.dcm", 10_000, 1, CT_IMAGE)
    other = replace(party.client, **party.authority.issue("other").files)
    with provider(tls=party.server) as destination:
        where = f"[peers.PROVIDER]\naddress = '127.0.0.1:{destination.listener.address.port}'\ntls = true"
        configuration = parse(described(party, tmp_path / "data", where))
        tls = tls_config(configuration)
        assert tls is not None
        with (
            open_archive(configuration, tls) as archive,
            archive.node("ARCHIVE").threads(tls=tls) as server,
        ):
            with dulcet.associate(server.address, calling_ae_title="CT1", tls=party.client) as association:
                assert association.store(image).ok
            with pytest.raises(AssociationRefused, match="1,1,3"):
                dulcet.associate(server.address, calling_ae_title="CT1", tls=other)
            with dulcet.associate(server.address, calling_ae_title="WS", tls=other) as association:
                result = association.move(destination="PROVIDER", level="STUDY", StudyInstanceUID=_study(image))
                assert result.status.is_success
                assert result.completed == 1
        destination.join()
        assert destination.associations[0].tls is not None


def _study(path: Path) -> str:
    import pydicom

    return str(pydicom.dcmread(path, stop_before_pixels=True).StudyInstanceUID)


def test_what_is_written_reads_back(party: Party, tmp_path: Path) -> None:
    configuration = parse(described(party, tmp_path))
    again = parse(render(configuration))
    assert again == configuration
    assert again.peers["CT1"].certificates == ("DNS:ct1.example.org",)


def test_flags_win_and_the_table_is_kept(party: Party, tmp_path: Path) -> None:
    given = TLSConfig(ca_file=party.authority.file, **party.theirs.files)
    chosen = tls_config(parse(described(party, tmp_path)), given)
    assert chosen is not None
    assert chosen.certificate == party.theirs.certificate
    assert chosen.table is not None
    assert tls_config(parse("[peers.WS]"), given) is given
    assert tls_config(parse("[peers.WS]")) is None


def test_the_files_of_the_section(party: Party, tmp_path: Path) -> None:
    locked = party.authority.issue(password=b"open")
    (tmp_path / "words").write_text("open\n")
    text = (
        f"[tls]\ncertificate = '{locked.certificate}'\nkey = '{locked.key}'\nca = '{tmp_path}'\n"
        f"crl = '{party.authority.revocation_list()}'\nprofile = 'b13'\nclients = 'optional'\n"
        f"password_file = '{tmp_path / 'words'}'\n"
    )
    chosen = tls_config(parse(text))
    assert chosen is not None
    assert (chosen.profile, chosen.client_certificates, chosen.ca_dir) == ("b13", "optional", str(tmp_path))
    chosen.server_context()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[peers.WS]\naddress = 'host:104'\ntls = true", r"\[peers\.WS\] speaks of TLS, but \[tls\] names no"),
        ("[peers.WS]\ncertificates = ['ws']", r"\[peers\.WS\] speaks of TLS, but \[tls\] names no"),
        ("[tls]\nprofile = 'b9'", "line 2: profile: 'b9' is not allowed; allowed are b12, b13"),
        ("[peers.WS]\ncertificates = ['CN:ws']", "line 2: 'CN:ws' is no subject alternative name"),
    ],
)
def test_a_configuration_that_does_not_do(text: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        tls_config(parse(text))


def test_a_table_needs_certificates_to_look_at(party: Party, tmp_path: Path) -> None:
    tls = tls_config(parse(described(party, tmp_path).replace("[storage]", "clients = 'none'\n[storage]")))
    assert tls is not None
    with pytest.raises(TLSConfigError, match="none are asked for"):
        tls.server_context()
