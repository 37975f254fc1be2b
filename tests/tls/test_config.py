"""Contexts from files: what they allow, what is wrong with the files, and that they follow them."""

from __future__ import annotations

import logging
import os
import re
import shutil
import ssl
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.tls.authority import Credentials
from tests.tls.conftest import Party

from dulcet.errors import TLSConfigError
from dulcet.io.certificates import CertificateTable
from dulcet.io.tls import LiveContext, TLSConfig, client_context, server_context

B12 = {
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
}


def older_suites(context: ssl.SSLContext) -> set[str]:
    return {cipher["name"] for cipher in context.get_ciphers() if not cipher["name"].startswith("TLS_")}


def test_the_default_is_b12_and_verifies(party: Party) -> None:
    for context in (party.client.client_context(), party.server.server_context()):
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2
        assert older_suites(context) == B12
        assert context.verify_mode == ssl.CERT_REQUIRED
        assert {cipher["name"] for cipher in context.get_ciphers()} >= {"TLS_AES_256_GCM_SHA384"}
    assert party.client.client_context().check_hostname
    assert party.server.server_context().num_tickets == 0


def test_b13_has_more_suites_and_nothing_old(party: Party) -> None:
    suites = older_suites(replace(party.client, profile="b13").client_context())
    assert suites > B12
    assert {"ECDHE-RSA-CHACHA20-POLY1305", "ECDHE-ECDSA-AES128-CCM"} <= suites
    assert not [suite for suite in suites if not suite.startswith("ECDHE") or "SHA1" in suite or "CBC" in suite]


def test_without_a_ca_a_client_trusts_the_system() -> None:
    context = TLSConfig().client_context()
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname


@pytest.mark.parametrize(
    ("wanted", "mode"), [("required", ssl.CERT_REQUIRED), ("optional", ssl.CERT_OPTIONAL), ("none", ssl.CERT_NONE)]
)
def test_what_a_server_asks_of_clients(party: Party, wanted: Any, mode: ssl.VerifyMode) -> None:
    assert replace(party.server, client_certificates=wanted).server_context().verify_mode == mode


def test_insecure_verifies_nothing(party: Party) -> None:
    assert TLSConfig(insecure=True).client_context().verify_mode == ssl.CERT_NONE
    assert TLSConfig(insecure=True, **party.ours.files).server_context().verify_mode == ssl.CERT_NONE


def test_a_folder_of_hashed_names_is_a_ca(party: Party, folder: Path) -> None:
    assert TLSConfig(ca_dir=folder).client_context().verify_mode == ssl.CERT_REQUIRED
    with pytest.raises(TLSConfigError, match="is no folder"):
        TLSConfig(ca_dir=party.authority.file).client_context()


# ---------------------------------------------------------------------- what is wrong


def _broken(party: Party, folder: Path) -> dict[str, tuple[dict[str, Any], str]]:
    issue = party.authority.issue
    junk, empty = folder / "junk.pem", folder / "empty.pem"
    junk.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    empty.write_text("nothing")
    good = party.ours
    return {
        "certificate missing": ({"certificate": folder / "a.pem"}, r"a\.pem cannot be read: No such file"),
        "key missing": ({"certificate": good.certificate, "key": folder / "b.key"}, r"b\.key cannot be read"),
        "CA missing": ({**good.files, "ca_file": folder / "c.pem"}, r"c\.pem cannot be read"),
        "CRL missing": ({**good.files, "crl_file": folder / "d.pem"}, r"d\.pem cannot be read"),
        "certificate without a certificate": ({"certificate": empty, "key": good.key}, "no certificate in it"),
        "certificate that is none": ({"certificate": junk, "key": good.key}, "cannot be read"),
        "key without a key": ({"certificate": good.certificate, "key": empty}, "no private key that can be read"),
        "certificate without its key": ({"certificate": good.certificate}, "no private key that can be read"),
        "key of another": ({"certificate": good.certificate, "key": party.theirs.key}, "does not belong"),
        "CA without a CA": ({**good.files, "ca_file": empty}, "no certificate of a CA"),
        "CRL without a list": ({**good.files, "crl_file": party.authority.file}, "no revocation list"),
        "expired": (issue(days=-1, since=-3).files, "expired on .* renew it"),
        "of the future": (issue(days=9, since=3).files, "is valid only from"),
        "too weak": (issue(kind="weak").files, "too weak for TLS today"),
        "encrypted": (issue(password=b"open").files, "is encrypted: it needs its password"),
        "wrong password": ({**issue(password=b"open").files, "password": "sesame"}, "the password for .* is wrong"),
        "wrong password, asked for": (
            {**issue(password=b"open").files, "password": lambda: b"sesame"},
            "the password for .* is wrong",
        ),
    }


CASES = (
    "certificate missing;key missing;CA missing;CRL missing;certificate without a certificate;certificate that is none;"
    "key without a key;certificate without its key;key of another;CA without a CA;CRL without a list;expired;"
    "of the future;too weak;encrypted;wrong password;wrong password, asked for"
).split(";")


@pytest.mark.parametrize("case", CASES)
def test_a_file_that_cannot_be_used_is_named(party: Party, folder: Path, case: str) -> None:
    options, why = _broken(party, folder)[case]
    config = TLSConfig(**{"ca_file": party.authority.file, **options})
    with pytest.raises(TLSConfigError, match=why) as caught:
        config.client_context()
    assert caught.value.path is not None
    assert str(caught.value.path) in str(caught.value)
    with pytest.raises(TLSConfigError, match=why):
        config.server_context()
    assert "sesame" not in f"{config}{caught.value}"


def test_an_encrypted_key_opens_with_its_password(party: Party) -> None:
    files = party.authority.issue(password=b"open").files
    TLSConfig(**files, password="open").client_context()
    asked: list[str] = []

    def password() -> str:
        asked.append("once")
        return "open"

    TLSConfig(**files, password=password).client_context()
    assert asked == ["once"]
    TLSConfig(**party.ours.files, password=password).client_context()
    assert asked == ["once"]


SETTINGS: dict[str, tuple[dict[str, Any], str]] = {
    "a profile that does not exist": ({"profile": "b9"}, "b12 or b13"),
    "a word that does not exist": ({"client_certificates": "maybe"}, "required, optional or none"),
    "a key alone": ({"key": "a.key"}, "no certificate"),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_a_setting_that_makes_no_sense(case: str) -> None:
    options, why = SETTINGS[case]
    with pytest.raises(TLSConfigError, match=why):
        TLSConfig(**options)


def test_a_server_says_what_it_lacks(party: Party) -> None:
    with pytest.raises(TLSConfigError, match="needs a certificate"):
        TLSConfig(ca_file=party.authority.file).server_context()
    with pytest.raises(TLSConfigError, match="nobody is trusted to vouch"):
        TLSConfig(**party.ours.files).server_context()
    with pytest.raises(TLSConfigError, match="none are asked for"):
        replace(party.server, client_certificates="none", table=CertificateTable({})).server_context()


def test_tls_is_a_config_or_a_context(party: Party) -> None:
    context = ssl.create_default_context()
    assert client_context(context) is context
    assert server_context(context) is context
    with pytest.raises(TypeError, match="TLSConfig or an"):
        client_context(True)  # type: ignore[arg-type]


def test_a_password_is_not_shown() -> None:
    assert "secret" not in repr(TLSConfig(password="secret"))


# ---------------------------------------------------------------------- files that change


def put(credentials: Credentials, folder: Path) -> dict[str, Path]:
    """Where a server looks for its files, replaced as a renewal does it."""
    for source, name in ((credentials.certificate, "our.pem"), (credentials.key, "our.key")):
        shutil.copy(source, folder / "new")
        os.replace(folder / "new", folder / name)
    return {"certificate": folder / "our.pem", "key": folder / "our.key"}


def test_a_context_follows_its_files(party: Party, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "dulcet.tls")
    config = TLSConfig(ca_file=party.authority.file, **put(party.ours, folder))
    live = LiveContext(config, server_side=True)
    first = live.context()
    assert live.context() is first
    put(party.authority.issue(), folder)
    second = live.context()
    assert second is not first
    assert live.context() is second
    assert len(re.findall("read again", caplog.text)) == 1


def test_files_that_do_not_fit_together_leave_the_old_context(
    party: Party, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = TLSConfig(ca_file=party.authority.file, **put(party.ours, folder))
    live = LiveContext(config, server_side=True)
    first = live.context()
    renewed = party.authority.issue()
    shutil.copy(renewed.certificate, folder / "our.pem")  # the key follows later
    assert live.context() is first
    assert live.context() is first
    assert len(re.findall("does not belong", caplog.text)) == 1
    with pytest.raises(TLSConfigError, match="does not belong"):
        live.reload()
    shutil.copy(renewed.key, folder / "our.key")
    assert live.context() is not first


def test_a_file_that_vanishes_leaves_the_old_context(party: Party, folder: Path) -> None:
    config = TLSConfig(ca_file=party.authority.file, **put(party.ours, folder))
    live = LiveContext(config, server_side=False)
    first = live.context()
    (folder / "our.key").unlink()
    assert live.context() is first
    put(party.ours, folder)
    assert live.context() is not first


def test_a_reload_on_demand(party: Party) -> None:
    live = LiveContext(party.client, server_side=False)
    first = live.context()
    live.reload()
    assert live.context() is not first


def test_equal_configurations_share_a_context(party: Party) -> None:
    assert client_context(party.client) is client_context(replace(party.client))
    assert server_context(party.server) is server_context(replace(party.server))
