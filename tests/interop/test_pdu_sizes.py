"""PDUs from 4,096 bytes to no limit, with data sets that end exactly at, just before and just behind a PDU's end."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.corpus import SECONDARY_CAPTURE, Instance, make_instance, read_instance
from tests.interop import peers
from tests.interop.comparing import arrived, differences

SIZES = (4096, 16384, 131072)
PDV_HEADER = 6  # length, context id, message control header: PS3.8 section 9.3.5.1


def boundary_files(folder: Path, maximum: int) -> list[Instance]:
    """Instances whose data sets fill one, two and three fragments of `maximum` exactly, or miss by two bytes."""
    folder.mkdir()
    fragment = maximum - PDV_HEADER
    wanted = [count * fragment + more for count in (1, 2, 3) for more in (-2, 0, 2)]
    header = len(read_instance(make_instance(folder / "probe", 2, 0, SECONDARY_CAPTURE)).data_set()) - 2
    instances = [
        read_instance(make_instance(folder / f"{seed}.dcm", length - header, seed, SECONDARY_CAPTURE))
        for seed, length in enumerate(wanted)
    ]
    assert [len(instance.data_set()) for instance in instances] == wanted
    return instances


@pytest.mark.parametrize("maximum", SIZES)
def test_we_obey_what_storescp_announces(maximum: int, tmp_path: Path) -> None:
    sent = boundary_files(tmp_path / "sent", maximum)
    got = tmp_path / "got"
    got.mkdir()
    with peers.storescp(got, "-pdu", str(maximum)) as server:
        peers.dulcet("store", server.address, *[instance.path for instance in sent]).check()
    assert differences(sent, arrived(got)) == []


@pytest.mark.parametrize("maximum", [0, *SIZES])
def test_we_obey_what_pynetdicom_announces(maximum: int, tmp_path: Path) -> None:
    sent = boundary_files(tmp_path / "sent", maximum or 131072)
    got = tmp_path / "got"
    got.mkdir()
    with peers.pynetdicom_scp(got, "--max-pdu", str(maximum)) as server:
        peers.dulcet("store", server.address, *[instance.path for instance in sent]).check()
    assert differences(sent, arrived(got)) == []


@pytest.mark.parametrize("maximum", SIZES)
def test_we_take_what_storescu_sends_in_pdus_of(maximum: int, tmp_path: Path) -> None:
    sent = boundary_files(tmp_path / "sent", maximum)
    got = tmp_path / "got"
    with peers.dulcet_listen(got, "--durability", "none") as server:
        files = [instance.path for instance in sent]
        options = ("--max-send-pdu", str(maximum), "-pdu", str(maximum))
        peers.storescu(server.port, files, *options, aet=server.aet).check()
    assert differences(sent, arrived(got)) == []


@pytest.mark.parametrize("maximum", [0, *SIZES])
def test_pynetdicom_obeys_what_we_announce(maximum: int, tmp_path: Path) -> None:
    sent = boundary_files(tmp_path / "sent", maximum or 131072)
    got = tmp_path / "got"
    got.mkdir()
    with peers.dulcet_scp(got, "--max-pdu", str(maximum)) as server:
        files = [instance.path for instance in sent]
        peers.pynetdicom_scu(server.port, files, "--max-pdu", str(maximum), aet=server.aet).check()
    assert differences(sent, arrived(got)) == []


@pytest.mark.parametrize("maximum", [0, 8, 4097, 1 << 20])
def test_we_obey_what_we_announce_ourselves(maximum: int, tmp_path: Path) -> None:
    sent = boundary_files(tmp_path / "sent", 4096)
    got = tmp_path / "got"
    got.mkdir()
    with peers.dulcet_scp(got, "--max-pdu", str(maximum)) as server:
        peers.dulcet("store", server.address, *[instance.path for instance in sent]).check()
    assert differences(sent, arrived(got)) == []
