"""Echoes on one open association, each timed; and the bare exchange of as many bytes as the floor below it.

Usage: echo_client.py AET@HOST:PORT COUNT; echo_client.py --serve; echo_client.py --bare HOST:PORT COUNT.
"""

from __future__ import annotations

import json
import socket
import sys
from time import perf_counter

ECHO_BYTES = 80  # a C-ECHO-RQ in its P-DATA-TF; the response is as long within ten bytes


def dulcet_echoes(address: str, count: int) -> list[float]:
    import dulcet

    times = []
    with dulcet.associate(address) as association:
        for _ in range(count):
            began = perf_counter()
            association.echo().check()
            times.append(perf_counter() - began)
    return times


def bare_echoes(address: str, count: int) -> list[float]:
    host, _, port = address.partition(":")
    message, buffer, times = bytes(ECHO_BYTES), bytearray(1024), []
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(count):
            began = perf_counter()
            connection.sendall(message)
            connection.recv_into(buffer)
            times.append(perf_counter() - began)
    return times


def serve() -> None:
    buffer = bytearray(1024)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(f"listening on 127.0.0.1:{listener.getsockname()[1]} as BARE", flush=True)
        while True:
            connection, _ = listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with connection:
                while count := connection.recv_into(buffer):
                    connection.sendall(memoryview(buffer)[:count])


if __name__ == "__main__":
    if sys.argv[1] == "--serve":
        serve()
    elif sys.argv[1] == "--bare":
        print(json.dumps({"echo_seconds": bare_echoes(sys.argv[2], int(sys.argv[3]))}))
    else:
        print(json.dumps({"echo_seconds": dulcet_echoes(sys.argv[1], int(sys.argv[2]))}))
