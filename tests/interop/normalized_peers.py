"""Peers of the N-services and the worklist: DCMTK's worklist and print servers, and pynetdicom in this process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from tests.interop import peers

import dulcet
from dulcet import uids
from dulcet.services.identifiers import build_identifier

AE_TITLE = "PYNETDICOM"

WORKLIST_DUMP = """
(0008,0005) CS [ISO_IR 100]
(0008,0050) SH [A-{number}]
(0010,0010) PN [{name}]
(0010,0020) LO [{number}]
(0010,0030) DA [19500101]
(0010,0040) CS [F]
(0020,000d) UI [1.2.826.0.1.{number}]
(0032,1060) LO [EXAM]
(0040,0100) SQ
(fffe,e000) -
(0008,0060) CS [{modality}]
(0040,0001) AE [{modality}1]
(0040,0002) DA [{day}]
(0040,0003) TM [{hour}]
(0040,0006) PN [JOHNSON]
(0040,0007) LO [STEP]
(0040,0009) SH [S{number}]
(0040,0010) SH [STATION]
(fffe,e00d) -
(fffe,e0dd) -
(0040,1001) SH [R{number}]
(0040,1003) SH [LOW]
"""

SCHEDULE = (
    ("ABEL^ANNA", "CT", "20260705", "0900"),
    ("BOEHM^BEA", "MR", "20260705", "1200"),
    ("COOK^CARL", "CT", "20260706", "0300"),
    ("DOE^DAN", "CT", "20260707", "1700"),
    ("EVANS^EVE", "US", "20260707", "1900"),
)
"""Name, modality, date and time of each item."""


def worklist_items() -> list[Dataset]:
    """SCHEDULE as data sets."""
    return [
        build_identifier(
            {
                "AccessionNumber": f"A-{number}",
                "PatientName": name,
                "PatientID": str(number),
                "ScheduledProcedureStepSequence": [
                    {
                        "Modality": modality,
                        "ScheduledStationAETitle": f"{modality}1",
                        "ScheduledProcedureStepStartDate": day,
                        "ScheduledProcedureStepStartTime": hour,
                    }
                ],
            }
        )
        for number, (name, modality, day, hour) in enumerate(SCHEDULE, 1)
    ]


@contextmanager
def wlmscpfs(folder: Path) -> Iterator[peers.Server]:
    """DCMTK's worklist server, SCHEDULE in its files (made with dump2dcm)."""
    executable = peers.tool("wlmscpfs")
    files = folder / "WLMSCPFS"
    files.mkdir(parents=True)
    (files / "lockfile").touch()
    for number, (name, modality, day, hour) in enumerate(SCHEDULE, 1):
        dump = folder / f"{number}.dump"
        dump.write_text(WORKLIST_DUMP.format(number=number, name=name, modality=modality, day=day, hour=hour))
        peers.run([peers.tool("dump2dcm"), dump, files / f"{number}.wl"]).check()
    with peers._serve_on_free_port(
        lambda port: [executable, "--single-process", "-dfp", folder, "-dfr", str(port)],
        "WLMSCPFS",
        folder,
        peers.STOCK,
    ) as server:
        yield server


PRINTER_CONFIGURATION = """
[[GENERAL]]
[PRINT]
Directory = {folder}/spool
[DATABASE]
Directory = {folder}/database
[LUT]
Directory = {folder}/lut
[[COMMUNICATION]]
[PRINTER]
Aetitle = DCMPRSCP
Hostname = localhost
Port = {port}
Type = LOCALPRINTER
BorderDensity = 150\\20\\BLACK\\WHITE
DisableNewVRs = false
DisplayFormat = 1,1\\1,2\\2,2
EmptyImageDensity = 20\\BLACK\\WHITE
FilmDestination = MAGAZINE\\PROCESSOR
FilmSizeID = 8INX10IN\\14INX17IN
ImplicitOnly = false
MagnificationType = REPLICATE\\BILINEAR\\CUBIC\\NONE
MaxDensity = 320
MaxPDU = 32768
MediumType = PAPER\\CLEAR FILM\\BLUE FILM
MinDensity = 20
OmitSOPClassUIDFromCreateResponse = false
PresentationLUTMatchRequired = false
PresentationLUTinFilmSession = false
ResolutionID = STANDARD
SmoothingType = NONE
Supports12Bit = true
SupportsDecimateCrop = true
SupportsImageSize = true
SupportsPresentationLUT = true
SupportsTrim = true
"""


@contextmanager
def dcmprscp(folder: Path) -> Iterator[peers.Server]:
    """DCMTK's print server; what it printed lies in `folder`/database."""
    executable = peers.tool("dcmprscp")
    for name in ("spool", "database", "lut"):
        (folder / name).mkdir(parents=True)

    def command(port: int) -> peers.Arguments:
        configuration = folder / "printer.cfg"
        configuration.write_text(PRINTER_CONFIGURATION.format(folder=folder, port=port))
        return [executable, "--config", configuration, "--verbose"]

    with peers._serve_on_free_port(command, "DCMPRSCP", folder, peers.STOCK) as server:
        yield server


@dataclass
class Recorder:
    """What a pynetdicom peer was asked, and what it answers: (status, data set) for each kind of event."""

    answers: Mapping[str, tuple[int, Dataset | None]] = field(default_factory=dict)
    asked: list[tuple[str, Any]] = field(default_factory=list)
    arrived: threading.Condition = field(default_factory=threading.Condition)

    def handler(self, name: str, read: Callable[[Any], Any], *, status_alone: bool = False) -> Callable[[Any], Any]:
        """A pynetdicom handler that notes what `read` takes from the event."""

        def handle(event: Any) -> Any:
            with self.arrived:
                self.asked.append((name, read(event)))
                self.arrived.notify_all()
            status, dataset = self.answers.get(name, (0x0000, None))
            return status if status_alone else (status, dataset)

        return handle

    def handlers(self) -> list[tuple[Any, Any]]:
        """For every N-service."""

        def instance(event: Any) -> str:
            return str(event.request.RequestedSOPInstanceUID)

        readers: dict[Any, tuple[str, Callable[[Any], Any]]] = {
            evt.EVT_N_CREATE: ("create", lambda event: (event.request.AffectedSOPInstanceUID, event.attribute_list)),
            evt.EVT_N_SET: ("set", lambda event: (instance(event), event.modification_list)),
            evt.EVT_N_GET: ("get", lambda event: (instance(event), list(event.attribute_identifiers))),
            evt.EVT_N_ACTION: ("action", lambda event: (event.action_type, event.action_information)),
            evt.EVT_N_DELETE: ("delete", instance),
            evt.EVT_N_EVENT_REPORT: ("event", lambda event: (event.event_type, event.event_information)),
        }
        return [
            (event, self.handler(name, read, status_alone=event is evt.EVT_N_DELETE))
            for event, (name, read) in readers.items()
        ]

    def wait(self, count: int, timeout: float = 20.0) -> bool:
        """Wait until so many were asked."""
        with self.arrived:
            return self.arrived.wait_for(lambda: len(self.asked) >= count, timeout)


@contextmanager
def pynetdicom_provider(
    recorder: Recorder, sop_classes: Sequence[str], *, reversed_roles: bool = False
) -> Iterator[dulcet.Address]:
    """A pynetdicom acceptor of these classes; with `reversed_roles` it takes the user's role where that is proposed."""
    application = AE(ae_title=AE_TITLE)
    roles = {"scu_role": False, "scp_role": True} if reversed_roles else {}
    for sop_class in sop_classes:
        application.add_supported_context(sop_class, **roles)
    server: Any = application.start_server(("127.0.0.1", 0), block=False, evt_handlers=recorder.handlers())
    try:
        host, port = server.socket.getsockname()
        yield dulcet.Address(AE_TITLE, host, port)
    finally:
        server.shutdown()


@contextmanager
def pynetdicom_user(
    address: dulcet.Address, sop_classes: Sequence[str], recorder: Recorder | None = None
) -> Iterator[Any]:
    """An association that pynetdicom made."""
    application = AE(ae_title=AE_TITLE)
    for sop_class in sop_classes:
        application.add_requested_context(sop_class)
    handlers = recorder.handlers() if recorder is not None else []
    association: Any = application.associate(
        address.host, address.port, ae_title=address.ae_title, evt_handlers=handlers
    )
    assert association.is_established
    try:
        yield association
    finally:
        association.release()


UPS_CLASSES = (
    uids.UNIFIED_PROCEDURE_STEP_PUSH,
    uids.UNIFIED_PROCEDURE_STEP_PULL,
    uids.UNIFIED_PROCEDURE_STEP_WATCH,
    uids.UNIFIED_PROCEDURE_STEP_QUERY,
)
