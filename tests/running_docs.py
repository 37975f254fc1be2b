"""Run the Python blocks of one page of the documentation: `python -m tests.running_docs PAGE FOLDER`.

A page's blocks are one program, in their order, in an empty folder, as they stand: the page has a network of its own,
so every port on it is free, and the archive of the tutorial stands where the pages say that it does.  Line numbers in
tracebacks are the page's.  Where a block is followed at once by a block of `text`, that is what it prints: `…` stands
for anything.  So it is with the `dulcet` commands of a block of `sh` that is followed by one of `text`; other blocks of
`sh` are not run.  `<!-- python` and `-->` enclose what readers need not see.

A block that calls `node.serve(…)` goes on until it is told to stop, in a process of its own, as in another terminal;
what it prints stands among what the others print.  At the end of the page it gets SIGTERM and has to end well.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dulcet

if TYPE_CHECKING:
    from dulcet.node.threads import NodeThreads

FENCE = re.compile(r"^```(.*)$|^<!-- (python)$|^(-->)$")
SERVES = re.compile(r"^\w+\.serve\(", re.MULTILINE)
SECURE_PORT = 2762
PATIENCE = 40.0
ALONE = "DULCET_DOCS_ALONE"
"""Set in the process that has its network to itself."""


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: what stands behind its first fence, its first line in the page, its text."""

    info: str
    line: int
    text: str
    follows: bool
    """True when nothing but one empty line stands between it and the block before it."""


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page."""
    found: list[Block] = []
    lines = page.read_text(encoding="utf-8").splitlines()
    opened: int | None = None
    ended = -9
    for number, line in enumerate(lines):
        match = FENCE.match(line)
        if match is None or (opened is not None and line not in ("```", "-->")):
            continue
        if opened is None:
            opened = number
            continue
        info = re.sub(r"^(```|<!-- )", "", lines[opened]).strip()
        text = "\n".join(lines[opened + 1 : number]) + "\n"
        found.append(Block(info, opened + 2, text, opened - ended <= 2))
        ended, opened = number, None
    if opened is not None:
        raise ValueError(f"{page}, line {opened + 1}: a block that nobody ends")
    return found


def says(expected: str, printed: str) -> str | None:
    """Why what was printed is not what the page shows; None where it is."""
    wanted, got = expected.rstrip().splitlines(), printed.rstrip().splitlines()
    for number, line in enumerate(wanted):
        pattern = ".*".join(re.escape(part) for part in line.split("…"))
        if number >= len(got) or not re.fullmatch(pattern, got[number]):
            return f"line {number + 1} is not {line!r}"
    return None if len(got) == len(wanted) else f"more was printed: {got[len(wanted):]}"


def run(page: Path) -> int:
    """Run it here, in the current folder; how many blocks ran."""
    names: dict[str, object] = {"__name__": "__main__", "__file__": str(page)}
    count = 0
    with contextlib.ExitStack() as stack:
        stack.enter_context(archive(page))
        secure = f"@localhost:{SECURE_PORT}" in page.read_text("utf-8")
        standing = [stand_in(SECURE_PORT)] if secure else []
        stack.callback(lambda: [one.stop() for one in standing])
        out = stack.enter_context(open("../printed", "a+", buffering=1, encoding="utf-8"))
        found = blocks(page)
        for block, following in zip(found, [*found[1:], None], strict=True):
            shown = following if following is not None and following.info == "text" and following.follows else None
            start = os.fstat(out.fileno()).st_size
            if block.info == "python":
                program = compile("\n" * (block.line - 1) + block.text, str(page), "exec")
                if SERVES.search(block.text):
                    while standing:
                        standing.pop().stop()  # the page has come to the program that it called before
                    stack.enter_context(another_terminal(program, names, out))
                else:
                    with contextlib.redirect_stdout(out):
                        exec(program, names)  # noqa: S102
            elif block.info == "sh" and shown is not None:
                out.write("".join(map(run_command, block.text.splitlines())))
            else:
                continue
            count += 1
            out.flush()
            printed = Path("../printed").read_bytes()[start:].decode()
            if shown is not None and (why := says(shown.text, printed)) is not None:
                raise AssertionError(f"{page}, line {shown.line}: {why}; printed:\n{printed}")
    return count


@contextlib.contextmanager
def archive(page: Path) -> Iterator[None]:
    """That of the tutorial, by its very command; with the peers that the page says the archive has to have."""
    words = "serve --aet ARCHIVE --port 11112 --data ../dulcet-data --allow-any".split()
    tables = [block.text for block in blocks(page) if block.info == "toml" and block.text.startswith("[peers.ME]")]
    if tables:
        Path("../archive.toml").write_text("".join(tables), "utf-8")
        words += ["--config", "../archive.toml"]
    process = subprocess.Popen([sys.executable, "-m", "dulcet", *words], stdout=subprocess.DEVNULL)
    before = listening()
    try:
        wait_for_listener(before, process.poll)
        yield
        process.terminate()
        assert process.wait(PATIENCE) == 0, "the archive did not end well"
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def another_terminal(program: Any, names: dict[str, object], out: Any) -> Iterator[None]:
    """A block that serves, from when it listens until the page's end."""
    before = listening()
    out.flush()
    child = os.fork()
    if not child:
        code = 1
        try:
            with contextlib.redirect_stdout(out):
                exec(program, names)  # noqa: S102
            out.flush()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)

    def ended() -> int | None:
        found, status = os.waitpid(child, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if found else None

    try:
        wait_for_listener(before, ended)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGTERM)
    deadline = time.monotonic() + PATIENCE
    while (code := ended()) is None:
        assert time.monotonic() < deadline, "what serves does not end on SIGTERM"
        time.sleep(0.02)
    assert code == 0, f"what serves ended with {code}"


def listening() -> set[str]:
    """The sockets that listen in this network."""
    tables = (Path(f"/proc/self/net/{name}").read_text("ascii").splitlines()[1:] for name in ("tcp", "tcp6"))
    return {line.split()[9] for table in tables for line in table if line.split()[3] == "0A"}


def wait_for_listener(before: set[str], ended: Any) -> None:
    deadline = time.monotonic() + PATIENCE
    while not listening() - before:
        assert ended() is None, "it ended instead of listening"
        assert time.monotonic() < deadline, "nobody listens"
        time.sleep(0.02)


def run_command(line: str) -> str:
    """What a command says, errors last."""
    words = shlex.split(line)
    if words[0] != "dulcet":
        raise ValueError(f"only dulcet's commands are run here, not {line!r}")
    done = subprocess.run(
        [sys.executable, "-X", "utf8", "-m", *words], capture_output=True, encoding="utf-8", timeout=50, check=False
    )
    return done.stdout + done.stderr


def stand_in(port: int) -> NodeThreads:
    """Who is called with TLS on a page, by the names and files of `make_certificates`."""
    tls = dulcet.TLSConfig(ca_file="ca.pem", certificate="archive.pem", key="archive.key")
    node = dulcet.Node("RECEIVER", store_to="received-securely")
    node.on_store(lambda request: None)
    return node.threads("127.0.0.1", port, tls=tls)


def make_certificates() -> None:
    """`ca.pem`, and `archive` and `workstation` with their keys, good for the loopback."""
    from tests.tls.authority import Authority

    authority = Authority(Path("authority"), "Trial CA")
    Path("ca.pem").write_bytes(authority.file.read_bytes())
    for name in ("archive", "workstation"):
        issued = authority.issue(name, f"DNS:{name}.example.org", "DNS:localhost", "IP:127.0.0.1")
        Path(f"{name}.pem").write_bytes(issued.certificate.read_bytes())
        Path(f"{name}.key").write_bytes(issued.key.read_bytes())


def main() -> None:
    if ALONE not in os.environ:
        alone()
    switch_on_loopback()
    page, folder = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
    here = folder / "here"
    here.mkdir()
    os.chdir(here)
    make_study()
    if ".pem" in page.read_text("utf-8"):
        make_certificates()
    print(run(page), "blocks ran")


def alone() -> None:
    """Begin anew in a network of our own: as root, or as one who is root there alone."""
    unshare = shutil.which("unshare")
    assert unshare is not None, "unshare is missing (util-linux): the pages' programs need a network of their own"
    how = ["-n"] if os.geteuid() == 0 else ["-rn"]
    words = [unshare, *how, sys.executable, "-X", "utf8", "-m", "tests.running_docs", *sys.argv[1:]]
    os.execve(unshare, words, {**os.environ, ALONE: "1"})


def switch_on_loopback() -> None:
    """A new network has a loopback that is down."""
    name, up, get, put = b"lo", 0x1, 0x8913, 0x8914  # IFF_UP, SIOCGIFFLAGS, SIOCSIFFLAGS
    with socket.socket() as sock:
        (flags,) = struct.unpack_from("16xH", fcntl.ioctl(sock, get, struct.pack("256s", name)))
        fcntl.ioctl(sock, put, struct.pack("16sH238x", name, flags | up))


def make_study() -> None:
    """`study/`: three slices of a CT and one of an MR, as a newcomer would have them."""
    from pydicom import dcmread
    from pydicom.data import get_testdata_file

    Path("study").mkdir()
    for number in range(3):
        dataset = dcmread(str(get_testdata_file("CT_small.dcm", download=False)))
        dataset.PatientName, dataset.PatientID = "DOE^JANE", "4711"
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3", "1.2.3.1"
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.1.{number + 1}"
        dataset.InstanceNumber = number + 1
        dataset.save_as(f"study/{number + 1}.dcm")
    dataset = dcmread(str(get_testdata_file("MR_small.dcm", download=False)))
    dataset.save_as("study/mr.dcm")


if __name__ == "__main__":
    main()
