"""The map of names: none of the contract is missing, each Python name is found, each line runs."""

from __future__ import annotations

import logging
import re
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
from tests.corpus import CT_IMAGE, EXPLICIT, make_instance
from tests.interop.peers import free_port
from tests.node.printer import Printer
from tests.toolkit.recording import (
    CLASSES,
    DATA_SET,
    INSTANCE,
    Recorded,
    accept_all,
    asking,
    connected,
    context_of,
    running,
    values_of,
)

import dulcet
from dulcet import toolkit, uids
from dulcet.dimse.command import Command
from dulcet.dimse.messages import CommandField
from dulcet.services.print_management import grayscale_image
from dulcet.toolkit import Associate, Net, Requester, StorageListener
from dulcet.toolkit.messages import ALL

MAP = Path(__file__).parents[2] / "docs" / "reference" / "toolkit-map.md"
ROW = re.compile(r"\| (?P<names>`.+?`) \| `(?P<python>[^`|]+)` \| `(?P<line>[^`|]+)` \|")
ROWS = [(match["names"].replace("`", ""), match["python"], match["line"]) for match in ROW.finditer(MAP.read_text())]

# What the contract names, written down here once more so that a row which gets lost is missed.
FUNCTIONS = """
CreateAssociate FreeAssociate DefaultAssociate ResetAssociate SetRequest IsRequest SetVersion GetVersion SetCalled
GetCalled SetCalling GetCalling SetApplication GetApplication GetPresentationCount GetPresentation SetPresentation
AddPresentation DelPresentation SetResult GetResult SetAbstract GetAbstract FindAbstract FindNext GetTransferCount
GetTransfer SetTransfer AddTransfer DelTransfer SetMaxLength IsMaxLength GetMaxLength SetImplementClass
IsImplementClass GetImplementClass SetImplementVersion IsImplementVersion GetImplementVersion SetAsyncOperations
IsAsyncOperations GetInvokedOperations GetPerformedOperations SetRoleSelect IsRoleSelect GetUserRole GetProviderRole
SetUserInfo AddUserInfo DelUserInfo GetUserInfoCount GetTypeUserInfo GetLengthUserInfo GetDataUserInfo SetExtended
GetLengthExtended GetExtended SendAssociateRequest SendAssociateAccept SendAssociateReject SendData
SendReleaseRequest SendReleaseResponse SendAbort SetCallback Listen
StartUp ShutDown CreateNet FreeNet Connect Accept Close CloseForced IsActivated IsConnected IsAssociated GetAssociate
GetClientCount GetClient GetServer GetHostInfo GetPeerInfo SetTlsClientCertificate SetTlsCACertificate
SetTlsCipherSuite SetTlsCipherSuiteByIndex
""".split()
COMMANDS = "CStore CFind CMove CGet CEcho NEventReport NReport NGet NSet NAction NCreate NDelete".split()
MESSAGES = [f"{command}{kind}" for command in COMMANDS for kind in ("Request", "Response")] + ["CCancelRequest"]
CALLBACKS = """
RECEIVEASSOCIATEREQUESTCALLBACK RECEIVEASSOCIATEACCEPTCALLBACK RECEIVEASSOCIATEREJECTCALLBACK
RECEIVERELEASEREQUESTCALLBACK RECEIVERELEASERESPONSECALLBACK RECEIVEABORTCALLBACK SENDCALLBACK ACCEPTCALLBACK
CONNECTCALLBACK CLOSECALLBACK RECEIVECALLBACK RECEIVEDATACALLBACK RECEIVEUNKNOWNCALLBACK SECURELINKREADYCALLBACK
PRIVATEKEYPASSWORDCALLBACK
""".split()
CLASS = """
Startup Shutdown DicomNet Listen Connect Accept Close OnAccept OnConnect OnClose OnReceive OnReceiveData
OnReceiveAssociateRequest OnReceiveAssociateAccept OnReceiveAssociateReject OnReceiveReleaseRequest
OnReceiveReleaseResponse OnReceiveAbort SendAssociateRequest SendAssociateAccept SendAssociateReject
SendReleaseRequest SendReleaseResponse SendAbort SendData CloseForced IsActivated IsConnected IsAssociated GetAssociate
GetClientCount GetClient Server GetHostInfo GetPeerInfo OnReceiveUnknown OnSend OnSecureLinkReady OnPrivateKeyPassword
SetTlsClientCertificate SetTlsCACertificate SetTlsCipherSuiteByIndex
""".split()
OTHERS = """
on_secure_link_ready on_receive_unknown is_activated is_connected is_associated queued_bytes server clients host_info
peer_info associate ISCL to_pdu() from_pdu()
IDCXACC IDCXREQ DCXAPP IDCXACCEvents IDCXREQEvents OnConnection accept_connection OnStoreSetup OnStoreDone
accept_storage storage_status OnTimeout WaitForConnection WaitForCommand TakeStoredObject EnableInMemoryStorageSCP
OnEcho OnFind OnStorageCommitRequest OnCommitResult OnMPPSCreate OnMPPSSet NextStorageResponseStatus StoreDirectory
COMMAND TIMEOUT ENDED ABORTED
echo send query move move_and_store get commit mpps_create mpps_set n_create
on_file_sent on_query_response on_move_response on_get_response association_timeout command_timeout
DCXSEC StartLogging CommitFiles MovePatient MoveStudy MoveSeries AssociationRequestTimeout n_get n_action print
""".split()
CONTRACT = [
    *(f"{prefix}{function}" for prefix in ("", "L_Dicom") for function in FUNCTIONS),
    *(f"{prefix}Send{message}" for prefix in ("", "L_Dicom") for message in MESSAGES),
    *CALLBACKS,
    *(f"RECEIVE{message.upper()}CALLBACK" for message in MESSAGES),
    *(f"DicomNet.{name}" for name in CLASS),
    *(f"DicomNet.{prefix}{message}" for message in MESSAGES for prefix in ("OnReceive", "Send")),
    *OTHERS,
]  # fmt: skip


def test_no_name_of_the_contract_is_missing() -> None:
    listed = {name for names, _, _ in ROWS for name in names.split(", ")}
    assert set(CONTRACT) - listed == set()
    assert len(set(CONTRACT)) > 380


def test_the_page_has_the_order_of_every_message() -> None:
    for message in ALL:
        parameters = [one for one in message.signature.parameters.values() if one.name != "self"]
        ordered = ", ".join(f"`{one.name}`" for one in parameters if one.kind is not one.KEYWORD_ONLY)
        named = ", ".join(f"`{one.name}`" for one in parameters if one.kind is one.KEYWORD_ONLY)
        assert f"| {message.field.name.replace('_', '-')} | {ordered} | {named} |" in MAP.read_text()


def test_every_row_of_the_page_is_read() -> None:
    rows = [line for line in MAP.read_text().splitlines() if line.startswith("| `")]
    assert len(rows) == len(ROWS)


def test_every_method_of_the_face_is_on_the_page() -> None:
    mapped = {python for _, python, _ in ROWS}
    public = {
        f"{kind.__name__}.{name}"
        for kind in (Associate, Net, StorageListener, Requester)
        for name in dir(kind)
        if not name.startswith("_")
    }
    beside = {
        # convenience beside the contract, told in docstrings
        "Associate.accepting", "Associate.check", "Associate.presentation_ids", "Net.peer",
        "StorageListener.port", "StorageListener.association", "Requester.close",
        "Requester.config", "Requester.on_store_setup", "Requester.take_stored_object",
    }  # fmt: skip
    assert public - mapped == beside


@pytest.mark.parametrize("python", sorted({python for _, python, _ in ROWS}))
def test_a_python_name_is_found(python: str) -> None:
    head, _, attribute = python.partition(".")
    owner: Any = {"logging": logging}.get(head) or getattr(toolkit, head)
    if attribute and not hasattr(owner, attribute):
        made = {"Requester": lambda: Requester("A@127.0.0.1:1")}.get(head, owner)()
        assert hasattr(made, attribute)
    assert head in (*toolkit.__all__, "logging")


class Lines:
    """Runs lines, each with connections of its own."""

    def __init__(self, folder: Path) -> None:
        self.image = make_instance(folder / "one.dcm", 2048, sop_class_uid=CT_IMAGE)
        self.node = dulcet.Node("ARCHIVE", store_to=folder / "archive")
        self.here = dulcet.Address("ME", "127.0.0.1", free_port())
        self.node.peers["ME"] = self.here
        self.node.on_store(lambda request: None)
        self.node.on_find(lambda request: 0)
        for kind in (self.node.on_get, self.node.on_move):
            kind(lambda request: [self.image])
        mpps = uids.MODALITY_PERFORMED_PROCEDURE_STEP
        self.node.on_n_create(lambda request: None, classes=(mpps,))
        self.node.on_n_set(lambda request: None, classes=(mpps,))
        self.node.on_n_action(lambda request: None, classes=(uids.STORAGE_COMMITMENT_PUSH_MODEL, mpps))
        both = (uids.IMPLICIT_VR_LITTLE_ENDIAN, uids.EXPLICIT_VR_LITTLE_ENDIAN)
        self.node.extra_syntaxes.update({mpps: both, uids.STORAGE_COMMITMENT_PUSH_MODEL: both})
        for register in (self.node.on_n_get, self.node.on_n_delete):
            register(lambda request: None, classes=(mpps,))
        self.serving = self.node.threads()
        self.printing = Printer().node.threads()
        self.folder = folder

    def namespace(self) -> dict[str, Any]:
        """What the page says that its lines find."""
        client = Recorded(on_receive_associate_request=accept_all)
        parties = connected(Recorded(), Recorded(), client)
        parties.user.send_associate_request(asking())
        parties.user.heard("on_receive_associate_accept")
        waiting = Recorded(on_receive_associate_request=lambda *_: None)
        parties.server.scripts["on_accept"] = lambda net, error: net.accept(waiting)
        asking_user, connected_user = Recorded(), Recorded()
        assert parties.server.host_info is not None
        asking_user.connect(*parties.server.host_info)
        asking_user.heard("on_connect")
        asking_user.send_associate_request(asking())
        waiting.heard("on_receive_associate_request")
        parties.server.scripts["on_accept"] = lambda net, error: net.accept(Recorded())
        connected_user.connect(*parties.server.host_info)
        connected_user.heard("on_connect")
        asker, answering = owing()
        associate = asking()
        associate.add_user_info(0x5A, b"some")
        dataset = pydicom.Dataset()
        dataset.PatientID = "P1"
        names = ("verification", "ct", "find", "get", "move", "mpps")
        return {
            **{name: getattr(toolkit, name) for name in toolkit.__all__},
            **dict(zip(names, CLASSES)),
            "logging": logging,
            "TLSConfig": dulcet.TLSConfig,
            "printer": Requester(self.printing.address, "ME", command_timeout=20),
            "grayscale": grayscale_image(bytes(64), rows=8, columns=8),
            "ssl": ssl,
            "associate": associate,
            "accept": Associate.accepting(asking()),
            "net": parties.user,
            "client": client,
            "server": parties.server,
            "connected": connected_user,
            "waiting": waiting,
            "asking": asker,
            "answering": answering,
            "fresh": Net(),
            "listener": StorageListener("RECEIVER", in_memory=True),
            "requester": Requester(
                self.serving.address, "ME", store_directory=self.folder / "back", command_timeout=20
            ),
            "here": self.here,
            "explicit": EXPLICIT,
            "instance": INSTANCE,
            "data": DATA_SET,
            "dataset": dataset,
            "image": self.image,
            "command": Command.make(
                CommandField.C_STORE_RQ,
                data_set=True,
                AffectedSOPClassUID=CT_IMAGE,
                AffectedSOPInstanceUID=INSTANCE,
                Priority=0,
                MessageID=5,
            ),
            "refused": refused,
        }


KINDS = "c_store c_find c_get c_move c_echo n_event_report n_get n_set n_action n_create n_delete".split()


def owing() -> tuple[Recorded, Recorded]:
    """A user with one request of each kind, and who owes it their answers."""
    silent = {f"on_receive_{kind}_request": lambda *_: None for kind in KINDS}
    client = Recorded(on_receive_associate_request=accept_many, **silent)
    user = connected(Recorded(), Recorded(), client).user
    request = asking()
    request.async_operations = (16, 16)
    user.send_associate_request(request)
    user.heard("on_receive_associate_accept")
    for message_id, kind in enumerate(KINDS, 1):
        (message,) = (one for one in ALL if one.name == f"{kind}_request")
        context_id, uid = context_of(message.name)
        getattr(user, f"send_{message.name}")(context_id, message_id, *values_of(message, uid)[1:])
    for kind in KINDS:
        client.heard(f"on_receive_{kind}_request")
    return user, client


def accept_many(net: Net, associate: Associate) -> None:
    """More than one operation at once."""
    reply = Associate.accepting(associate)
    reply.async_operations = (16, 16)
    net.send_associate_accept(reply)


def refused(call: Any) -> None:
    with pytest.raises(dulcet.LocalProtocolError):
        call()


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lines]:
    with running():
        made = Lines(tmp_path_factory.mktemp("map"))
        with made.serving, made.printing:
            yield made


@pytest.mark.parametrize("line", dict.fromkeys(line for _, _, line in ROWS))
def test_a_line_runs(line: str, lines: Lines, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    namespace = lines.namespace()
    before = dict(namespace)
    third: threading.Thread | None = None
    if '"THIRD"' in line and "requester" in line:
        third = self_serving(lines, StorageListener("THIRD", in_memory=True))
    try:
        exec(line, namespace)  # noqa: S102  the page's own lines
    finally:
        if third is not None:
            third.join(20)
        logging.getLogger("dulcet").setLevel(logging.NOTSET)
        for made in (*before.values(), *namespace.values()):
            if isinstance(made, Net | StorageListener | Requester):
                made.close()


def self_serving(lines: Lines, listener: StorageListener) -> threading.Thread:
    """Serve one association in a thread of its own."""
    lines.node.peers["THIRD"] = dulcet.Address("THIRD", "127.0.0.1", listener.port)

    def serve() -> None:
        with listener:
            listener.wait_for_connection(20)
            while listener.wait_for_command(20):
                pass

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return thread
