"""What docs/explanation/hostile-peers.md promises, row by row, on both faces, and what takes many connections."""

from __future__ import annotations

import contextlib
import logging
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.corpus import CT_IMAGE, make_instance
from tests.hostile import test_limits
from tests.hostile.scripted import PATIENCE, boundaries, perform, until
from tests.hostile.sources import attempt, provider
from tests.hostile.table import rows
from tests.hostile.targets import FACES, QUICK, is_served, nothing_left, target
from tests.hostile.words import say

import dulcet

PROVIDED = [*rows("Before an association"), *rows("Clumsy requests"), *rows("On an association")]
USED = rows("Providers")
SESSION = "RQ; read; echo; read; store; read; RELEASE-RQ; read"


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    with nothing_left():
        yield


def accepted(strict: bool = False, friends: bool = False) -> dict[str, object]:
    """The options of a provider for a row."""
    return {
        "config": dulcet.AssociationConfig(timers=QUICK, strict=strict),
        "policy": dulcet.AcceptancePolicy.storage("PROVIDER", promiscuous=True, calling=["GOOD"] if friends else None),
        "maximum_per_host": 500,
    }


def logged(records: list[logging.LogRecord], peer: str, level: int) -> list[str]:
    """The lines about one peer, from a level on."""
    lines = [record.getMessage() for record in records if record.levelno >= level]
    return [line for line in lines if line.startswith(peer)]


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("row", PROVIDED, ids=[f"{row['case']}: {row['the peer']}" for row in PROVIDED])
def test_a_provider_does_what_the_table_says(
    row: dict[str, str], face: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dulcet")
    setting = re.search(r"\(with: (\w+)\)$", row["case"])
    options = accepted(**{setting[1]: True} if setting else {})
    with target(face, tmp_path, **options) as made:
        peer = perform(made.port, row["the peer"])
        is_served(made.address)  # also a sign that what came before was noticed
        made.is_idle()
    got = ", ".join(peer.got) or "—"
    lines = logged(caplog.records, peer.name, logging.WARNING if row["log"] == "—" else logging.INFO)
    assert got in row["it gets"].split(" or ")
    if row["log"] == "—":
        assert lines == []
    elif row["log"] != "*":
        assert any(row["log"] in line for line in lines), lines
    for line in lines:
        assert line.isprintable()
    assert [record for record in caplog.records if record.exc_info] == []
    assert list(tmp_path.parent.rglob("*evil*")) == []


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("row", USED, ids=[f"{row['case']}: {row['the peer']}" for row in USED])
def test_a_user_learns_what_the_table_says(row: dict[str, str], face: str) -> None:
    start = time.monotonic()
    with provider(row["the peer"]) as address:
        came = attempt(face, address)
    assert time.monotonic() - start < 3
    if isinstance(came, dulcet.Status):
        assert (f"{int(came):04X}H", "—") == (row["it comes to"], row["message"])
    else:
        assert type(came).__name__ in row["it comes to"].split(" or ")
        assert isinstance(came, dulcet.DulcetError)
        assert row["message"] == "*" or row["message"] in str(came)


def test_every_row_of_crowds_and_moments_has_its_test() -> None:
    names = globals().keys() | vars(test_limits).keys()
    assert {row["test"] for row in rows("Crowds and moments")} <= names


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_reset_at_every_boundary_of_pdus_leaves_nothing(
    face: str, how: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with target(face, tmp_path, **accepted()) as made:
        for beginning in boundaries(SESSION):
            perform(made.port, f"{beginning}; {how}" if beginning else how)
        made.is_idle()
        is_served(made.address)
    assert [record for record in caplog.records if record.exc_info] == []
    assert [found.name for found in tmp_path.rglob("*.dcm")] == ["1.2.3.4.dcm"]


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("how", ["close", "reset"])
def test_the_end_in_the_middle_of_every_pdu_leaves_nothing(
    face: str, how: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    steps = SESSION.split("; ")
    with target(face, tmp_path, **accepted()) as made:
        for count, step in enumerate(steps):
            if step != "read":
                perform(made.port, "; ".join([*steps[:count], f"half {step}", how]))
        made.is_idle()
        is_served(made.address)
    assert [record for record in caplog.records if record.exc_info] == []
    assert [found.name for found in tmp_path.rglob("*.dcm")] == ["1.2.3.4.dcm"], "the last one cuts its release"


def hold(port: int, words: bytes, count: int, holding: contextlib.ExitStack) -> list[socket.socket]:
    """So many connections that say this and no more."""
    made = []
    for _ in range(count):
        sock = holding.enter_context(socket.create_connection(("127.0.0.1", port), timeout=PATIENCE))
        sock.sendall(words)
        made.append(sock)
    return made


@pytest.mark.parametrize("face", FACES)
def test_a_thousand_half_open_connections_keep_nobody_waiting(face: str, tmp_path: Path) -> None:
    options = accepted() | {"config": dulcet.AssociationConfig(timers=dulcet.Timers(artim=2.0))}
    with target(face, tmp_path, **options) as made, contextlib.ExitStack() as holding:
        threads = threading.active_count()
        crowd = hold(made.port, b"", 500, holding) + hold(made.port, say("half RQ"), 500, holding)
        until(lambda: made.left() >= 1000 or (made.left() > 900), "they are all there")
        assert threading.active_count() == threads, "they cost no thread"
        times = []
        for _ in range(3):
            start = time.monotonic()
            is_served(made.address)
            times.append(time.monotonic() - start)
        assert min(times) < 1.0
        for sock in crowd:
            assert sock.recv(1) == b""
        made.is_idle()


HOLDERS = (
    "silence",
    "half RQ; silence",
    "drip RQ",
    "HTTP",
    "zeros",
    "random",
    "TLS hello",
    "RQ; read; half a data set; silence",
)


@pytest.mark.parametrize("face", FACES)
def test_a_good_sender_beside_hostile_ones_is_served_all_the_same(face: str, tmp_path: Path) -> None:
    files = [make_instance(tmp_path / f"{n}.dcm", 2000, seed=n, sop_class_uid=CT_IMAGE) for n in range(200)]
    with target(face, tmp_path / "kept", **accepted()) as made:
        stop = threading.Event()

        def annoy(script: str) -> None:
            while not stop.is_set():
                perform(made.port, script)

        threads = [threading.Thread(target=annoy, args=(script,), daemon=True) for script in HOLDERS * 5]
        for thread in threads:
            thread.start()
        try:
            start = time.monotonic()
            with dulcet.associate(made.address) as association:
                assert time.monotonic() - start < 2.0
                assert all(sent.ok for sent in association.store_many(files))
        finally:
            stop.set()
            for thread in threads:
                thread.join(PATIENCE)
        made.is_idle()
    assert len(list((tmp_path / "kept").glob("*.dcm"))) == len(files)
