"""`dulcet listen`: it says when it is ready, takes what comes, drains when it is told to stop, and explains itself."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.running import PATIENCE, dulcet, going_on, listening
from tests.corpus import CT_IMAGE, data_set_bytes, make_folder, make_instance, read_instance

import dulcet as library
from dulcet import uids
from dulcet.services.proposals import proposals

CONTEXTS = proposals([CT_IMAGE, uids.VERIFICATION])
PRIVATE = "1.3.12.2.1107.5.9.1"
STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4}"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return make_instance(tmp_path / "image.dcm", 5000, sop_class_uid=CT_IMAGE)


def test_ready_received_stopped(image: Path, tmp_path: Path) -> None:
    with listening(tmp_path / "kept") as (running, address):
        assert re.fullmatch(r"listening on 127\.0\.0\.1:\d+ as RECEIVER", running.output[0])
        with library.associate(address, calling_ae_title="SENDER", contexts=CONTEXTS) as association:
            assert association.echo().status == 0
            assert association.store(image).ok
        running.until("released after 2 requests")
        done = running.stop()
    assert done.code == 0
    assert done.output.splitlines()[1:] == ["stopped; 1 stored, 0 refused"]
    first, last = done.errors.splitlines()
    ended = r"127\.0\.0\.1:\d+ 'SENDER': released after 2 requests, \d+\.\d s"
    assert re.fullmatch(rf"{STAMP} INFO {ended} \[DUL116\]", first)
    assert re.fullmatch(rf"{STAMP} INFO SIGTERM: stopping; associations that stand have 10 s \[DUL118\]", last)
    [kept] = (tmp_path / "kept").iterdir()
    assert kept.name == f"{read_instance(image).sop_instance_uid}.dcm"
    assert data_set_bytes(kept) == read_instance(image).data_set()


def test_json_lines(image: Path, tmp_path: Path) -> None:
    with listening(tmp_path / "kept", "--json", "--durability", "none") as (running, address):
        with library.associate(address, calling_ae_title="SENDER", contexts=CONTEXTS) as association:
            assert association.store(image).ok
            assert association.store(b"".join([image.read_bytes()])).ok
        done = running.stop(signal.SIGINT)
    ready, one, two, stopped = done.lines()
    assert ready | {"port": 0} == {
        "event": "listening", "host": "127.0.0.1", "port": 0, "ae_title": "RECEIVER", "durable": False, "swept": 0,
    }  # fmt: skip
    instance = read_instance(image)
    assert one | {"peer": ""} == {
        "event": "stored",
        "path": str(tmp_path / "kept" / f"{instance.sop_instance_uid}.dcm"),
        "sop_class_uid": CT_IMAGE,
        "sop_instance_uid": instance.sop_instance_uid,
        "transfer_syntax": instance.transfer_syntax,
        "calling": "SENDER",
        "peer": "",
    }
    assert one["peer"].startswith("127.0.0.1:")
    assert two == one
    assert stopped == {"event": "stopped", "stored": 2, "refused": 0}


def test_layout(image: Path, tmp_path: Path) -> None:
    layout = "{PatientID}/{Modality}-{SeriesInstanceUID}/{SOPInstanceUID}"
    with (
        listening(tmp_path / "kept", "--layout", layout) as (_, address),
        library.associate(address, contexts=CONTEXTS) as association,
    ):
        assert association.store(image).ok
    [kept] = [path for path in (tmp_path / "kept").rglob("*") if path.is_file() and path.name != "lock"]
    uid = read_instance(image).sop_instance_uid
    assert kept.relative_to(tmp_path / "kept") == Path("PAT1") / f"CT-{uid.rpartition('.')[0]}" / uid


def test_who_is_taken_and_what(image: Path, tmp_path: Path) -> None:
    private = make_instance(tmp_path / "private.dcm", 100, 5, PRIVATE)
    with listening(tmp_path / "kept", "--aet", "OURS") as (running, address):
        assert address.startswith("OURS@")
        with pytest.raises(library.AssociationRefused) as caught:
            library.associate(address.replace("OURS", "THEIRS"))
        assert (caught.value.source, caught.value.reason) == (1, 7)
        running.until("refused 'DULCET' calling 'THEIRS': (1,1,7)")
        assert dulcet("store", address, private).code == 1
    with listening(tmp_path / "kept", "--any-aet", "--promiscuous") as (_, address):
        assert dulcet("store", address.replace("RECEIVER", "WHOEVER"), private, image).code == 0
    assert len(list((tmp_path / "kept").glob("*.dcm"))) == 2


def test_requests_that_are_none_of_ours_are_refused(tmp_path: Path) -> None:
    with (
        listening(tmp_path / "kept", "--promiscuous") as (_, address),
        library.associate(address, contexts=proposals([uids.MODALITY_PERFORMED_PROCEDURE_STEP])) as association,
    ):
        response = association.n_delete(uids.MODALITY_PERFORMED_PROCEDURE_STEP, "1.2.3")
        assert response.status == 0x0211


def test_what_is_refused_is_logged_with_its_status(image: Path, tmp_path: Path) -> None:
    instance = read_instance(image)
    data = image.read_bytes()
    meta, body = data[: instance.data_set_offset], data[instance.data_set_offset :]
    other = meta.replace(instance.sop_instance_uid.encode(), instance.sop_instance_uid[:-1].encode() + b"9")
    with listening(tmp_path / "kept") as (running, address):
        with library.associate(address, contexts=CONTEXTS) as association:
            from dulcet.dimse.association import DimseAssociation

            core: DimseAssociation = association._core
            context = core.need_context(CT_IMAGE, uids.EXPLICIT_VR_LITTLE_ENDIAN)
            operation = core.store(context, CT_IMAGE, "1.2.3", body)
            assert association._response_to(operation).command.status == 0xA900
        line = running.until("A900H")
        assert "refused C-STORE-RQ with A900H" in line
        done = running.stop()
    assert "0 stored, 1 refused" in done.output
    assert list((tmp_path / "kept").iterdir()) == []
    del other


# ---------------------------------------------------------------------------------------------- stopping


class Slow:
    """A data set that stops half-way until it is told to go on."""

    def __init__(self, address: str, data: bytes) -> None:
        from tests.blocking.scripted import Wire
        from tests.blocking.test_requests import begun_store, requesting

        where = library.Address.parse(address)
        self.wire = Wire(socket.create_connection((where.host, where.port), timeout=PATIENCE))
        requesting(self.wire, where.ae_title)
        self.wire.send_command(1, begun_store("1.2.3"))
        self.data = data
        self.send(data[: len(data) // 2], last=False)

    def send(self, data: bytes, *, last: bool) -> None:
        from dulcet.upper_layer.pdu import PDV, PDataTF

        self.wire.send(PDataTF((PDV(1, False, last, data),)))

    def finish(self) -> int | None:
        """Send the rest; the status."""
        from tests.blocking.scripted import Message

        self.send(self.data[len(self.data) // 2 :], last=True)
        answer = self.wire.message()
        assert isinstance(answer, Message)
        return answer.command.status

    def release(self) -> None:
        from dulcet.upper_layer.pdu import ReleaseRP, ReleaseRQ

        self.wire.send(ReleaseRQ())
        assert isinstance(self.wire.pdu(), ReleaseRP)
        self.wire.sock.close()


@pytest.fixture
def data() -> bytes:
    from tests.io.arriving import data_set

    return data_set(uid="1.2.3", bulk=2000)


def _is_refused_soon(address: str) -> bool:
    """Nobody new is let in; one who asks in the very moment of the signal may still be."""
    deadline = time.monotonic() + 10.0
    while time.monotonic() < deadline:
        try:
            library.associate(address).abort()
        except (library.PeerUnreachable, library.AssociationError):
            return True
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_running_store_finishes_first(tmp_path: Path, data: bytes, number: signal.Signals) -> None:
    with listening(tmp_path / "kept") as (running, address):
        slow = Slow(address, data)
        running.send(number)
        assert f"{number.name}: stopping" in running.until("stopping")
        assert _is_refused_soon(address)
        assert slow.finish() == 0
        slow.release()
        done = running.end()
    assert done.code == 0
    assert "1 stored, 0 refused" in done.output
    assert data_set_bytes(tmp_path / "kept" / "1.2.3.dcm") == data


def test_who_does_not_finish_in_time_is_aborted(tmp_path: Path, data: bytes) -> None:
    with listening(tmp_path / "kept", "--drain", "0.3") as (running, address):
        slow = Slow(address, data)
        start = time.monotonic()
        running.send(signal.SIGTERM)
        assert type(slow.wire.message()).__name__ == "Abort"
        slow.wire.sock.close()
        done = running.end()
        assert 0.3 < time.monotonic() - start < 6
    assert done.code == 0
    assert "0 stored, 0 refused" in done.output
    assert list((tmp_path / "kept").iterdir()) == []


def test_a_second_signal_does_not_wait(tmp_path: Path, data: bytes) -> None:
    with listening(tmp_path / "kept", "--drain", "60") as (running, address):
        slow = Slow(address, data)
        running.send(signal.SIGTERM)
        running.until("stopping")
        running.send(signal.SIGINT)
        assert type(slow.wire.message()).__name__ == "Abort"
        slow.wire.sock.close()
        done = running.end()
    assert done.code == 0


def test_what_a_killed_one_left_is_swept_and_said(tmp_path: Path, data: bytes) -> None:
    with listening(tmp_path / "kept") as (running, address):
        slow = Slow(address, data)
        partial = tmp_path / "kept" / ".partial"
        deadline = time.monotonic() + PATIENCE
        while not any(path.stat().st_size for path in partial.rglob("[0-9]")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        running.stop(signal.SIGKILL)
        slow.wire.sock.close()
    with listening(tmp_path / "kept") as (running, _):
        assert running.output[0] == "removed 1 partial files of an earlier run"
        assert running.output[1].startswith("listening on ")


def test_several_at_once_into_one_folder(tmp_path: Path) -> None:
    files = make_folder(tmp_path / "files", 60, 5000, CT_IMAGE)
    codes: list[int] = []
    with listening(tmp_path / "kept") as (_, one), listening(tmp_path / "kept") as (_, other):
        threads = [
            threading.Thread(target=lambda to=to: codes.append(dulcet("store", to, tmp_path / "files", "-j", 2).code))
            for to in (one, other)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
    assert codes == [0, 0]
    kept = {path.name: data_set_bytes(path) for path in (tmp_path / "kept").glob("*.dcm")}
    assert kept == {f"{read_instance(file).sop_instance_uid}.dcm": read_instance(file).data_set() for file in files}


# ---------------------------------------------------------------------------------------------- trouble


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if mount is None or subprocess.run([mount, "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder]).returncode:
        pytest.skip("this process may not mount file systems")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_refuses_and_recovers(small_disk: Path, tmp_path: Path) -> None:
    files = [make_instance(tmp_path / f"{n}.dcm", size, n, CT_IMAGE) for n, size in enumerate((150_000, 200_000, 1000))]
    with listening(small_disk / "kept") as (running, address):
        with library.associate(address, contexts=CONTEXTS) as association:
            statuses = [int(association.store(file).status or 0) for file in files]
            assert statuses == [0, 0xA700, 0]
            assert "No space left on device; free some space" in running.until("A700H")
            (small_disk / "kept" / f"{read_instance(files[0]).sop_instance_uid}.dcm").unlink()
            assert association.store(files[1]).status == 0
        done = running.stop()
    assert "3 stored, 1 refused" in done.output
    assert len(list((small_disk / "kept").rglob("*"))) == 2


def test_a_folder_that_cannot_be_used_is_2(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = dulcet("listen", "--port", 0, "--dir", tmp_path / "file" / "below")
    assert done.code == 2
    assert done.sentence() == (
        f"cannot receive into {tmp_path / 'file' / 'below'}: Not a directory; name a folder that can be written to"
    )


def test_a_port_in_use_is_2_and_leaves_nothing(tmp_path: Path) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        bound.listen()
        port = bound.getsockname()[1]
        done = dulcet("listen", "--port", port, "--dir", tmp_path / "kept")
    assert done.code == 2
    assert done.sentence().startswith(f"cannot listen on 127.0.0.1:{port}: Address already in use; choose another port")
    assert list((tmp_path / "kept").iterdir()) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--layout", "{Nonsense}/{SOPInstanceUID}"), "'Nonsense' is no DICOM keyword"),
        (("--layout", "../{SOPInstanceUID}"), "must be a relative path"),
        (("--aet", "X" * 17), "at most 16"),
        (("--aet", " "), "blank"),
        (("--durability", "maybe"), "'maybe' is not one of 'fsync', 'none'"),
        (("--bind", "192.0.2.1"), "name an address of this machine"),
        (("--bind", "no-such-host.invalid"), "name an address of this machine"),
    ],
)
def test_what_does_not_do_is_2_with_one_sentence(options: tuple[str, str], words: str, tmp_path: Path) -> None:
    done = dulcet("listen", "--port", 0, "--dir", tmp_path / "kept", *options)
    assert done.code == 2
    assert words in done.sentence()
    assert done.output == ""


@pytest.mark.parametrize("host", ["*", "::1", "localhost"])
def test_other_addresses(host: str, tmp_path: Path) -> None:
    with going_on("listen", "--port", 0, "--dir", tmp_path / "kept", "--bind", host) as running:
        ready = running.until("listening")
        where = f"[{host}]" if ":" in host else host
        assert ready.startswith(f"listening on {where}:")
        port = ready.split()[2].rpartition(":")[2]
        there = {"*": "127.0.0.1", "::1": "[::1]", "localhost": "localhost"}[host]
        assert dulcet("echo", f"RECEIVER@{there}:{port}").code == 0


def test_a_peer_that_breaks_the_protocol_is_logged_and_service_goes_on(tmp_path: Path) -> None:
    with listening(tmp_path / "kept") as (running, address):
        where = library.Address.parse(address)
        with socket.create_connection((where.host, where.port), timeout=PATIENCE) as sock:
            sock.sendall(b"GET /\x1b[31m HTTP/1.1\r\n\r\n")
            line = running.until("speaks HTTP")
            assert re.match(STAMP, line)
        with library.associate(address, calling_ae_title="\x7e", contexts=CONTEXTS) as association:
            assert association.echo().status == 0
        assert running.stop().code == 0
    assert all(line.isprintable() for line in running.errors)


def test_durability_none_says_so_first(tmp_path: Path) -> None:
    with listening(tmp_path / "kept", "--durability", "none") as (running, _):
        assert running.output[0].startswith("durability none: what is acknowledged may be lost")


def test_the_lines_of_json_are_whole_whatever_comes_at_once(tmp_path: Path) -> None:
    make_folder(tmp_path / "files", 200, 100, CT_IMAGE)
    with listening(tmp_path / "kept", "--json", "--durability", "none") as (running, address):
        assert dulcet("store", address, tmp_path / "files", "-j", 8).code == 0
        done = running.stop()
    assert len([json.loads(line) for line in done.output.splitlines()]) == 202


def test_who_ignores_sighup_for_us_has_it_ignored(tmp_path: Path) -> None:
    """As nohup does: the terminal goes, we stay."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with listening(tmp_path / "kept") as (running, address):
            running.send(signal.SIGHUP)
            with library.associate(address) as association:
                assert association.echo().status == 0
            done = running.stop()
    finally:
        signal.signal(signal.SIGHUP, before)
    assert done.code == 0
    assert "SIGTERM: stopping" in done.errors
