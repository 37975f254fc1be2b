"""The least that moving a file can cost in Python: read and sendall on one side, recv_into and write on the other.

sendfile would cost the sender less and the receiver more: it copies from cold pages, not from a buffer just written.

Usage: bare_loop.py receive FOLDER (prints `listening on ...`, serves until SIGTERM); bare_loop.py send PORT FOLDER.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

RECEIVE_BUFFER = 1 << 20  # 64 KiB to 1 MiB tried: the largest was the fastest, by a tenth
SEND_BUFFER = 1 << 17
ACKNOWLEDGEMENT = b"!"


def receive(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(f"listening on 127.0.0.1:{listener.getsockname()[1]} as BARE", flush=True)
        buffer = memoryview(bytearray(RECEIVE_BUFFER))
        number = 0
        while True:
            connection, _ = listener.accept()
            with connection, open(folder / f"{number}.dcm", "wb", buffering=0) as file:
                number += 1
                while count := connection.recv_into(buffer):
                    file.write(buffer[:count])
                connection.sendall(ACKNOWLEDGEMENT)


def send(port: int, folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        buffer = memoryview(bytearray(SEND_BUFFER))
        with socket.create_connection(("127.0.0.1", port), timeout=120) as connection, path.open("rb", 0) as file:
            while count := file.readinto(buffer):
                connection.sendall(buffer[:count])
            connection.shutdown(socket.SHUT_WR)
            if connection.recv(1) != ACKNOWLEDGEMENT:
                raise SystemExit("no acknowledgement")


if __name__ == "__main__":
    if sys.argv[1] == "receive":
        os.umask(0o077)
        receive(Path(sys.argv[2]))
    else:
        send(int(sys.argv[2]), Path(sys.argv[3]))
