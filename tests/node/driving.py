"""A face that has neither network nor disk, to run scripts on, and the requests that they answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pydicom import Dataset

from dulcet import Answer, Node, Status, uids
from dulcet.dimse.association import MAY_PEND, PENDING
from dulcet.dimse.command import Command
from dulcet.dimse.messages import CommandField
from dulcet.dimse.operations import Request as CoreRequest
from dulcet.node.actions import END, Action, Call, Close, Forward, Next, Receive, Respond, SendHere
from dulcet.node.requests import Request, Requestor
from dulcet.node.scripts import Script, answer
from dulcet.services.identifiers import build_identifier, decode_dataset, encode_dataset
from dulcet.services.incoming import Incoming
from dulcet.services.results import Sent
from dulcet.upper_layer.negotiation import PresentationContext

IMPLICIT = uids.IMPLICIT_VR_LITTLE_ENDIAN
STUDY_FIND = uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND
STUDY_GET = uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_GET
STUDY_MOVE = uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_MOVE
CT = uids.CT_IMAGE_STORAGE
MPPS = uids.MODALITY_PERFORMED_PROCEDURE_STEP
COMMITMENT = uids.STORAGE_COMMITMENT_PUSH_MODEL
IDENTIFIER = build_identifier({"StudyInstanceUID": "1.2.3"}, level="STUDY")
NONSENSE = [object(), "success", 3.5, -1, 65536, True, (True, None), ("a", "b"), (1, 2, 3), Answer(65536)]
DESTINATION = "DEST@127.0.0.1:104"


def asked(field: CommandField, sop_class: str, data: Dataset | bytes | None = None, **elements: Any) -> Request:
    """A request as a face makes it."""
    encoded = encode_dataset(data, IMPLICIT)[0] if isinstance(data, Dataset) else data
    role = "Requested" if field in REQUESTED else "Affected"
    named = {"MessageID": 7, f"{role}SOPClassUID": sop_class, **elements}
    command = Command.make(field, data_set=encoded is not None, validate=False, **named)
    context = PresentationContext(1, sop_class, IMPLICIT, as_user=False, as_provider=True)
    core = CoreRequest(context, command)
    core.data = encoded
    return Request(Requestor("THEM", "US", "10.0.0.1:5000"), context, command, core)


REQUESTED = frozenset(
    (CommandField.N_GET_RQ, CommandField.N_SET_RQ, CommandField.N_ACTION_RQ, CommandField.N_DELETE_RQ)
)


class Driver:
    """A face that has neither network nor disk: it keeps the responses, each of them encoded as it would leave."""

    def __init__(self) -> None:
        self.responses: list[Respond] = []
        self.actions: list[Action] = []
        self.received: object = b"received"
        """What a Receive gives; an exception is raised."""
        self.send: Callable[[Any], Iterator[Any]] = lambda items: (sent_ok(item) for item in items)
        """The sub-operations of a C-GET or C-MOVE."""
        self.before: Callable[[Action], None] = lambda action: None

    def run(self, script: Script, request: Request) -> list[Respond]:
        self.request = request
        action = next(script, None)
        while action is not None:
            try:
                try:
                    result = self.perform(action)
                except Exception as error:
                    action = script.throw(error)
                else:
                    action = script.send(result)
            except StopIteration:
                break
        return self.responses

    def perform(self, action: Action) -> Any:
        self.actions.append(action)
        self.before(action)
        match action:
            case Respond(status, data, elements):
                core = self.request._core
                assert not core.answered, "a response after the final one"
                assert data is None or isinstance(data, bytes)
                Incoming(core)._response(status, data is not None, elements).encode()
                core.answered = not (status in PENDING and core.field in MAY_PEND)
                self.responses.append(action)
            case Call(function, argument):
                return function(argument)
            case Next(iterator):
                return next(iterator, END)  # type: ignore[arg-type]
            case Close(iterator):
                if hasattr(iterator, "close"):
                    iterator.close()
            case Receive(directory, _):
                if isinstance(self.received, Exception):
                    raise self.received
                if directory is not None:
                    incoming = directory.begin(CT, "1.2.3", IMPLICIT)
                    incoming.write(memoryview(encode_dataset(instance("1.2.3"), IMPLICIT)[0]))
                    return incoming.commit()
                return self.received
            case SendHere(items, _) | Forward(_, items, _, _, _):
                return self.send(items)
        return None

    def of(self, kind: type[Action]) -> list[Any]:
        return [action for action in self.actions if isinstance(action, kind)]


def answers(node: Node, request: Request, driver: Driver | None = None) -> list[Respond]:
    """What the node answers to a request; at most one final response, and it is the last."""
    responses = (driver or Driver()).run(answer(node, request), request)
    assert request._core.answered, "never answered"
    return responses


def only(node: Node, request: Request, driver: Driver | None = None) -> Respond:
    (response,) = answers(node, request, driver)
    return response


def sent_ok(item: Any, status: int | None = 0x0000) -> Sent:
    uid = item if isinstance(item, str) else "1.9"
    return Sent(item, None if status is None else Status(status), None, CT, uid)


def counters(response: Respond) -> tuple[int | None, ...]:
    """Remaining, completed, failed, warning; None where it is absent."""
    return tuple(
        response.elements.get(f"NumberOf{what}Suboperations")
        for what in ("Remaining", "Completed", "Failed", "Warning")
    )


def failed_uids(response: Respond) -> list[str]:
    assert response.data is not None
    found = decode_dataset(response.data, IMPLICIT).FailedSOPInstanceUIDList
    return [found] if isinstance(found, str) else list(found)


def match(uid: str = "1.2.3") -> Dataset:
    dataset = Dataset()
    dataset.StudyInstanceUID = uid
    return dataset


def instance(uid: str) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = CT, uid
    return dataset


def raising(error: BaseException) -> Callable[[Any], Any]:
    def handler(request: Any) -> Any:
        raise error

    return handler


def node_with(register: str, handler: Callable[[Any], Any], **options: Any) -> Node:
    node = Node("US", **options)
    getattr(node, register)(handler)
    return node


def statuses(responses: Iterable[Respond]) -> list[int]:
    return [response.status for response in responses]


def unencodable() -> Dataset:
    dataset = Dataset()
    dataset.add_new(0x00280010, "US", "many")
    return dataset


async def async_source(count: int, error: Exception | None = None) -> Any:
    for number in range(count):
        yield f"1.{number}"
    if error is not None:
        raise error
