"""In memory as in a folder: the same verdict, and a limit."""

from __future__ import annotations

import pytest
from tests.corpus import CT_IMAGE, EXPLICIT
from tests.io.arriving import UID, data_set

from dulcet.errors import ReceiveError
from dulcet.io.memory import InMemory, Memory


def kept(data: bytes, limit: int, *, piece: int = 100) -> bytes:
    place: Memory = InMemory(limit).begin(CT_IMAGE, UID, EXPLICIT)
    for start in range(0, len(data), piece):
        place.write(memoryview(data)[start : start + piece])
    return place.commit()


def test_what_is_whole_is_kept_up_to_the_limit() -> None:
    data = data_set(bulk=1000)
    assert kept(data, len(data)) == data
    with pytest.raises(ReceiveError, match="more than the") as caught:
        kept(data, len(data) - 1)
    assert caught.value.status == 0xA700


@pytest.mark.parametrize("piece", [7, 5000])
def test_what_is_cut_is_refused_by_its_byte_and_its_element(piece: int) -> None:
    data = data_set(bulk=1000)[:-10]
    with pytest.raises(ReceiveError) as caught:
        kept(data, 5000, piece=piece)
    assert caught.value.status == 0xC000
    assert caught.value.elements == {
        "ErrorComment": f"ends at byte {len(data)}: (7FE0,0010) lacks 10 bytes",
        "OffendingElement": (0x7FE00010,),
    }


def test_damage_is_refused_where_it_comes_and_nothing_stays() -> None:
    place = InMemory(5000).begin(CT_IMAGE, UID, EXPLICIT)
    with pytest.raises(ReceiveError, match="outside of a sequence"):
        place.write(memoryview(b"\xfe\xff\x00\xe0\0\0\0\0"))
    assert not place._data
    place.discard()


def test_nothing_is_no_data_set() -> None:
    with pytest.raises(ReceiveError, match="empty") as caught:
        kept(b"", 10)
    assert caught.value.status == 0xC000
