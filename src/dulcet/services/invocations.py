"""From what an application wants to say to the message that says it: context, command set, encoded data set.

Rule: pure; a face takes the result and invokes it.  LocalProtocolError, NoPresentationContext and ValueError come from
here, before anything is on the wire.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from dulcet import uids
from dulcet.dimse.association import DimseAssociation
from dulcet.dimse.command import MEDIUM, Command
from dulcet.dimse.elements import checked
from dulcet.dimse.messages import CommandField
from dulcet.errors import LocalProtocolError, NoPresentationContext
from dulcet.services.identifiers import attribute_tags, build_identifier, encode_dataset
from dulcet.services.models import InformationModel, Verb, find_model, model_of, retrieve_levels
from dulcet.upper_layer.negotiation import PresentationContext

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["KEPT_BYTES", "RESPONSE_COST", "Invocation", "echo", "find", "get", "move", "normalized", "retrieve_query"]

KEPT_BYTES: Final = 64 * 1024 * 1024
"""Responses that may pile up where another operation waits behind them, data and RESPONSE_COST for each."""

RESPONSE_COST: Final = 1024
"""Bytes of memory, about, that a response takes beside its data."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """A request, ready to be invoked."""

    context: PresentationContext
    command: Command
    data: bytes | None = None


VERBS: Final[dict[Verb, CommandField]] = {
    "find": CommandField.C_FIND_RQ,
    "move": CommandField.C_MOVE_RQ,
    "get": CommandField.C_GET_RQ,
}


def echo(core: DimseAssociation) -> Invocation:
    """C-ECHO-RQ (PS3.7 section 9.3.5)."""
    return Invocation(
        core.need_context(uids.VERIFICATION),
        Command.make(CommandField.C_ECHO_RQ, validate=False, AffectedSOPClassUID=uids.VERIFICATION),
    )


def find(
    core: DimseAssociation,
    identifier: Dataset | None,
    keys: Mapping[str, Any],
    *,
    level: str | None,
    model: str | None,
    priority: int = MEDIUM,
) -> Invocation:
    """C-FIND-RQ (PS3.7 section 9.3.2)."""
    return _composite(core, "find", identifier, keys, level, model, priority)


def get(
    core: DimseAssociation,
    identifier: Dataset | None,
    keys: Mapping[str, Any],
    *,
    level: str | None,
    model: str | None,
    priority: int = MEDIUM,
) -> Invocation:
    """C-GET-RQ (PS3.7 section 9.3.3)."""
    return _composite(core, "get", identifier, keys, level, model, priority)


def move(
    core: DimseAssociation,
    destination: str,
    identifier: Dataset | None,
    keys: Mapping[str, Any],
    *,
    level: str | None,
    model: str | None,
    priority: int = MEDIUM,
) -> Invocation:
    """C-MOVE-RQ (PS3.7 section 9.3.4)."""
    return _composite(core, "move", identifier, keys, level, model, priority, MoveDestination=destination)


def normalized(
    core: DimseAssociation,
    field: CommandField,
    sop_class_uid: str,
    sop_instance_uid: str | None,
    dataset: Dataset | None = None,
    *,
    context: str | None = None,
    attributes: Sequence[str | int] | None = None,
    type_id: int | None = None,
) -> Invocation:
    """An N-service request (PS3.7 section 10.3).

    `context` is the abstract syntax it travels under where that is not its SOP class (meta SOP classes, UPS).
    """
    abstract_syntax = context or sop_class_uid
    event = field == CommandField.N_EVENT_REPORT_RQ
    found = (_reporting_context(core, abstract_syntax) if event else None) or core.need_context(abstract_syntax)
    affected = field in (CommandField.N_CREATE_RQ, CommandField.N_EVENT_REPORT_RQ)
    role = "Affected" if affected else "Requested"
    values: dict[str, Any] = {f"{role}SOPClassUID": sop_class_uid, f"{role}SOPInstanceUID": sop_instance_uid}
    if type_id is not None:
        values["EventTypeID" if field == CommandField.N_EVENT_REPORT_RQ else "ActionTypeID"] = type_id
    if attributes is not None:
        values["AttributeIdentifierList"] = attribute_tags(attributes) or None
    data = None if dataset is None else encode_dataset(dataset, found.transfer_syntax)[0]
    command = _command(field, bool(data), values)
    return Invocation(found, command, data or None)


def _reporting_context(core: DimseAssociation, abstract_syntax: str) -> PresentationContext | None:
    """The context that events travel on: the provider reports them, so it is one where we provide (PS3.7 10.1.1).

    Not every peer answers role selection; a context in the other role serves then, rather than none.
    """
    for context in core.contexts.values():
        if context.as_provider and context.abstract_syntax == abstract_syntax:
            return context
    return None


def _composite(
    core: DimseAssociation,
    verb: Verb,
    identifier: Dataset | None,
    keys: Mapping[str, Any],
    level: str | None,
    model: str | None,
    priority: int,
    **elements: Any,
) -> Invocation:
    query = _merged(identifier, keys, level)
    level = str(query.get("QueryRetrieveLevel", "")) or None
    if verb == "find" and level is None and _has_studies(model):
        level = "STUDY"
        query = _merged(query, {}, level)
    if verb != "find" and level is None:
        level = _lowest_level(query)
    context = _context(core, verb, level, model)
    if verb != "find":
        query = _unique_keys(query, level, model_of(context.abstract_syntax), keys)
    values = {"AffectedSOPClassUID": context.abstract_syntax, "Priority": priority, **elements}
    command = _command(VERBS[verb], True, values)
    return Invocation(context, command, encode_dataset(query, context.transfer_syntax)[0])


def _command(field: CommandField, data_set: bool, values: Mapping[str, Any]) -> Command:
    """The command set; LocalProtocolError for a UID, AE title or number that may not stand in it."""
    name = Command({0x0100: int(field)}).name
    sound = {keyword: None if value is None else checked(name, keyword, value) for keyword, value in values.items()}
    return Command.make(field, validate=False, data_set=data_set, **sound)


def retrieve_query(
    identifier: Dataset | None, keys: Mapping[str, Any], *, level: str | None, model: str | None
) -> tuple[Dataset, str]:
    """What a C-GET is about, for all the associations that it may take: its unique keys, and their level, "" for none.

    LocalProtocolError without a value for the level's own key.
    """
    query = _merged(identifier, keys, level)
    found = str(query.get("QueryRetrieveLevel", "")) or _lowest_level(query)
    row = find_model("patient") if model is None else model_of(model) if model[:1].isdigit() else find_model(model)
    return _unique_keys(query, found, row, keys), (found or "").upper()


def _merged(identifier: Dataset | None, keys: Mapping[str, Any], level: str | None) -> Dataset:
    """The keys, and what the identifier has beside them."""
    if isinstance(identifier, Mapping | str):
        raise TypeError(
            f"an identifier is a Dataset, not a {type(identifier).__name__}; keys are given by name: PatientName='DOE*'"
        )
    if identifier is not None and not keys and level is None:
        return identifier
    query = build_identifier(keys, level=level)
    for element in identifier or ():
        if element.tag not in query:
            query.add(element)
    return query


def _has_studies(model: str | None) -> bool:
    """True for a model that has a level STUDY, as those have that are asked without one being named."""
    if model is None:
        return True
    found = model_of(model) if model[:1].isdigit() else find_model(model)
    return found is not None and "STUDY" in dict(found.levels)


def _lowest_level(query: Dataset) -> str | None:
    """The level that the lowest unique key with a value names."""
    found = [level for level, keyword in find_model("patient").levels if query.get(keyword)]
    return found[-1] if found else None


def _unique_keys(
    query: Dataset, level: str | None, model: InformationModel | None, named: Mapping[str, Any]
) -> Dataset:
    """A retrieve identifier holds the level and the unique keys down to it, nothing else (PS3.4 C.4.2.2.1).

    So an answer of a C-FIND can be handed on as it is.  LocalProtocolError without a value for the level's own: a peer
    might take that for all it has; and for another key that was `named` with a value, which would bring more than that.
    """
    if model is None or not model.levels:
        return query
    if level is None:
        raise LocalProtocolError(
            "a retrieve names what it is about: give a StudyInstanceUID, PatientID or other unique key"
        )
    wanted: list[str] = []
    for name, keyword in model.levels:
        wanted.append(keyword)
        if name == level.upper():
            break
    if name == level.upper() and not query.get(keyword):
        given = _lowest_level(query)
        instead = f", or level={given!r} for what is there" if given is not None else ""
        raise LocalProtocolError(
            f"a retrieve at level {name} names it by {keyword}, which has no value: add one{instead}"
        )
    for key in named.keys() - set(wanted) - {"QueryRetrieveLevel", "SpecificCharacterSet"}:
        if named[key]:
            raise LocalProtocolError(
                f"a retrieve goes by {', '.join(wanted)} alone, {key} would not count: find what it matches first"
            )
    kept = build_identifier({keyword: query[keyword].value for keyword in wanted if query.get(keyword)}, level=level)
    if "SpecificCharacterSet" in query:
        kept.SpecificCharacterSet = query.SpecificCharacterSet
    return kept


def _context(core: DimseAssociation, verb: Verb, level: str | None, model: str | None) -> PresentationContext:
    """The accepted context of the model asked for; without one, of the first model that fits the level."""
    if model is not None and model[:1].isdigit():
        return core.need_context(model)
    names = (model,) if model is not None else retrieve_levels(level)
    wanted = [uid for name in names if (uid := find_model(name).sop_class(verb)) is not None]
    if not wanted:
        raise NoPresentationContext(f"information model {model!r} has no C-{verb.upper()} (PS3.4)")
    for uid in wanted:
        context = core.context_for(uid)
        if context is not None:
            return context
    return core.need_context(wanted[0])
