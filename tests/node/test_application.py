"""A node before it serves: titles, handlers, and what follows from them for negotiation."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dulcet import AssociationConfig, Node, QueryOptions, uids
from dulcet.dimse.messages import CommandField
from dulcet.errors import AddressError, LocalProtocolError
from dulcet.io.store_directory import StoreDirectory
from dulcet.node.application import ALL
from dulcet.services.acceptance import STORED_SYNTAXES
from dulcet.upper_layer.address import Address

CT, MR = uids.CT_IMAGE_STORAGE, uids.MR_IMAGE_STORAGE
MPPS = uids.MODALITY_PERFORMED_PROCEDURE_STEP
STUDY_FIND = uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND
PATIENT_FIND = uids.PATIENT_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND
UNCOMPRESSED = set(uids.UNCOMPRESSED)

REGISTRATIONS = [
    ("on_store", CommandField.C_STORE_RQ, CT),
    ("on_find", CommandField.C_FIND_RQ, STUDY_FIND),
    ("on_get", CommandField.C_GET_RQ, uids.PATIENT_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_GET),
    ("on_move", CommandField.C_MOVE_RQ, uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_MOVE),
    ("on_n_event_report", CommandField.N_EVENT_REPORT_RQ, MPPS),
    ("on_n_get", CommandField.N_GET_RQ, MPPS),
    ("on_n_set", CommandField.N_SET_RQ, MPPS),
    ("on_n_action", CommandField.N_ACTION_RQ, MPPS),
    ("on_n_create", CommandField.N_CREATE_RQ, MPPS),
    ("on_n_delete", CommandField.N_DELETE_RQ, MPPS),
]


def nothing(request: Any) -> None:
    """A handler."""


# --- titles and peers ------------------------------------------------------------------------------------------------


def test_an_ae_title_is_checked_and_trimmed() -> None:
    assert Node(" NODE ").ae_title == "NODE"
    for wrong in ("", "A" * 17, "A\\B", "Ä"):
        with pytest.raises(LocalProtocolError):
            Node(wrong)


def test_peers_are_addresses() -> None:
    node = Node("NODE", peers={"A": "A@host:104", "B": Address("B", "host", 105)})
    assert node.peers == {"A": Address("A", "host", 104), "B": Address("B", "host", 105)}
    assert node.with_peers({"C": "X@host:106"}) is node
    assert node.peers["C"] == Address("X", "host", 106)
    with pytest.raises(AddressError):
        Node("NODE", peers={"A": "nonsense"})


def test_a_folder_is_made_into_a_store_directory_and_another_destination_is_taken_as_it_is(tmp_path: Path) -> None:
    assert Node("NODE").store_directory is None
    made = Node("NODE", store_to=tmp_path / "in", durability="none").store_directory
    assert isinstance(made, StoreDirectory)
    assert not made.durable
    assert Node("NODE", store_to=str(tmp_path)).store_directory is not None
    assert Node("NODE", store_to=made).store_directory is made


# --- handlers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("register", "field", "sop_class"), REGISTRATIONS)
def test_a_handler_is_registered_bare_and_with_parentheses(register: str, field: CommandField, sop_class: str) -> None:
    bare, called = Node("NODE"), Node("NODE")
    assert getattr(bare, register)(nothing) is nothing
    assert getattr(called, register)()(nothing) is nothing
    for node in (bare, called):
        assert node.handler_for(field, sop_class) is nothing


@pytest.mark.parametrize(("register", "field", "sop_class"), [one for one in REGISTRATIONS if one[0][3:5] == "n_"])
def test_a_normalized_handler_may_be_for_one_class_alone(register: str, field: CommandField, sop_class: str) -> None:
    node = Node("NODE")
    getattr(node, register)(classes=[sop_class])(nothing)
    assert node.handler_for(field, sop_class) is nothing
    assert node.handler_for(field, "1.2.3") is None


def test_the_class_of_the_message_counts_before_that_of_the_context_and_both_before_the_one_for_all() -> None:
    node = Node("NODE")

    def first(request: Any) -> None: ...
    def second(request: Any) -> None: ...

    node.on_n_set(nothing)
    node.on_n_set(second, classes=[uids.UNIFIED_PROCEDURE_STEP_PULL])
    field = CommandField.N_SET_RQ
    assert node.handler_for(field, uids.UNIFIED_PROCEDURE_STEP_PUSH, uids.UNIFIED_PROCEDURE_STEP_PULL) is second
    node.on_n_set(first, classes=[uids.UNIFIED_PROCEDURE_STEP_PUSH])
    assert node.handler_for(field, uids.UNIFIED_PROCEDURE_STEP_PUSH, uids.UNIFIED_PROCEDURE_STEP_PULL) is first
    assert node.handler_for(field, MPPS) is nothing
    assert node.handler_for(CommandField.N_GET_RQ, MPPS) is None


def test_models_are_names_or_classes() -> None:
    node = Node("NODE")
    node.on_find(nothing, models=["worklist", "1.2.3"])
    assert node.handler_for(CommandField.C_FIND_RQ, uids.MODALITY_WORKLIST_INFORMATION_MODEL_FIND) is nothing
    assert node.handler_for(CommandField.C_FIND_RQ, "1.2.3") is nothing
    assert node.handler_for(CommandField.C_FIND_RQ, STUDY_FIND) is None


def test_a_model_that_does_not_exist_or_has_no_such_operation_is_an_error() -> None:
    with pytest.raises(ValueError, match="'pateint' does not exist; there are patient"):
        Node("NODE").on_find(nothing, models=["pateint"])
    with pytest.raises(ValueError, match="'worklist' has no C-MOVE"):
        Node("NODE").on_move(nothing, models=["worklist"])


def test_an_echo_is_answered_without_asking() -> None:
    assert Node("NODE").handler_for(CommandField.C_ECHO_RQ, uids.VERIFICATION) is not None


async def awaited(request: Any) -> None: ...


async def streamed(request: Any) -> AsyncIterator[int]:
    yield 0


class AwaitedObject:
    async def __call__(self, request: Any) -> None: ...


class PlainObject:
    def __call__(self, request: Any) -> None: ...


@pytest.mark.parametrize(
    ("handler", "needs_loop"),
    [(nothing, False), (PlainObject(), False), (awaited, True), (streamed, True), (AwaitedObject(), True)],
)
def test_async_handlers_need_an_event_loop(handler: Any, needs_loop: bool) -> None:
    node = Node("NODE")
    node.on_find(handler)
    assert node.has_async_handlers is needs_loop
    if needs_loop:
        with pytest.raises(TypeError, match=r"await node\.start"):
            node.threads()


# --- what is accepted ------------------------------------------------------------------------------------------------


def test_a_node_without_handlers_accepts_verification_alone_and_its_own_title() -> None:
    policy = Node("NODE").policy()
    assert set(policy.syntaxes) == {uids.VERIFICATION}
    assert policy.called == {"NODE"}
    assert policy.calling is None
    assert policy.admission_hook is None
    assert policy.verifier is None


def test_who_may_call_and_how_the_node_is_called() -> None:
    policy = Node("NODE", calling=["A", "B"], any_called=True).policy()
    assert policy.called is None
    assert policy.calling == {"A", "B"}


def test_classes_follow_from_handlers_with_every_stored_syntax_for_storage() -> None:
    node = Node("NODE")
    node.on_store(nothing, classes=[CT])
    node.on_find(nothing)
    syntaxes = node.policy().syntaxes
    assert set(syntaxes) == {uids.VERIFICATION, CT, STUDY_FIND, PATIENT_FIND}
    assert set(syntaxes[CT]) == set(STORED_SYNTAXES)
    assert set(syntaxes[STUDY_FIND]) == UNCOMPRESSED


def test_a_store_handler_takes_every_storage_class_by_default() -> None:
    node = Node("NODE")
    node.on_store(nothing)
    assert set(node.policy().syntaxes) == {uids.VERIFICATION} | uids.STORAGE_CLASSES


def test_a_get_handler_accepts_the_storage_classes_that_it_sends() -> None:
    node = Node("NODE")
    node.on_get(nothing)
    assert set(node.policy().syntaxes[MR]) == set(STORED_SYNTAXES)


def test_a_handler_for_all_classes_accepts_those_that_allow_its_operation() -> None:
    node = Node("NODE")
    node.on_n_create(nothing)
    syntaxes = node.policy().syntaxes
    assert MPPS in syntaxes
    assert uids.BASIC_FILM_SESSION in syntaxes
    assert CT not in syntaxes
    node = Node("NODE")
    node.on_store(nothing, classes=[ALL])
    assert set(node.policy().syntaxes[CT]) == set(STORED_SYNTAXES)


def test_what_an_application_adds_counts_last() -> None:
    node = Node("NODE")
    node.on_store(nothing, classes=[CT])
    node.extra_syntaxes = {CT: (uids.IMPLICIT_VR_LITTLE_ENDIAN,), "1.2.3": ()}
    node.extended = {STUDY_FIND: QueryOptions(fuzzy=True)}
    policy = node.policy()
    assert policy.syntaxes[CT] == (uids.IMPLICIT_VR_LITTLE_ENDIAN,)
    assert policy.syntaxes["1.2.3"] == ()
    assert policy.extended == node.extended


def test_a_judge_and_a_verifier_are_registered_and_given_back() -> None:
    node = Node("NODE", config=AssociationConfig(maximum_length=0))

    @node.on_associate
    def admission_hook(request: Any) -> None: ...

    @node.verify_identity
    def verifier(identity: Any, request: Any) -> bool:
        return True

    policy = node.policy()
    assert (policy.admission_hook, policy.verifier) == (admission_hook, verifier)
    assert node.config.maximum_length == 0


@pytest.mark.parametrize(("name", "field", "sop_class"), REGISTRATIONS)
def test_a_handler_is_a_function(name: str, field: CommandField, sop_class: str) -> None:
    """`@node.on_store("…")` would register the text."""
    with pytest.raises(TypeError, match="is a function, not a str"):
        getattr(Node("NODE"), name)(sop_class)


@pytest.mark.parametrize(("name", "field", "sop_class"), REGISTRATIONS)
def test_a_lone_class_is_no_list_of_characters(name: str, field: CommandField, sop_class: str) -> None:
    node = Node("NODE")
    argument = "models" if name in ("on_find", "on_get", "on_move") else "classes"
    getattr(node, name)(nothing, **{argument: sop_class})
    assert node.handler_for(field, sop_class) is nothing
    assert node.handler_for(field, "1") is None
