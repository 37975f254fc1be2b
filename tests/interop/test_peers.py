"""The peers among themselves: what these tests lean on does what they think it does."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.corpus import (
    SYNTAX_NAMES,
    Instance,
    by_transfer_syntax,
    make_folder,
    make_instance,
    read_instance,
    survey,
)
from tests.interop import peers
from tests.interop.comparing import Arrived, arrived, differences


def test_the_corpus_has_every_transfer_syntax_that_people_meet() -> None:
    instances, unusable = survey()
    assert list(by_transfer_syntax(instances)) == list(SYNTAX_NAMES)
    assert len(instances) >= 169
    assert any("DICOMDIR" in path.name for path in unusable)


def test_instances_that_shared_a_uid_are_told_apart(corpus: list[Instance]) -> None:
    assert len({instance.sop_instance_uid for instance in corpus}) == len(corpus) == len(survey()[0])
    assert [read_instance(instance.path) for instance in corpus] == corpus


def test_generated_instances_are_what_their_names_say(tmp_path: Path) -> None:
    for size in (2, 2048, 100_000, 3 << 20):
        instance = read_instance(make_instance(tmp_path / f"{size}.dcm", size, seed=7))
        assert instance.consistent
        assert len(instance.data_set()) - size < 600


def test_storescu_and_dcmsend_leave_out_only_what_they_cannot_read(
    corpus: list[Instance], storescu_reference: dict[str, Arrived], dcmsend_reference: dict[str, Arrived]
) -> None:
    # Left out: the two truncated files, six without class or instance UID and two RLE dose grids.
    assert len(storescu_reference) == 159
    assert len(dcmsend_reference) == 160
    untouched = [instance for instance in corpus if instance.own_instance_uid in storescu_reference]
    assert len(untouched) - len(differences(untouched, storescu_reference)) >= 120


def test_pynetdicom_sends_raw_bytes_that_dcmrecv_keeps(whole: list[Instance], tmp_path: Path) -> None:
    sent = [instance for instance in whole if len(instance.data_set()) % 2 == 0][:60]
    with peers.dcmrecv(tmp_path, "-dhl", sop_classes={instance.sop_class_uid for instance in sent}) as server:
        peers.pynetdicom_scu(server.port, [instance.path for instance in sent], aet=server.aet).check()
    assert differences(sent, arrived(tmp_path)) == []


def test_a_server_that_cannot_start_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(peers.PeerFailed, match="five ports"), peers.storescp(tmp_path, "--no-such-option"):
        pass


def test_a_process_that_does_not_end_is_killed_at_its_deadline(tmp_path: Path) -> None:
    with peers.storescp(tmp_path) as server, pytest.raises(peers.PeerFailed, match=r"still running after 0\.2 s"):
        server.process.wait(0.2)
    assert not peers.accepts(server.port)


def test_a_missing_tool_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(peers.MissingTool, match="apt-get install dcmtk"):
        peers.echoscu(1)


def test_children_of_a_forking_server_go_with_it(tmp_path: Path) -> None:
    files = make_folder(tmp_path / "sent", 1, 2048)
    (tmp_path / "got").mkdir()
    with peers.storescp(tmp_path / "got", "--fork", "--sleep-after", "60") as server:
        with peers.process([peers.tool("storescu"), peers.HOST, str(server.port), *files]):
            peers.wait_until(lambda: any((tmp_path / "got").iterdir()), 10, "storescp began a file")
            members = peers.descendants(server.process.pid)
            assert len(members) == 2
        server.stop()
    peers.wait_until(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in members), 5, "all are gone")
