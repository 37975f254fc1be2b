"""Names, identifiers, passcodes and tokens are planted everywhere, and looked for in all that is logged or raised."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import subprocess
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from tests.hostile.scripted import PATIENCE, perform
from tests.hostile.words import WORDS

import dulcet
import dulcet.aio
from dulcet import Node, UserIdentity, uids
from dulcet.services.identifiers import encode_dataset

PLANTED = ("Zebulon", "ZZ4711", "Xylophone", "opensesame", "eyJhbGciOi", "Quetzal")
"""A name, an identifier, a word in free text, a passcode, a token, an own word of a peer."""
NAME, IDENTIFIER, TEXT, PASSCODE, TOKEN, COMMENT = PLANTED

CT = uids.CT_IMAGE_STORAGE
EXPLICIT = uids.EXPLICIT_VR_LITTLE_ENDIAN
BOTH = pytest.mark.parametrize("face", ["blocking", "asyncio"])


class Everything(logging.Handler):
    """Every record of every logger, as the most talkative formatter would write it."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []
        self.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{self.format(record)} {record.args!r}")


@pytest.fixture
def said() -> Iterator[list[str]]:
    """All that is logged from now on; nothing that was planted may be in it at the end."""
    everything = Everything()
    root = logging.getLogger()
    level = root.level
    root.addHandler(everything)
    root.setLevel(logging.DEBUG)
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            yield everything.lines
    finally:
        root.removeHandler(everything)
        root.setLevel(level)
    everything.lines += [str(one.message) for one in warned]
    assert everything.lines
    secret(everything.lines)


def secret(lines: list[str]) -> None:
    for line in lines:
        for word in PLANTED:
            assert word.lower() not in line.lower(), line


def raised(work: Callable[[], object]) -> str:
    """What was raised, in every form in which it may be shown."""
    try:
        work()
    except Exception as error:
        chain: list[BaseException] = [error]
        while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None:
            chain.append(cause)
        ours = [one for one in chain if isinstance(one, dulcet.DulcetError)]
        shown = [f"{one!s} {one!r} {one.args!r} {getattr(one, '__notes__', '')}" for one in ours]
        shown += traceback.format_exception(error)
        secret(shown)
        return type(error).__name__
    return "nothing"


def patient(**values: Any) -> Dataset:
    made = Dataset()
    given = {
        "SOPClassUID": CT,
        "SOPInstanceUID": "1.2.3.4",
        "StudyInstanceUID": "1.2.3",
        "SeriesInstanceUID": "1.2.3.1",
        "PatientName": f"{NAME}^Jane",
        "PatientID": IDENTIFIER,
        "PatientComments": TEXT,
        **values,
    }
    for keyword, value in given.items():
        setattr(made, keyword, value)
    return made


def saved(path: Path) -> Dataset:
    """A whole instance, in a file as well."""
    whole = patient()
    whole.file_meta = FileMetaDataset()
    whole.file_meta.TransferSyntaxUID = EXPLICIT
    whole.save_as(path, enforce_file_format=True)
    return whole


def spoilt() -> bytes:
    """An encoded data set whose values do not fit their VRs and which ends early, all of them planted."""
    text = f"{NAME}^{IDENTIFIER}^{TEXT}".encode()
    element = b"\x10\0\x40\0CS" + len(text).to_bytes(2, "little") + text
    return element + b"\x10\0\x10\0PN\xff\0" + text


CONFIG = dulcet.AssociationConfig(
    observers=(dulcet.log_trace_events(),), timers=dulcet.Timers(artim=0.3, response=2.0, progress=0.5)
)


def node() -> Node:
    """Answers queries with patients, knows who asks, and fails in every way of its own."""

    made = Node("PROVIDER", config=CONFIG)

    @made.verify_identity
    def verify(identity: Any, request: Any) -> bool:
        if identity is not None and identity.primary == b"FAULT":
            raise RuntimeError(f"{PASSCODE} is not the word for {NAME}")
        return identity is None or identity.secondary == PASSCODE.encode() or identity.identity_type == 5

    @made.on_find(models=("study", "worklist"))
    def find(request: Any) -> Iterator[Any]:
        sex = request.identifier.get("PatientSex")
        yield patient()
        if sex == "O":
            yield dulcet.Status.CANNOT_UNDERSTAND
        if sex == "F":
            broken = patient()
            broken.add_new("PatientWeight", "DS", "70")
            broken["PatientWeight"]._value = [NAME] * 3
            broken.add_new("Rows", "US", f"{NAME}^{IDENTIFIER}")
            yield broken

    @made.on_store
    def store(request: Any) -> int:
        return 0 if request.dataset().PatientID == IDENTIFIER else 0xA700

    return made


@contextlib.contextmanager
def serving(face: str) -> Iterator[str]:
    if face == "blocking":
        with node().threads(port=0) as server:
            yield str(server.address)
        return
    started, stop = threading.Event(), asyncio.Event()
    where: list[Any] = []

    async def main() -> None:
        async with node().start(port=0) as server:
            where.extend((asyncio.get_running_loop(), str(server.address)))
            started.set()
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(main(),), daemon=True)
    thread.start()
    assert started.wait(PATIENCE)
    try:
        yield where[1]
    finally:
        where[0].call_soon_threadsafe(stop.set)
        thread.join(PATIENCE)


@BOTH
def test_sessions_that_go_well_and_not_so_well(face: str, tmp_path: Path, said: list[str]) -> None:
    file = tmp_path / "one.dcm"
    whole = saved(file)
    with serving(face) as address:

        def session(**options: Any) -> None:
            with dulcet.associate(address, config=CONFIG, **options) as association:
                repr(association)
                assert association.store(file).status == 0
                list(association.find(level="STUDY", PatientName=f"{NAME}*", PatientID=IDENTIFIER))
                list(association.find(model="worklist", PatientName=f"{NAME}*"))
                association.store(whole)

        async def on_the_loop(**options: Any) -> None:
            async with dulcet.aio.associate(address, config=CONFIG, **options) as association:
                assert (await association.store(file)).status == 0
                async for match in association.find(level="STUDY", PatientName=f"{NAME}*"):
                    assert match.PatientID == IDENTIFIER

        def run(**options: Any) -> None:
            if face == "blocking":
                session(**options)
            else:
                asyncio.run(on_the_loop(**options))

        assert raised(run) == "nothing"
        assert raised(lambda: run(identity=UserIdentity.passcode("someone", PASSCODE, confirm=True))) == "nothing"
        assert raised(lambda: run(identity=UserIdentity.jwt(TOKEN.encode()))) == "nothing"
        assert raised(lambda: run(identity=UserIdentity.passcode(NAME, f"not {PASSCODE}"))) == "AssociationRefused"
        assert raised(lambda: run(identity=UserIdentity.passcode("FAULT", PASSCODE))) == "AssociationRefused"
        assert raised(lambda: run(identity=UserIdentity.saml(TOKEN.encode()))) == "AssociationRefused"
    assert any("C-FIND" in line for line in said), "what happens is logged at DEBUG"
    secret([repr(UserIdentity.passcode(NAME, PASSCODE)), repr(UserIdentity.jwt(TOKEN.encode()))])


@BOTH
def test_what_goes_wrong_with_data_does_not_quote_them(face: str, tmp_path: Path, said: list[str]) -> None:
    broken = tmp_path / "broken.dcm"
    broken.write_bytes(bytes(128) + b"DICM" + spoilt())
    strange = patient(SOPInstanceUID="1.2.3.5")
    strange.add_new("Rows", "US", f"{NAME}^{IDENTIFIER}")
    with serving(face) as address, dulcet.associate(address, config=CONFIG) as association:
        assert raised(lambda: association.store(broken)) != "nothing"
        assert raised(lambda: association.store(strange)) != "nothing"
        assert raised(lambda: list(association.find(level="STUDY", PatientSex="O"))) == "StatusError"
        assert raised(lambda: list(association.find(level="STUDY", PatientSex="F"))) == "StatusError"
        invoked = raised(lambda: list(association.find(level="STUDY", identifier=strange)))
        assert invoked != "nothing"
    assert any("find" in line.lower() for line in said)


@BOTH
def test_hostile_bytes_are_not_quoted_either(face: str, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    words = f"{NAME} {IDENTIFIER} {PASSCODE} {TOKEN}".encode()
    monkeypatch.setitem(WORDS, "planted", lambda: words * 10)
    monkeypatch.setitem(WORDS, "planted HTTP", lambda: b"GET /?name=" + words + b" HTTP/1.1\r\nAuthorization: " + words)
    monkeypatch.setitem(WORDS, "planted items", lambda: WORDS["RQ"]().replace(b"1.2.840.10008.5.1.4.1.1.2", words[:25]))
    monkeypatch.setitem(
        WORDS, "planted command", lambda: WORDS["echo"]().replace(uids.VERIFICATION.encode(), words[:17])
    )
    with serving(face) as address:
        port = int(address.rpartition(":")[2])
        for script in (
            "planted",
            "planted HTTP",
            "RQ; read; planted",
            "RQ; read; planted command; read; RELEASE-RQ",
            "planted items; read; RELEASE-RQ",
            "RQ; read; half a data set; planted",
        ):
            perform(port, script)


def test_the_commands_do_not_quote_them_on_standard_error(tmp_path: Path) -> None:
    file, kept = tmp_path / "one.dcm", tmp_path / "kept"
    saved(file)
    made = node()

    @made.on_find
    def odd(request: Any) -> Iterator[Any]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            answer = patient(PatientSex=f"{NAME}^{TEXT}", PatientBirthDate=IDENTIFIER)
            answer.SpecificCharacterSet = TEXT
            encode_dataset(answer, EXPLICIT)
        yield answer

    with made.threads(port=0) as server:
        address = str(server.address)
        for arguments in (
            ["store", address, str(file)],
            ["find", address, "-k", f"PatientName={NAME}*", "-k", "PatientSex", "-k", "PatientBirthDate"],
            ["find", address, "-k", f"PatientSex={NAME}^{TEXT}"],
            ["get", address, "-k", f"PatientID={IDENTIFIER}", "--dir", str(kept)],
            ["store", address, str(tmp_path / "none.dcm")],
        ):
            for debug in ([], ["--debug"]):
                done = subprocess.run(
                    [sys.executable, "-m", "dulcet", *debug, *arguments],
                    capture_output=True, text=True, timeout=60, check=False,
                    env={key: value for key, value in os.environ.items() if not key.startswith("COV")},
                )  # fmt: skip
                secret(done.stderr.splitlines())
