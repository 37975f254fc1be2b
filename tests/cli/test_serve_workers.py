"""`dulcet serve --workers N`: one archive, whoever of several processes is asked."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from tests.archive.making import CT, data_set
from tests.cli.test_workers import is_alive, one_at_each, port_of, sockets_of, until
from tests.interop import peers
from tests.interop.peers import dulcet

import dulcet as library
from dulcet.blocking.commitment import Commitments, request_commitment
from dulcet.services.commitment import COMMITMENT_PROPOSALS, Reference

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="an archive has several workers on Linux alone")


@contextmanager
def serve(data: Path, *options: object) -> Iterator[tuple[peers.Process, str, list[int]]]:
    """The command, its address and the processes of its two workers, which are gone on leaving."""
    command = [*peers.DULCET, "serve", "--port", "0", "--data", data, "--workers", "2", "--json", *options]
    with peers.process(command) as server:
        peers.wait_until(lambda: server.ended() or '"listening"' in server.output(), 30, "the server listens")
        ready = next(line for line in map(json.loads, server.output().splitlines()) if line["event"] == "listening")
        try:
            yield server, f"ARCHIVE@127.0.0.1:{ready['port']}", ready["workers"]
        finally:
            if server.finished is None:
                os.kill(server.pid, signal.SIGKILL)
            until(lambda: not any(map(is_alive, ready["workers"])), "the workers end with their parent")


def associations(address: str, pids: list[int], **options: object) -> list[library.Association]:
    """One with each worker."""
    return one_at_each(
        address, pids, lambda: library.associate(address, **options), lambda one: one.release()  # type: ignore[arg-type]
    )


def test_what_one_worker_stores_every_worker_finds_and_returns(tmp_path: Path) -> None:
    with serve(tmp_path / "data", "--allow-any") as (server, address, pids):
        both = associations(address, pids)
        for number in range(1, 21):
            both[number % 2].store(data_set(number)).check()
        for association in both:
            [study] = association.find(level="STUDY", PatientName="doe*", NumberOfStudyRelatedInstances="")
            assert study.NumberOfStudyRelatedInstances == 20
            folder = tmp_path / f"got-{both.index(association)}"
            assert association.get(level="STUDY", StudyInstanceUID="1.2.1", to=folder).check().completed == 20
            assert association.store(data_set(1)).ok  # again, of whichever it came from
            association.release()
        ended = server.stop()
    assert ended.returncode == 0
    stopped = ended.json_lines()[-1]
    assert stopped == {"event": "stopped", "stored": 20, "again": 2, "beside": 0, "refused": 0}
    assert "0 rows without object" in dulcet("index", "check", "--data", tmp_path / "data").check().output
    assert (tmp_path / "data" / "lock").read_bytes() == b""


def test_many_senders_of_the_same_instances_store_each_once(tmp_path: Path) -> None:
    start = threading.Barrier(8)
    statuses: Counter[int] = Counter()
    with serve(tmp_path / "data", "--allow-any", "--durability", "none") as (server, address, _):

        def send() -> None:
            with library.associate(address) as association:
                start.wait(30)
                for number in range(25):
                    statuses[int(association.store(data_set(number)).status or 0)] += 1

        threads = [threading.Thread(target=send) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        stopped = server.stop().json_lines()[-1]
    assert statuses == {0: 200}
    assert (stopped["stored"], stopped["again"], stopped["beside"], stopped["refused"]) == (25, 175, 0, 0)
    assert len(list((tmp_path / "data" / "objects").rglob("*.dcm"))) == 25


def test_events_are_told_once_whoever_received(tmp_path: Path) -> None:
    told = tmp_path / "told"
    hook = [sys.executable, "-c", f"import sys; open({str(told)!r}, 'a').write(sys.stdin.read() + chr(10))"]
    config = tmp_path / "dulcet.toml"
    config.write_text(
        f"[server]\nallow_any = true\n[events]\nhook = {json.dumps(hook)}\nseries_quiet = 0\nstudy_quiet = 0\n"
        'kinds = ["instance stored"]\n'
    )
    with serve(tmp_path / "data", "--config", config) as (server, address, pids):
        for number, association in enumerate(associations(address, pids)):
            for n in range(4):
                association.store(data_set(10 * number + n)).check()
            association.release()
        # The process that tells them dies on the way: what it had not told yet is told by the one in its place.
        os.kill(pids[0], signal.SIGKILL)
        until(lambda: '"worker serves"' in server.output(), "it is replaced")
        until(lambda: told.exists() and len(set(uids_in(told))) == 8, "eight events")
        assert server.stop().returncode == 0
    assert set(uids_in(told)) == {f"1.2.9.{10 * number + n}" for number in range(2) for n in range(4)}
    twice = len(uids_in(told)) - 8
    assert twice <= 1  # the one that it was about: at least once is the promise


def uids_in(told: Path) -> list[str]:
    # An empty line: the server was killed before it had told that program anything.
    return [json.loads(line)["sop_instance_uid"] for line in told.read_text().splitlines() if line]


def test_results_of_commitment_come_once_whoever_was_asked(tmp_path: Path) -> None:
    results: list[str] = []
    node = library.Node("MODALITY")
    commitments = Commitments(node, on_result=lambda result: results.append(result.transaction_uid))
    with node.threads() as here:
        config = tmp_path / "dulcet.toml"
        config.write_text(
            f'[server]\nallow_any = true\n[peers.MODALITY]\naddress = "127.0.0.1:{here.address.port}"\n'
        )
        with serve(tmp_path / "data", "--config", config) as (server, address, pids):
            with library.associate(address) as association:
                association.store(data_set(1)).check()
            both = associations(address, pids, calling_ae_title="MODALITY", contexts=COMMITMENT_PROPOSALS)
            pending = [
                request_commitment(association, [Reference(CT, "1.2.9.1")], results=commitments)
                for association in both * 3
            ]
            assert all(found.wait(30).ok for found in pending)  # type: ignore[union-attr]
            until(lambda: not open_transactions(tmp_path / "data"), "all of them are closed")
            # The one that reports is replaced; what the other one takes meanwhile is reported by the new one.
            os.kill(pids[0], signal.SIGKILL)
            late = request_commitment(both[1], [Reference(CT, "1.2.9.1")], results=commitments)
            assert late.wait(30).ok  # type: ignore[union-attr]
            # To somebody whose address nobody knows, the worker that was asked reports itself.
            with library.associate(address, calling_ae_title="OTHER", contexts=COMMITMENT_PROPOSALS) as association:
                assert request_commitment(association, [Reference(CT, "1.2.9.1")]).wait(30).ok  # type: ignore[union-attr]
            both[1].release()
            assert server.stop().returncode == 0
    assert Counter(results) == dict.fromkeys([one.transaction_uid for one in (*pending, late)], 1)


def open_transactions(data: Path) -> int:
    with closing(sqlite3.connect(f"file:{data / 'commitment.sqlite'}?mode=ro", uri=True)) as connection:
        return len(connection.execute("SELECT 1 FROM commitment_transactions WHERE closed IS NULL").fetchall())


def test_the_folder_is_taken_until_the_last_worker_has_ended(tmp_path: Path) -> None:
    with serve(tmp_path / "data", "--allow-any") as (server, address, pids):
        association = library.associate(address)
        [holder] = [pid for pid in pids if sockets_of(pid, port_of(address))]
        os.kill(server.pid, signal.SIGKILL)
        until(lambda: sum(map(is_alive, pids)) == 1, "the idle worker ends")
        ended = dulcet("serve", "--port", "0", "--data", tmp_path / "data")
        assert (ended.returncode, "in use by another process" in ended.errors) == (1, True)
        association.store(data_set(1)).check()
        association.release()
        until(lambda: not is_alive(holder), "the busy one ends")
    with serve(tmp_path / "data", "--allow-any") as (server, address, _), library.associate(address) as association:
        assert len(list(association.find(level="STUDY", StudyInstanceUID=""))) == 1


def test_a_configuration_may_say_how_many(tmp_path: Path) -> None:
    (tmp_path / "dulcet.toml").write_text("[server]\nworkers = 3\n")
    printed = dulcet("serve", "--config", tmp_path / "dulcet.toml", "--print-config").check().output
    assert "\nworkers = 3\n" in printed
    printed = dulcet("serve", "--config", tmp_path / "dulcet.toml", "--workers", "1", "--print-config").check().output
    assert "\nworkers = 1\n" in printed
    (tmp_path / "dulcet.toml").write_text("[server]\nworkers = 0\n")
    ended = dulcet("serve", "--config", tmp_path / "dulcet.toml")
    assert (ended.returncode, "line 2: workers is at least 1" in ended.errors) == (2, True)


def test_an_archive_of_workers_goes_on_as_one_of_a_single_process(tmp_path: Path) -> None:
    """What several wrote, one reads, and the other way round."""
    data = tmp_path / "data"
    with peers.announced([*peers.DULCET, "serve", "--port", "0", "--data", data, "--allow-any"], data) as server:
        with library.associate(server.address) as association:
            association.store(data_set(1)).check()
        server.stop()
    with serve(data, "--allow-any") as (several, address, _):
        with library.associate(address) as association:
            association.store(data_set(2)).check()
            assert len(list(association.find(level="IMAGE", **SERIES))) == 2
        several.stop()
    with peers.announced([*peers.DULCET, "serve", "--port", "0", "--data", data, "--allow-any"], data) as server:
        with library.associate(server.address) as association:
            assert len(list(association.find(level="IMAGE", **SERIES))) == 2
        server.stop()
    shutil.rmtree(data)


SERIES = {"StudyInstanceUID": "1.2.1", "SeriesInstanceUID": "1.2.1.1", "SOPInstanceUID": ""}
