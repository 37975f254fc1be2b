"""`--workers N`: processes behind one port keep every promise of a single one, also when some, or all, are killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import pytest
from tests.cli.running import PATIENCE, Running, dulcet, going_on
from tests.cli.test_listen import CONTEXTS, Slow
from tests.corpus import CT_IMAGE, data_set_bytes, make_folder, make_instance, read_instance
from tests.interop import peers
from tests.io.arriving import data_set

import dulcet as library
from dulcet.io.shared_port import SharedPort

pytestmark = pytest.mark.skipif(os.name != "posix", reason="processes inherit sockets on POSIX systems")


Made = TypeVar("Made")


@contextmanager
def supervisor(folder: Path, *options: object, workers: int = 2) -> Iterator[tuple[Running, str, list[int]]]:
    """`dulcet listen --workers`, its address and the processes of its workers."""
    arguments = ("listen", "--port", 0, "--dir", folder, "--workers", workers, "--json", *options)
    with going_on(*arguments) as running:
        ready = json.loads(running.until('"listening"'))
        try:
            yield running, f"{ready['ae_title']}@127.0.0.1:{ready['port']}", ready["workers"]
        finally:
            running.popen.kill()
            until(lambda: not any(map(is_alive, ready["workers"])), "the workers end with their parent")


def state(pid: int) -> str:
    """R or S for one that runs or waits, T for one that was stopped, Z for one that ended, and nobody has looked."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "Z"


def is_alive(pid: int) -> bool:
    return state(pid) != "Z"


def until(condition: object, what: str) -> None:
    peers.wait_until(condition, PATIENCE, what)  # type: ignore[arg-type]


def kept(folder: Path) -> dict[str, bytes]:
    return {path.name: data_set_bytes(path) for path in folder.glob("*.dcm")}


def sent(files: list[Path]) -> dict[str, bytes]:
    return {f"{read_instance(file).sop_instance_uid}.dcm": read_instance(file).data_set() for file in files}


def sockets_of(pid: int, port: int) -> int:
    """Connections that stand between this process and its senders."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            inodes.add(os.readlink(link))
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    # A set, for the kernel may list a socket twice where others come and go while the table is read.
    ours = {f"socket:[{row[9]}]" for row in rows if row[3] == "01" and int(row[1].split(":")[1], 16) == port}
    return len(ours & inodes)


def one_at_each(address: str, pids: list[int], make: Callable[[], Made], end: Callable[[Made], object]) -> list[Made]:
    """What `make` connects, one with each worker; a busy machine may need a try more, for patience has an end."""
    found: dict[int, Made] = {}

    def counts() -> list[int]:
        return [sockets_of(pid, port_of(address)) for pid in pids]

    for _ in range(20):
        before = counts()
        made = make()
        [taker] = [pid for pid, one, other in zip(pids, before, counts()) if one != other]
        if taker in found:
            end(made)
            until(lambda: sum(counts()) == len(found), "it is gone")
        found.setdefault(taker, made)
        if len(found) == len(pids):
            return [found[pid] for pid in pids]
    raise AssertionError(f"only {list(found)} of {pids} took anything")


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


# ---------------------------------------------------------------------- what comes in


def test_each_object_of_many_senders_arrives_once(tmp_path: Path) -> None:
    files = make_folder(tmp_path / "files", 160, 3000, CT_IMAGE)
    with supervisor(tmp_path / "kept") as (running, address, pids):
        threads = []
        for number in range(16):

            def send(mine: list[Path] = files[number::16]) -> None:
                with library.associate(address, contexts=CONTEXTS) as association:
                    for file in mine:
                        association.store(file).check()

            threads.append(threading.Thread(target=send))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        done = running.stop()
    lines = done.lines()
    assert done.code == 0
    assert lines[-1] == {"event": "stopped", "stored": 160, "refused": 0}
    assert [line["event"] for line in lines].count("listening") == 1
    assert Counter(line["event"] for line in lines)["stored"] == 160
    assert kept(tmp_path / "kept") == sent(files)
    assert len(set(pids)) == 2


def test_connections_go_to_who_has_fewer(tmp_path: Path) -> None:
    with supervisor(tmp_path / "kept", workers=3) as (_, address, pids):
        standing = [library.associate(address, contexts=CONTEXTS) for _ in range(12)]
        assert min(sockets_of(pid, port_of(address)) for pid in pids) >= 3  # four, where nobody is kept waiting
        for association in standing:
            assert association.echo().status == 0
            association.release()


@pytest.mark.interop
@pytest.mark.skipif(shutil.which("storescu") is None, reason="needs DCMTK")
def test_senders_of_dcmtk_arrive(tmp_path: Path) -> None:
    files = make_folder(tmp_path / "files", 30, 5000, CT_IMAGE)
    with supervisor(tmp_path / "kept") as (_, address, _):
        command = [peers.tool("storescu"), "-aec", "RECEIVER", "+sd", "127.0.0.1", str(port_of(address))]
        started = [
            subprocess.Popen([*command, str(tmp_path / "files")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            for _ in range(4)
        ]
        assert [one.wait(PATIENCE) for one in started] == [0, 0, 0, 0]
    assert kept(tmp_path / "kept") == sent(files)  # all four sent the same: each is kept once


def test_the_same_instance_at_all_workers_at_once_is_kept_once(tmp_path: Path) -> None:
    file = make_instance(tmp_path / "one.dcm", 200_000, sop_class_uid=CT_IMAGE)
    start = threading.Barrier(8)
    statuses = []
    with supervisor(tmp_path / "kept") as (_, address, _):

        def send() -> None:
            with library.associate(address, contexts=CONTEXTS) as association:
                for _ in range(5):
                    start.wait(PATIENCE)
                    statuses.append(association.store(file).status)

        threads = [threading.Thread(target=send) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
    assert statuses == [0] * 40
    assert kept(tmp_path / "kept") == sent([file])


# ---------------------------------------------------------------------- limits


def test_limits_hold_for_all_workers_together(tmp_path: Path) -> None:
    with supervisor(tmp_path / "kept") as (_, address, pids):
        standing = [library.associate(address, contexts=CONTEXTS) for _ in range(100)]
        with pytest.raises(library.AssociationRefused) as refused:
            library.associate(address, contexts=CONTEXTS)
        assert (refused.value.result, refused.value.source, refused.value.reason) == (2, 3, 2)
        assert min(sockets_of(pid, port_of(address)) for pid in pids) >= 40
        standing.pop().release()

        def has_room() -> bool:
            with suppress(library.AssociationRefused):
                standing.append(library.associate(address, contexts=CONTEXTS))
                return True
            return False

        until(has_room, "room for one more")
        # Those of a worker that dies stand no more.
        os.kill(pids[0], signal.SIGKILL)
        until(has_room, "room that a dead worker left")
        for association in standing:
            with suppress(library.DulcetError):
                association.abort()


def test_a_shared_port_counts_across_processes() -> None:
    parent = SharedPort.open("127.0.0.1", 0, members=2, slots=4)
    one, two = (
        SharedPort(parent.sockets, os.dup(parent.table), parent.members, parent.slots, member) for member in (0, 1)
    )
    for port in (one, two):
        port.set_load(0)
    one.came("10.0.0.1", "A")
    one.came("10.0.0.1", "B")
    two.came("10.0.0.2", "A")
    assert one.standing("10.0.0.1", "A") == two.standing("10.0.0.1", "A") == (3, 2, 2)
    one.gone("10.0.0.1", "A")
    assert two.standing("10.0.0.1", "A") == (2, 1, 1)
    one.set_load(3)
    assert (one.is_ahead(), two.is_ahead()) == (True, False)
    parent.clear(1)
    assert (one.is_ahead(), one.standing("10.0.0.2", "A")) == (False, (1, 0, 0))
    parent.close()


# ---------------------------------------------------------------------- stopping


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_drains_all_workers(tmp_path: Path, number: signal.Signals) -> None:
    data = data_set(uid="1.2.3", bulk=2000)
    with supervisor(tmp_path / "kept") as (running, address, pids):
        slow, other = one_at_each(address, pids, lambda: Slow(address, data), lambda slow: slow.wire.sock.close())
        running.send(number)
        running.until("stopping")
        until(lambda: is_refused(address), "nobody new is let in")
        assert slow.finish() == other.finish() == 0
        slow.release()
        other.release()
        done = running.end()
    assert done.code == 0
    assert done.lines()[-1] == {"event": "stopped", "stored": 2, "refused": 0}
    assert kept(tmp_path / "kept") == {"1.2.3.dcm": data}
    assert not any(map(is_alive, pids))


def is_refused(address: str) -> bool:
    try:
        library.associate(address).abort()
    except (library.PeerUnreachable, library.AssociationError):
        return True
    return False


def test_a_second_signal_does_not_wait_and_what_does_not_end_is_aborted(tmp_path: Path) -> None:
    with supervisor(tmp_path / "kept", "--drain", 60) as (running, address, _):
        slow = Slow(address, data_set(uid="1.2.3", bulk=2000))
        running.send(signal.SIGTERM)
        running.until("stopping")
        running.send(signal.SIGINT)
        assert type(slow.wire.message()).__name__ == "Abort"
        slow.wire.sock.close()
        assert running.end().code == 0
    assert list((tmp_path / "kept").iterdir()) == []


def test_a_signal_to_the_whole_group_is_one_signal(tmp_path: Path) -> None:
    data = data_set(uid="1.2.3", bulk=2000)
    with supervisor(tmp_path / "kept", "--drain", 60) as (running, address, pids):
        slow = Slow(address, data)
        for pid in (*pids, running.popen.pid):  # as a service manager does
            os.kill(pid, signal.SIGTERM)
        running.until("stopping")
        assert slow.finish() == 0
        slow.release()
        assert running.end().code == 0


# ---------------------------------------------------------------------- kills


def test_a_killed_worker_harms_nobody_else_and_is_replaced(tmp_path: Path) -> None:
    data = data_set(uid="1.2.3", bulk=2000)
    files = make_folder(tmp_path / "files", 80, 3000, CT_IMAGE)
    acknowledged: set[Path] = set()
    aborted: list[type[Exception]] = []
    with supervisor(tmp_path / "kept") as (running, address, pids):
        slow = Slow(address, data)
        [holder] = [pid for pid in pids if sockets_of(pid, port_of(address))]
        begun = threading.Barrier(5)

        def send(mine: list[Path]) -> None:
            left = list(mine)
            while left:
                try:
                    with library.associate(address, contexts=CONTEXTS) as association:
                        for file in list(left):
                            association.store(file).check()
                            acknowledged.add(file)
                            left.remove(file)
                            if len(left) == 15:
                                begun.wait(PATIENCE)
                except library.DulcetError as error:
                    aborted.append(type(error))

        threads = [threading.Thread(target=send, args=(files[number::4],)) for number in range(4)]
        for thread in threads:
            thread.start()
        begun.wait(PATIENCE)
        others = {pid: sockets_of(pid, port_of(address)) for pid in pids}
        os.kill(holder, signal.SIGKILL)
        for thread in threads:
            thread.join(PATIENCE)
        running.until("was killed by SIGKILL; another one takes its place")
        replaced = json.loads(running.until('"worker serves"'))
        assert slow.wire.sock.recv(100) == b""
        assert len(aborted) <= others[holder] - 1  # the slow one apart, those of the dead worker and no others
        assert acknowledged == set(files)
        with library.associate(address, contexts=CONTEXTS) as association:
            assert association.echo().status == 0
        assert replaced["process"] not in pids
        done = running.stop()
        assert not is_alive(replaced["process"])
    assert done.code == 0
    stopped = done.lines()[-1]
    assert (stopped["event"], stopped["workers_lost"]) == ("stopped", 1)
    assert kept(tmp_path / "kept") == sent(files)
    # What the dead one had begun was swept by the one in its place, the living one's was not.
    assert [path.name for path in (tmp_path / "kept").iterdir() if path.suffix != ".dcm"] == []


def test_a_start_does_not_sweep_what_a_living_worker_has_begun(tmp_path: Path) -> None:
    data = data_set(uid="1.2.3", bulk=2000)
    with supervisor(tmp_path / "kept") as (running, address, pids):
        slow = Slow(address, data)
        [idle] = [pid for pid in pids if not sockets_of(pid, port_of(address))]
        os.kill(idle, signal.SIGKILL)
        running.until('"worker serves"')
        assert slow.finish() == 0
        slow.release()
    assert kept(tmp_path / "kept") == {"1.2.3.dcm": data}


def test_workers_end_with_their_parent_once_their_senders_have_finished(tmp_path: Path) -> None:
    data = data_set(uid="1.2.3", bulk=2000)
    with supervisor(tmp_path / "kept") as (running, address, pids):
        slow = Slow(address, data)
        [holder] = [pid for pid in pids if sockets_of(pid, port_of(address))]
        running.popen.kill()
        until(lambda: sum(map(is_alive, pids)) == 1, "the idle worker ends")
        assert is_alive(holder)
        assert is_refused(address)
        assert slow.finish() == 0
        slow.release()
        until(lambda: not is_alive(holder), "the busy one ends")
        assert "its parent is gone" in running.until("its parent is gone")
    assert kept(tmp_path / "kept") == {"1.2.3.dcm": data}


def test_a_worker_that_hangs_takes_nothing_and_the_others_do(tmp_path: Path) -> None:
    with supervisor(tmp_path / "kept") as (running, address, pids):
        os.kill(pids[0], signal.SIGSTOP)
        try:
            until(lambda: state(pids[0]) == "T", "it hangs")
            standing = [library.associate(address, contexts=CONTEXTS) for _ in range(4)]
            assert [association.echo().status for association in standing] == [0] * 4
            assert [sockets_of(pid, port_of(address)) for pid in pids] == [0, 4]
        finally:
            os.kill(pids[0], signal.SIGCONT)
        for association in standing:
            association.release()
        assert running.stop().code == 0


def test_one_that_dies_at_its_start_is_tried_again_ever_later(tmp_path: Path) -> None:
    """The first worker of each seat starts; those that take the place of a dead one fail, but for the third."""
    starts = tmp_path / "starts"
    starts.mkdir()
    (tmp_path / "sitecustomize.py").write_text(
        "import os, pathlib\n"
        "if 'DULCET_WORKER' in os.environ:\n"
        f"    starts = pathlib.Path({str(starts)!r})\n"
        "    (starts / str(os.getpid())).touch()\n"
        "    if len(list(starts.iterdir())) in (3, 4):\n"
        "        os._exit(9)\n"
    )
    arguments = ("listen", "--port", 0, "--dir", tmp_path / "kept", "--workers", 2, "--json")
    with going_on(*arguments, env={"PYTHONPATH": str(tmp_path)}) as running:
        ready = json.loads(running.until('"listening"'))
        os.kill(ready["workers"][0], signal.SIGKILL)
        for seconds, how in (("0.1", "was killed by SIGKILL"), ("0.2", "ended with 9"), ("0.4", "ended with 9")):
            assert how in running.until(f"takes its place in {seconds} s")
        running.until('"worker serves"')
        with library.associate(f"RECEIVER@127.0.0.1:{ready['port']}", contexts=CONTEXTS) as association:
            assert association.echo().status == 0
        done = running.stop()
    assert done.code == 0
    assert done.lines()[-1]["workers_lost"] == 3


# ---------------------------------------------------------------------- trouble


@pytest.mark.parametrize("verb", ["listen", "serve"])
@pytest.mark.parametrize("number", ["0", "-1", "abc", "65"])
def test_a_number_that_does_not_do_is_2(verb: str, number: str, tmp_path: Path) -> None:
    done = dulcet(verb, "--workers", number, cwd=tmp_path)
    assert done.code == 2
    assert "--workers" in done.errors
    assert list(tmp_path.iterdir()) == []


def test_a_port_in_use_is_2_and_said_once(tmp_path: Path) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        bound.listen()
        port = bound.getsockname()[1]
        done = dulcet("listen", "--port", port, "--dir", tmp_path / "kept", "--workers", 2)
    assert done.code == 2
    assert done.sentence().startswith(f"cannot listen on 127.0.0.1:{port}: Address already in use; choose another port")
    assert list((tmp_path / "kept").iterdir()) == []


def test_nobody_else_can_listen_on_the_port(tmp_path: Path) -> None:
    with supervisor(tmp_path / "kept") as (_, address, _), socket.socket() as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "SO_REUSEPORT"):
            thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        with pytest.raises(OSError, match="Address already in use"):
            thief.bind(("127.0.0.1", port_of(address)))


def test_one_that_cannot_start_ends_all(tmp_path: Path) -> None:
    """A worker that fails says why, and the command ends as it would have without workers."""
    (tmp_path / "sitecustomize.py").write_text(
        "import json, os, sys\n"
        "seat = os.environ.get('DULCET_WORKER')\n"
        "if seat and json.loads(seat)['number'] == 1:\n"
        "    print('dulcet: this one cannot', file=sys.stderr)\n"
        "    os._exit(7)\n"
    )
    start = time.monotonic()
    done = dulcet(
        "listen", "--port", 0, "--dir", tmp_path / "kept", "--workers", 2, env={"PYTHONPATH": str(tmp_path)}
    )
    assert done.code == 7
    assert done.sentence() == "this one cannot"
    assert done.output == ""
    assert time.monotonic() - start < 20
