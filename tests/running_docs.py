"""Run the Python blocks of one page of the documentation: `python -m tests.running_docs PAGE FOLDER`.

A page's blocks are one program, in their order, in an empty folder; an archive stands at the address that the pages
name, on a port of its own.  Line numbers in tracebacks are the page's.  Where a block is followed at once by a block of
`text`, that is what it prints: `…` stands for anything.  So it is with the `dulcet` commands of a block of `sh` that is
followed by one of `text`; other blocks of `sh` are not run.  `<!-- python` and `-->` enclose what readers need not see.

`Node.serve`, which never returns by itself, serves in the background until the page's end.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dulcet
from dulcet.archive.application import Archive, Peer
from dulcet.upper_layer.address import Address

if TYPE_CHECKING:
    from dulcet.node.threads import NodeThreads

FENCE = re.compile(r"^```(.*)$|^<!-- (python)$|^(-->)$")
ARCHIVE_PORT = 11112
SECURE_PORT = 2762
OTHER_PORTS = (11113, 11114, 11115, 11116, 11117, SECURE_PORT)
"""Ports that programs on the pages listen on themselves."""


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


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def run(page: Path) -> int:
    """Run it here, in the current folder; how many blocks ran."""
    ports = {port: free_port() for port in OTHER_PORTS}
    us = Address("ME", "127.0.0.1", ports[11113])
    names: dict[str, object] = {"__name__": "__main__", "__file__": str(page)}
    count = 0
    with contextlib.ExitStack() as stack:
        archive = stack.enter_context(Archive("../archive", durable=False, peers={"ME": Peer(us)}, allow_any=True))
        serving = stack.enter_context(archive.node("ARCHIVE").threads())
        ports[ARCHIVE_PORT] = serving.address.port

        standing = [stand_in(ports[SECURE_PORT])] if f"@localhost:{SECURE_PORT}" in page.read_text("utf-8") else []
        stack.callback(lambda: [one.stop() for one in standing])

        def serve(node: dulcet.Node, host: str = "127.0.0.1", port: int = 0, *, tls: Any = None) -> bool:
            if port == ports[SECURE_PORT] and standing:
                standing.pop().stop()  # the page has come to the program that it called before
            stack.enter_context(node.threads(host, port, tls=tls))
            return True

        dulcet.Node.serve = serve  # type: ignore[method-assign]
        found = blocks(page)
        for block, following in zip(found, [*found[1:], None], strict=True):
            shown = following if following is not None and following.info == "text" and following.follows else None
            text = block.text
            for port, real in ports.items():
                text = re.sub(rf"\b{port}\b", str(real), text)
            if block.info == "python":
                with contextlib.redirect_stdout(io.StringIO()) as out:
                    exec(compile("\n" * (block.line - 1) + text, str(page), "exec"), names)  # noqa: S102
                printed = out.getvalue()
            elif block.info == "sh" and shown is not None:
                printed = "".join(map(run_command, text.splitlines()))
            else:
                continue
            count += 1
            for port, real in ports.items():
                printed = re.sub(rf"\b{real}\b", str(port), printed)
            if shown is not None and (why := says(shown.text, printed)) is not None:
                raise AssertionError(f"{page}, line {shown.line}: {why}; printed:\n{printed}")
    return count


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
    page, folder = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
    here = folder / "here"
    here.mkdir()
    os.chdir(here)
    make_study()
    if ".pem" in page.read_text("utf-8"):
        make_certificates()
    print(run(page), "blocks ran")


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
