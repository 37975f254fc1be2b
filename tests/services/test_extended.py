"""SOP class extended negotiation of query/retrieve (PS3.4 C.5), typed and raw."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dulcet import uids
from dulcet.services.extended import QueryOptions, RetrieveOptions, agree, encode_extended, options_for

FIND = uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND
MOVE = uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_MOVE
GET = uids.PATIENT_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_GET
CT = uids.CT_IMAGE_STORAGE
ALL = QueryOptions(True, True, True, True, True)


@pytest.mark.parametrize(
    ("options", "data"),
    [
        (QueryOptions(), b"\0"),
        (QueryOptions(relational=True), b"\1"),
        (QueryOptions(date_time=True), b"\0\1"),
        (QueryOptions(fuzzy=True), b"\0\0\1"),
        (QueryOptions(time_zone=True), b"\0\0\0\1"),
        (ALL, b"\1\1\1\1\1"),
        (RetrieveOptions(), b"\0"),
        (RetrieveOptions(relational=True), b"\1"),
        (RetrieveOptions(enhanced_multi_frame=True), b"\0\1"),
    ],
)
def test_a_byte_for_each_option_without_those_at_the_end_that_are_off(
    options: QueryOptions | RetrieveOptions, data: bytes
) -> None:
    assert options.encode() == data
    assert type(options).decode(data) == options


def test_missing_bytes_are_off_only_1_is_on_and_what_follows_is_passed_over() -> None:
    assert QueryOptions.decode(b"") == QueryOptions()
    assert QueryOptions.decode(b"\2\1\xff") == QueryOptions(date_time=True)
    assert RetrieveOptions.decode(b"\1\1\1\1") == RetrieveOptions(True, True)


@given(st.binary(max_size=8))
def test_any_bytes_read_as_options(data: bytes) -> None:
    options = QueryOptions.decode(data)
    assert QueryOptions.decode(options.encode()) == options


def test_both_sides_have_to_want_an_option() -> None:
    assert QueryOptions(relational=True, fuzzy=True) & QueryOptions(fuzzy=True, time_zone=True) == QueryOptions(
        fuzzy=True
    )


def test_what_a_class_says_is_typed_where_the_standard_has_a_table() -> None:
    assert options_for(FIND, b"\1") == QueryOptions(relational=True)
    assert options_for(MOVE, b"\0\1") == RetrieveOptions(enhanced_multi_frame=True)
    assert options_for(GET, b"\1") == RetrieveOptions(relational=True)
    assert options_for(CT, b"\1\2\3") == b"\1\2\3"


def test_what_is_proposed_is_encoded() -> None:
    assert encode_extended({FIND: ALL, CT: b"\2"}) == {FIND: b"\1\1\1\1\1", CT: b"\2"}


@pytest.mark.parametrize(
    ("supported", "proposed", "answer"),
    [
        ({FIND: ALL}, {FIND: b"\1\0\1"}, {FIND: b"\1\0\1"}),
        ({FIND: QueryOptions(fuzzy=True)}, {FIND: b"\1\1"}, {FIND: b"\0"}),
        ({GET: RetrieveOptions(True)}, {GET: b"\1\1"}, {GET: b"\1"}),
        ({CT: b"\2\1"}, {CT: b"\0"}, {CT: b"\2\1"}),
        ({FIND: b"\1\1"}, {FIND: b"\1"}, {FIND: b"\1\1"}),
        ({CT: QueryOptions(fuzzy=True)}, {CT: b"\1"}, {CT: b"\0\0\1"}),
        ({MOVE: QueryOptions(relational=True)}, {MOVE: b"\1"}, {MOVE: b"\1"}),
        ({FIND: ALL}, {GET: b"\1"}, {}),
        ({FIND: ALL}, {}, {}),
    ],
)
def test_an_acceptor_answers_what_both_name(
    supported: dict[str, bytes | QueryOptions | RetrieveOptions], proposed: dict[str, bytes], answer: dict[str, bytes]
) -> None:
    assert agree(supported, proposed) == answer
