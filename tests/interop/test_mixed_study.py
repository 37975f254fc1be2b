"""`get` and `move` of a study that mixes everything lose no class, whatever the archive and the number of syntaxes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from tests.interop import archives, mixed_study, peers
from tests.interop.mixed_study import COMPRESSED, CONTENT, STUDY, Study

import dulcet
from dulcet import uids

ARCHIVES = ("ours", "dcmqrscp", "Orthanc")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return mixed_study.make(tmp_path_factory.mktemp("mixed"))


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory, study: Study) -> Iterator[dict[str, tuple[peers.Server, int]]]:
    """Each archive with the study in it, and the port that it knows as ME."""
    with ExitStack() as stack:
        found: dict[str, tuple[peers.Server, int]] = {}
        for name in ARCHIVES:
            folder, port = tmp_path_factory.mktemp(name), peers.free_port()
            if name == "ours":
                configuration = folder / "dulcet.toml"
                configuration.write_text(f'[storage]\nprivate = true\n[peers.ME]\naddress = "127.0.0.1:{port}"\n')
                server = archives.dulcet_serve(folder / "data", "--config", str(configuration))
            elif name == "dcmqrscp":
                server = mixed_study.dcmqrscp(folder / "qr", {"ME": port}, study)
            else:
                server = archives.orthanc(folder / "orthanc", DicomModalities={"me": ["ME", "127.0.0.1", port]})
            running = stack.enter_context(server)
            if name != "dcmqrscp":
                with dulcet.associate(running.address) as association:
                    for sent in association.store_many(study.paths):
                        assert sent.ok, (name, sent)
            found[name] = running, port
        yield found


def uids_in(folder: Path) -> list[str]:
    return sorted(str(dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in folder.rglob("*.dcm"))


def summary(finished: peers.Finished) -> dict[str, Any]:
    return json.loads(finished.output.splitlines()[-1])


@pytest.mark.parametrize("syntaxes", [(), COMPRESSED[:1], COMPRESSED[:2], COMPRESSED], ids=len)
@pytest.mark.parametrize("name", ARCHIVES)
def test_get_brings_every_class(
    stocked: dict[str, tuple[peers.Server, int]], study: Study, name: str, syntaxes: tuple[str, ...], tmp_path: Path
) -> None:
    server, _ = stocked[name]
    options = [part for uid in syntaxes for part in ("--syntax", uid)]
    if name == "dcmqrscp":  # it tells no SOP classes
        options += ["--class", mixed_study.PRIVATE]
    asked = ("-k", f"StudyInstanceUID={STUDY}", "--json", *options)
    finished = peers.dulcet("get", server.address, *asked, "--out", tmp_path)
    # Who names syntaxes takes no others; without any, what the peer does not decompress comes as it lies.
    unwanted = set(COMPRESSED) - set(syntaxes or COMPRESSED)
    refused = {uid for uid, (_, lies_in) in zip(study.uids, CONTENT, strict=True) if lies_in in unwanted}
    check(finished, study, refused, tmp_path)


def check(finished: peers.Finished, study: Study, refused: set[str], folder: Path) -> None:
    """All came but what was refused, and that is named."""
    told = summary(finished)
    assert set(told["failed_uids"]) == refused, finished.output + finished.errors
    assert (told["completed"], told["failed"]) == (len(study.uids) - len(refused), len(refused))
    assert sorted(set(study.uids) - refused) == uids_in(folder)
    assert len(told["received"]) == told["completed"]
    assert finished.returncode == bool(refused)


def test_a_class_that_nobody_tells_is_a_failure_that_is_named(
    stocked: dict[str, tuple[peers.Server, int]], study: Study, tmp_path: Path
) -> None:
    server, _ = stocked["dcmqrscp"]
    finished = peers.dulcet("get", server.address, "-k", f"StudyInstanceUID={STUDY}", "--out", tmp_path)
    assert finished.returncode == 1
    missing = study.uids[[sop_class for sop_class, _ in CONTENT].index(mixed_study.PRIVATE)]
    assert f"failed: {missing}" in finished.errors
    assert "--class UID" in finished.errors
    assert uids_in(tmp_path) == sorted(set(study.uids) - {missing})


@pytest.mark.parametrize("name", ARCHIVES)
def test_move_brings_every_class(
    stocked: dict[str, tuple[peers.Server, int]], study: Study, name: str, tmp_path: Path
) -> None:
    server, port = stocked[name]
    asked = ("-k", f"StudyInstanceUID={STUDY}", "--aet", "ME", "--receive", str(port), "--json")
    finished = peers.dulcet("move", server.address, *asked, "--out", tmp_path)
    # dcmqrscp sends all of a class on one context: of the CTs those that are not compressed.
    compressed = study.uids[CONTENT.index((uids.CT_IMAGE_STORAGE, uids.JPEG2000_LOSSLESS))]
    check(finished, study, {compressed} if name == "dcmqrscp" else set(), tmp_path)


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_retrieve_that_matches_nothing_is_no_success(
    stocked: dict[str, tuple[peers.Server, int]], name: str, tmp_path: Path
) -> None:
    server, _ = stocked[name]
    finished = peers.dulcet("get", server.address, "-k", f"StudyInstanceUID={STUDY}.404", "--out", tmp_path)
    assert finished.returncode == 1, finished.output
