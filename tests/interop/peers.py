"""Real peers as processes: DCMTK's tools, pynetdicom and dulcet itself, on free loopback ports.

Laws: a server is used only once it accepts connections; every wait has a deadline; everything started here is stopped
by its own process id on leaving the `with`, also after a failure; output goes to a file, so a chatty peer never blocks;
a tool that is not installed is an error, never a skip.
"""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from tests.corpus import SYNTAX_NAMES

HOST = "127.0.0.1"
START_DEADLINE = 20.0  # a Python peer imports its library first; two busy cores make that seconds
STOP_DEADLINE = 15.0
POLL_INTERVAL = 0.005
VERIFICATION = "1.2.840.10008.1.1"
HERE = Path(__file__).resolve().parent
READY_LINE = re.compile(r"listening on (?P<host>\S+):(?P<port>\d+) as (?P<aet>\S+)")

# DCMTK has these two switches in its environment: no Nagle, and large socket buffers.
TUNED = {"TCP_NODELAY": "1", "TCP_BUFFER_LENGTH": "1048576"}
STOCK: dict[str, str] = {}

Arguments = Sequence[str | Path]


class MissingTool(Exception):
    """A program that these tests need is not installed."""


class PeerFailed(Exception):
    """A peer did not start, did not end in time, or ended with an error; carries its output."""


def tool(name: str, package: str = "dcmtk") -> str:
    """The full path of an installed program."""
    path = shutil.which(name)
    if path is None:
        raise MissingTool(f"{name} is not installed; on Debian: apt-get install {package}")
    return path


def system_python() -> str:
    """The Python that Debian's packages of libraries are for."""
    path = "/usr/bin/python3"
    if not Path(path).exists() or run([path, "-c", "import odil"]).returncode:
        raise MissingTool("odil is not there for /usr/bin/python3; on Debian: apt-get install odil python3-odil")
    return path


def free_port() -> int:
    """A port that nobody listens on at this moment; whoever binds it later must be ready to lose a race."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True, slots=True)
class Finished:
    """How a process ended: times in seconds, memory in bytes."""

    arguments: tuple[str, ...]
    returncode: int
    output: str
    errors: str
    seconds: float
    cpu_seconds: float
    peak_bytes: int = 0

    def check(self) -> Finished:
        """Itself, if the process ended with 0; raises PeerFailed otherwise."""
        if self.returncode:
            raise PeerFailed(f"exit code {self.returncode} from {' '.join(self.arguments)}\n{self.output}{self.errors}")
        return self

    def json_lines(self) -> list[dict[str, object]]:
        """Every line of standard output that is a JSON object."""
        return [json.loads(line) for line in self.output.splitlines() if line.startswith("{")]


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name not in TUNED}
    return {**inherited, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1", **extra}


def descendants(pid: int) -> list[int]:
    """A process and all its children, as far as they still live."""
    found = [pid]
    for parent in found:
        try:
            for children in Path(f"/proc/{parent}/task").glob("*/children"):
                found += [int(child) for child in children.read_text().split()]
        except OSError:  # it has just ended
            continue
    return found


def peak_memory(pid: int) -> int:
    """The largest resident size so far of a process and its children together, in bytes; 0 once it is gone."""
    total = 0
    for member in descendants(pid):
        try:
            status = Path(f"/proc/{member}/status").read_text()
        except OSError:
            continue
        peak = re.search(r"VmHWM:\s+(\d+) kB", status)
        total += int(peak[1]) * 1024 if peak else 0
    return total


def cpu_seconds(pid: int) -> float:
    """Processor time used so far by a process and the children it waited for."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


@dataclass(slots=True)
class Process:
    """One started program with its output in files; `wait` and `stop` are bounded."""

    arguments: tuple[str, ...]
    popen: subprocess.Popen[bytes]
    out: IO[bytes]
    err: IO[bytes]
    started: float
    peak_bytes: int = 0
    finished: Finished | None = None

    @property
    def pid(self) -> int:
        return self.popen.pid

    def output(self) -> str:
        return _text(self.out)

    def errors(self) -> str:
        return _text(self.err)

    def ended(self) -> bool:
        """Whether the process is over; it is not reaped by asking."""
        if self.finished is not None:
            return True
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def wait(self, timeout: float, sample_memory: bool = False) -> Finished:
        """Wait for the end; after `timeout` seconds kill the process and raise PeerFailed."""
        if self.finished is not None:
            return self.finished
        if not self._await_exit(timeout, sample_memory):
            self._signal_group(signal.SIGKILL)
            self._reap()
            raise PeerFailed(f"still running after {timeout:g} s: {' '.join(self.arguments)}\n{self._all_output()}")
        return self._reap()

    def stop(self, timeout: float = STOP_DEADLINE) -> Finished:
        """Ask the process to end (SIGTERM), and give how it did."""
        if self.finished is None and not self.ended():
            self.peak_bytes = max(self.peak_bytes, peak_memory(self.pid))
            os.kill(self.pid, signal.SIGTERM)
        finished = self.wait(timeout)
        self._signal_group(signal.SIGKILL)  # the children of a forking server that were still at work
        return finished

    def _await_exit(self, timeout: float, sample_memory: bool) -> bool:
        deadline = time.monotonic() + timeout
        descriptor = os.pidfd_open(self.pid)
        try:
            poller = select.poll()
            poller.register(descriptor, select.POLLIN)
            while (left := deadline - time.monotonic()) > 0:
                if poller.poll(20 if sample_memory else max(1, int(left * 1000))):
                    return True
                self.peak_bytes = max(self.peak_bytes, peak_memory(self.pid))
            return False
        finally:
            os.close(descriptor)

    def _reap(self) -> Finished:
        _, status, usage = os.wait4(self.pid, 0)
        seconds = time.monotonic() - self.started
        self.popen.returncode = os.waitstatus_to_exitcode(status)
        processor = usage.ru_utime + usage.ru_stime
        self.finished = Finished(
            self.arguments,
            self.popen.returncode,
            self.output(),
            self.errors(),
            seconds,
            processor,
            self.peak_bytes,
        )
        return self.finished

    def _signal_group(self, number: signal.Signals) -> None:
        try:
            os.killpg(self.pid, number)  # every process here leads a group of its own
        except ProcessLookupError:
            pass

    def _all_output(self) -> str:
        return f"{self.output()}{self.errors()}"


def _text(file: IO[bytes]) -> str:
    size = os.fstat(file.fileno()).st_size
    return os.pread(file.fileno(), size, 0).decode("utf-8", "replace")


@contextmanager
def process(arguments: Arguments, environment: Mapping[str, str] = STOCK) -> Iterator[Process]:
    """Start a program; whatever happens, it is gone on leaving."""
    words = tuple(map(str, arguments))
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        started = time.monotonic()
        popen = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=_environment(environment), process_group=0
        )
        running = Process(words, popen, out, err, started)
        try:
            yield running
        finally:
            if running.finished is None:
                running._signal_group(signal.SIGKILL)
                running._reap()


def run(
    arguments: Arguments,
    environment: Mapping[str, str] = STOCK,
    timeout: float = 60.0,
    sample_memory: bool = False,
) -> Finished:
    """Run a program to its end, which must come within `timeout` seconds."""
    with process(arguments, environment) as running:
        return running.wait(timeout, sample_memory)


@dataclass(slots=True)
class Server:
    """A peer that listens."""

    process: Process
    port: int
    aet: str
    folder: Path | None = None
    host: str = field(default=HOST)

    @property
    def address(self) -> str:
        return f"{self.aet}@{self.host}:{self.port}"

    def output(self) -> str:
        return self.process._all_output()

    def stop(self, timeout: float = STOP_DEADLINE) -> Finished:
        return self.process.stop(timeout)


ServerContext = AbstractContextManager[Server]


def accepts(port: int, host: str = HOST) -> bool:
    """Whether somebody accepts a connection there right now."""
    try:
        with socket.create_connection((host, port), timeout=1.0):
            return True
    except OSError:
        return False


def listens(port: int) -> bool:
    """True when some socket of this machine listens on a port of IPv4, by what the kernel says."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port for row in rows)


def wait_until(condition: Callable[[], bool], timeout: float, what: str) -> None:
    """Look again and again until `condition` holds; raises PeerFailed after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise PeerFailed(f"not within {timeout:g} s: {what}")
        time.sleep(POLL_INTERVAL)


def _wait_for_port(running: Process, port: int) -> None:
    name = Path(running.arguments[0]).name
    wait_until(lambda: running.ended() or accepts(port), START_DEADLINE, f"{name} listens on port {port}")


@contextmanager
def _serve_on_free_port(
    command: Callable[[int], Arguments], aet: str, folder: Path | None, environment: Mapping[str, str]
) -> Iterator[Server]:
    """For tools that take a port number and say nothing: try ports until the tool keeps one."""
    for _ in range(5):
        port = free_port()
        with process(command(port), environment) as running:
            _wait_for_port(running, port)
            if running.ended():
                reason = running._all_output()
                continue
            server = Server(running, port, aet, folder)
            yield server
            if running.finished is None:
                server.stop()
            return
    raise PeerFailed(f"{aet} did not start on any of five ports; its last words:\n{reason}")


@contextmanager
def announced(arguments: Arguments, folder: Path | None, environment: Mapping[str, str] = STOCK) -> Iterator[Server]:
    """For servers that bind port 0 and print `listening on HOST:PORT as AET`."""
    with process(arguments, environment) as running:
        wait_until(
            lambda: running.ended() or READY_LINE.search(running._all_output()) is not None,
            START_DEADLINE,
            f"the line `listening on ...` from {' '.join(running.arguments)}",
        )
        ready = READY_LINE.search(running._all_output())
        if ready is None:
            raise PeerFailed(f"ended at once: {' '.join(running.arguments)}\n{running._all_output()}")
        server = Server(running, int(ready["port"]), ready["aet"], folder)
        yield server
        if running.finished is None:
            server.stop()


# ------------------------------------------------------------------------------------------------------- servers


def storescp(folder: Path, *options: str, environment: Mapping[str, str] = STOCK) -> ServerContext:
    """DCMTK's storescp, writing to `folder` exactly the bytes it received (+B)."""
    executable = tool("storescp")

    def command(port: int) -> Arguments:
        return [executable, "-aet", "STORESCP", "-od", folder, "+B", *options, str(port)]

    return _serve_on_free_port(command, "STORESCP", folder, environment)


def dcmrecv(
    folder: Path,
    *options: str,
    sop_classes: Iterable[str],
    transfer_syntaxes: Iterable[str] = tuple(SYNTAX_NAMES),
    environment: Mapping[str, str] = STOCK,
) -> ServerContext:
    """DCMTK's dcmrecv, writing to `folder` exactly the bytes it received (+B).

    It accepts nothing but what a configuration file lists, so one is written beside `folder`.
    """
    executable = tool("dcmrecv")
    configuration = folder.with_name(f"{folder.name}.dcmrecv.cfg")
    lines = ["[[TransferSyntaxes]]", "[Any]"]
    lines += [f"TransferSyntax{number} = {uid}" for number, uid in enumerate(transfer_syntaxes, 1)]
    lines += ["[[PresentationContexts]]", "[Storage]"]
    classes = sorted({VERIFICATION, *sop_classes})
    lines += [f"PresentationContext{number} = {uid}\\Any" for number, uid in enumerate(classes, 1)]
    lines += ["[[Profiles]]", "[Default]", "PresentationContexts = Storage", ""]
    configuration.write_text("\n".join(lines))

    def command(port: int) -> Arguments:
        profile = ("-xf", configuration, "Default")
        return [executable, "-aet", "DCMRECV", "-od", folder, "+B", *profile, *options, str(port)]

    return _serve_on_free_port(command, "DCMRECV", folder, environment)


def dcmqrscp(
    folder: Path, *options: str, max_pdu: int = 16384, environment: Mapping[str, str] = STOCK
) -> ServerContext:
    """DCMTK's archive dcmqrscp with one storage area QRSCP, keeping bytes as received (+B), its index beside them."""
    executable = tool("dcmqrscp")
    configuration = folder.with_name(f"{folder.name}.dcmqrscp.cfg")

    def command(port: int) -> Arguments:
        configuration.write_text(
            f"NetworkTCPPort = {port}\nMaxPDUSize = {max_pdu}\nMaxAssociations = 64\n"
            f"HostTable BEGIN\nHostTable END\nVendorTable BEGIN\nVendorTable END\n"
            f"AETable BEGIN\nQRSCP {folder} RW (500, 1024mb) ANY\nAETable END\n"
        )
        return [executable, "-c", configuration, "+B", *options, str(port)]

    return _serve_on_free_port(command, "QRSCP", folder, environment)


def pynetdicom_scp(folder: Path, *options: str) -> ServerContext:
    """A pynetdicom storage and verification provider, writing to `folder` the bytes it received."""
    return announced([sys.executable, HERE / "pynetdicom_scp.py", "--dir", folder, *options], folder)


@contextmanager
def odil_scp() -> Iterator[Server]:
    """A provider of storage and verification written with odil; it prints `stored UID` for each."""
    port = free_port()
    with process([system_python(), HERE / "odil_scp.py", str(port)]) as running:
        # Not by a connection: it would take that for its first association.
        wait_until(lambda: running.ended() or listens(port), START_DEADLINE, f"odil listens on port {port}")
        if running.ended():
            raise PeerFailed(f"odil did not start: {running._all_output()}")
        server = Server(running, port, "ODIL", None)
        yield server
        server.stop()


def dulcet_listen(
    folder: Path, *options: str, aet: str = "RECEIVER", environment: Mapping[str, str] = STOCK
) -> ServerContext:
    """`dulcet listen` on a free port of the loopback, writing to `folder`."""
    return announced([*DULCET, "listen", "--aet", aet, "--port", "0", "--dir", folder, *options], folder, environment)


def dulcet_scp(folder: Path, *options: str) -> ServerContext:
    """A provider written with the library, `dulcet.listen`, writing to `folder`."""
    return announced([sys.executable, HERE / "dulcet_scp.py", "--dir", folder, *options], folder)


# -------------------------------------------------------------------------------------------------------- senders

DULCET = (sys.executable, "-m", "dulcet")


def storescu(
    port: int,
    files: Arguments,
    *options: str,
    aet: str = "ANY-SCP",
    environment: Mapping[str, str] = STOCK,
    timeout: float = 60.0,
) -> Finished:
    """DCMTK's storescu, sending files over one association."""
    return run([tool("storescu"), "-aec", aet, *options, HOST, str(port), *files], environment, timeout)


def dcmsend(
    port: int,
    files: Arguments,
    *options: str,
    aet: str = "ANY-SCP",
    environment: Mapping[str, str] = STOCK,
    timeout: float = 60.0,
) -> Finished:
    """DCMTK's dcmsend, sending each file in its own transfer syntax."""
    return run([tool("dcmsend"), "-aec", aet, "-dn", *options, HOST, str(port), *files], environment, timeout)


def echoscu(
    port: int,
    *options: str,
    aet: str = "ANY-SCP",
    environment: Mapping[str, str] = STOCK,
    timeout: float = 60.0,
) -> Finished:
    """DCMTK's echoscu."""
    return run([tool("echoscu"), "-aec", aet, *options, HOST, str(port)], environment, timeout)


def gdcmscu(port: int, *options: str | Path, aet: str = "ANY-SCP", timeout: float = 60.0) -> Finished:
    """GDCM's gdcmscu: echo, store, find or move, by its options."""
    titles = ("--aetitle", "GDCM", "--call", aet)
    unbuffered = ("stdbuf", "-o0")  # it aborts at its end, and would lose what it said
    return run([*unbuffered, tool("gdcmscu", "libgdcm-tools"), *options, *titles, HOST, str(port)], timeout=timeout)


def odil(*arguments: str | Path, timeout: float = 60.0) -> Finished:
    """odil's command: echo, store, find or get."""
    system_python()
    return run([tool("odil", "odil"), *arguments], timeout=timeout)


def pynetdicom_scu(port: int, files: Arguments, *options: str, aet: str = "ANY-SCP", timeout: float = 60.0) -> Finished:
    """A pynetdicom storage user; prints a JSON object with what it sent. Without files it sends one C-ECHO."""
    return run(
        [sys.executable, HERE / "pynetdicom_scu.py", "--aec", aet, "--port", str(port), *options, *files],
        timeout=timeout,
    )


def dulcet(*arguments: str | Path, timeout: float = 60.0, environment: Mapping[str, str] = STOCK) -> Finished:
    """One `dulcet` command as a process of its own."""
    return run([*DULCET, *arguments], environment, timeout)
