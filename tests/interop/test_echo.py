"""C-ECHO, in both roles, and by both of our faces to it: the command and the library."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.interop import peers

import dulcet


@pytest.fixture(scope="module", params=("storescp", "dcmrecv", "pynetdicom", "dulcet"))
def provider(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> peers.ServerContext:
    folder = tmp_path_factory.mktemp("echo")
    return {
        "storescp": lambda: peers.storescp(folder),
        "dcmrecv": lambda: peers.dcmrecv(folder, sop_classes=()),
        "pynetdicom": lambda: peers.pynetdicom_scp(folder),
        "dulcet": lambda: peers.dulcet_listen(folder),
    }[request.param]()


def test_dulcet_echo_and_the_library(provider: peers.ServerContext) -> None:
    with provider as server:
        assert peers.dulcet("echo", server.address).check().returncode == 0
        with dulcet.associate(server.address, calling_ae_title="ME") as association:
            for _ in range(10):
                association.echo().check()


def test_echoscu_and_pynetdicom_find_us_alive(tmp_path: Path) -> None:
    with peers.dulcet_listen(tmp_path) as server:
        peers.echoscu(server.port, "--repeat", "10", aet=server.aet).check()
        peers.echoscu(server.port, "-ppc", "128", "-pts", "38", aet=server.aet).check()
        peers.pynetdicom_scu(server.port, [], "--echoes", "10", aet=server.aet).check()
        peers.echoscu(server.port, "--abort", aet=server.aet)
        peers.echoscu(server.port, aet=server.aet).check()


def test_nobody_there_is_exit_code_3_and_a_sentence() -> None:
    finished = peers.dulcet("echo", f"ANY-SCP@127.0.0.1:{peers.free_port()}")
    assert finished.returncode == 3
    assert "refused" in (finished.output + finished.errors).lower()
    assert "Traceback" not in finished.errors
