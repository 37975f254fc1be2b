"""Kill a served archive under many senders, again and again, and hold it against what the senders saw acknowledged.

    python -m tests.archive.crashing --cycles 1000

Laws: a sender notes an acknowledgement in its own memory before it goes on; the server is killed without warning at a
random moment; the senders and the check know nothing of how the archive works inside but its folders and its index.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import sqlite3
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.interop import peers

import dulcet
from dulcet.errors import DulcetError
from dulcet.part10.location import locate_path

CT = "1.2.840.10008.5.1.4.1.1.2"
SERVES = "worker serves"
SENDERS = 8
SMALL, LARGE = 2_000, 150_000
"""Bytes of pixel data: one that is held in memory, one that is written as it comes."""


@dataclass
class Result:
    """What all cycles came to."""

    cycles: int = 0
    acknowledged: dict[str, bytes] = field(default_factory=dict)
    """SHA-256 of the data set by instance UID."""
    swept: int = 0
    adopted: int = 0
    problems: list[str] = field(default_factory=list)


def data_set(uid: str, series: int, size: int) -> bytes:
    """An encoded CT image, explicit VR little endian, made without any library."""

    def element(tag: int, vr: bytes, value: bytes) -> bytes:
        value += (b"\0" if vr == b"UI" else b" ") * (len(value) & 1)
        head = (tag >> 16).to_bytes(2, "little") + (tag & 0xFFFF).to_bytes(2, "little") + vr
        if vr == b"OW":
            return head + bytes(2) + len(value).to_bytes(4, "little") + value
        return head + len(value).to_bytes(2, "little") + value

    seed = hashlib.sha256(uid.encode()).digest()
    return b"".join(
        (
            element(0x00080016, b"UI", CT.encode()),
            element(0x00080018, b"UI", uid.encode()),
            element(0x00080060, b"CS", b"CT"),
            element(0x00100010, b"PN", b"Crash^Test"),
            element(0x00100020, b"LO", b"CRASH"),
            element(0x0020000D, b"UI", b"1.2.3"),
            element(0x0020000E, b"UI", f"1.2.3.{series}".encode()),
            element(0x7FE00010, b"OW", (seed * (size // 32 + 1))[:size]),
        )
    )


def part10(uid: str, data: bytes) -> bytes:
    """With file meta, for the sender."""
    from dulcet.part10.file_meta import encode_file_meta

    return encode_file_meta(CT, uid, "1.2.840.10008.1.2.1") + data


class Senders:
    """Threads that send new instances until their association breaks."""

    def __init__(self, address: str, cycle: int, result: Result) -> None:
        self._result = result
        self.first = threading.Event()
        """Set by the first acknowledgement."""
        self._threads = [
            threading.Thread(target=self._send, args=(address, cycle, number)) for number in range(SENDERS)
        ]
        for thread in self._threads:
            thread.start()

    def _send(self, address: str, cycle: int, number: int) -> None:
        try:
            with dulcet.associate(
                address, contexts=[dulcet.Proposal(CT, ("1.2.840.10008.1.2.1",))]
            ) as association:
                for count in range(100_000):
                    uid = f"1.2.9.{cycle}.{number}.{count}"
                    data = data_set(uid, number % 3, LARGE if count % 5 == 4 else SMALL)
                    if association.store(part10(uid, data)).check().ok:
                        self._result.acknowledged[uid] = hashlib.sha256(data).digest()
                        self.first.set()
        except DulcetError:
            pass  # it was killed: that is what this is for

    def join(self) -> None:
        for thread in self._threads:
            thread.join(30)


def run(folder: Path, cycles: int, *, seed: int = 0, longest: float = 0.4, workers: int = 1) -> Result:
    """So many kills; `longest` is the most that senders may work before one, in seconds.

    With several workers, what is killed is chosen too: all processes, one worker and then all, or the parent alone.
    """
    random, result = Random(seed), Result()
    command = [*peers.DULCET, "serve", "--port", "0", "--data", folder, "--allow-any", "--json"]
    if workers > 1:
        command += ["--workers", str(workers), "--drain", "0.1"]
    for cycle in range(cycles + 1):
        with peers.process(command) as server:
            peers.wait_until(lambda: server.ended() or '"listening"' in server.output(), 30, "the server listens")
            listening = _listening(server.output())
            result.swept += int(str(listening["removed"]))
            result.adopted += int(str(listening["adopted"]))
            _check(folder, result)
            if cycle == cycles:
                _check_over_the_network(f"ARCHIVE@127.0.0.1:{listening['port']}", result)
                server.stop()
                break
            senders = Senders(f"ARCHIVE@127.0.0.1:{listening['port']}", cycle, result)
            senders.first.wait(10)
            time.sleep(random.uniform(0.0, longest))
            _kill(server, random, longest)
            server.wait(10)
            senders.join()
            peers.wait_until(lambda: not any(map(_is_alive, _workers(server))), 30, "the workers are gone")
        result.cycles += 1
    return result


def _workers(server: peers.Process) -> list[int]:
    """The processes of all workers that there were, where there were several."""
    lines = [json.loads(line) for line in server.output().splitlines()]
    started = [line.get("workers", []) for line in lines if line["event"] == "listening"]
    return [*(pid for pids in started for pid in pids), *(one["process"] for one in lines if one["event"] == SERVES)]


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _kill(server: peers.Process, random: Random, longest: float) -> None:
    """All at once; where there are workers, one of them first, which is replaced, or their parent alone."""
    kind = random.choice(("one", "one", "all", "parent")) if _workers(server) else "all"
    if kind == "one":
        os.kill(random.choice(_workers(server)), signal.SIGKILL)
        peers.wait_until(lambda: SERVES in server.output(), 30, "a worker is replaced")
        time.sleep(random.uniform(0.0, longest))
    os.kill(server.pid, signal.SIGKILL)  # first: it would start others
    if kind != "parent":
        for pid in filter(_is_alive, _workers(server)):
            os.kill(pid, signal.SIGKILL)


def _listening(output: str) -> dict[str, object]:
    lines = [json.loads(line) for line in output.splitlines()]
    return next(line for line in lines if line["event"] == "listening")


def _check(folder: Path, result: Result) -> None:
    """Everything acknowledged is there, bit for bit, and has a row; no row lacks its object; nothing is half there."""
    with sqlite3.connect(f"file:{folder / 'index.sqlite'}?mode=ro", uri=True) as connection:
        rows = dict(connection.execute("SELECT SOPInstanceUID, object FROM instance"))
        (beside,) = connection.execute("SELECT count(*) FROM beside").fetchone()
        (counted,) = connection.execute("SELECT sum(instances) FROM study").fetchone()
    connection.close()
    problems = result.problems
    problems += [f"{uid} was acknowledged and is not in the index" for uid in result.acknowledged if uid not in rows]
    files = {str(path.relative_to(folder / "objects")) for path in (folder / "objects").rglob("*") if path.is_file()}
    problems += [f"the row of {uid} has no object" for uid, key in rows.items() if key not in files]
    problems += [f"{key} has no row" for key in files - set(rows.values())]
    problems += [f"partial file {path.name} after a start" for path in (folder / "partial").iterdir()]
    if beside or (counted or 0) != len(rows):
        problems.append(f"{beside} beside, {counted} counted, {len(rows)} rows")
    for uid, digest in result.acknowledged.items():
        if uid in rows:
            path = folder / "objects" / rows[uid]
            if hashlib.sha256(path.read_bytes()[locate_path(path).offset :]).digest() != digest:
                problems.append(f"{uid} is not bit for bit what was sent")


def _check_over_the_network(address: str, result: Result) -> None:
    """What was acknowledged is found, and what is found can be retrieved."""
    with dulcet.associate(address) as association:
        keys = {"StudyInstanceUID": "1.2.3"}
        found = set()
        for number in range(3):
            series = {**keys, "SeriesInstanceUID": f"1.2.3.{number}"}
            found |= {answer.SOPInstanceUID for answer in association.find(level="IMAGE", model="study", **series)}
        result.problems += [f"{uid} is not found" for uid in result.acknowledged if uid not in found]
        received: list[str] = []

        def take(request: dulcet.IncomingRequest) -> None:
            request.read()
            received.append(request.sop_instance_uid)
            request.respond()

        association.get(level="STUDY", model="study", to=take, **keys).check()
        result.problems += [f"{uid} is found and not retrieved" for uid in found if uid not in set(received)]


def main() -> int:
    """From the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--cycles", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--fresh", type=int, default=25, help="cycles after which a new folder is begun")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    done = lost = 0
    while done < options.cycles:
        folder = Path(tempfile.mkdtemp(prefix="dulcet-crash-"))
        try:
            cycles = min(options.fresh, options.cycles - done)
            result = run(folder, cycles, seed=options.seed + done, workers=options.workers)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        done += result.cycles
        lost += len(result.problems)
        print(
            f"{done} kills: {len(result.acknowledged)} acknowledged in the last folder, {result.swept} files swept,"
            f" {result.adopted} objects adopted, {lost} problems in all",
            flush=True,
        )
        for problem in result.problems[:10]:
            print(f"  {problem}", flush=True)
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
