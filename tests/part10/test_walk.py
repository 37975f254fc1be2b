"""One verdict: however the bytes come, whatever is wanted of them, whoever asks."""

from __future__ import annotations

import io
import tracemalloc
from random import Random

import pytest
from tests.part10 import mutants, samples
from tests.part10.samples import (
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    UNDEFINED,
    deflate,
    element,
    identity,
    item,
    sequence,
)

from dulcet.errors import InstanceError
from dulcet.io.instances import examine
from dulcet.part10 import Location, ScanError, ScanTruncated, walk_file, whole
from dulcet.part10.limits import WHOLE_LIMITS, ScanLimits
from dulcet.part10.location import locate_at_once
from dulcet.part10.scanner import walk_elements
from dulcet.part10.sources import CHUNK, MAX_IDLE, DamagedDeflate, FileSource, Inflater
from dulcet.part10.walk import Walk

INDEXED = frozenset({0x00080016, 0x00080018, 0x0020000D, 0x00400275, 0x00700080})
NOBODYS = "1.2.3.4.5"
SEQUENCE = 0x00081140
PIXELS = 0x7FE00010
Verdict = tuple[object, ...]


def verdict_of(error: ScanError, syntax: str) -> Verdict:
    if syntax == DEFLATED:  # how much a damaged stream inflates to depends on how much of it is known
        return ("refused",)
    return type(error), error.offset, error.reason, error.tag


def received(data: bytes, syntax: str, pieces: list[int], wanted: frozenset[int] = frozenset()) -> Verdict:
    """The verdict on what comes in pieces of these sizes, over and over; and what is kept of it."""
    walk, at, number = whole(syntax, wanted), 0, 0
    try:
        while at < len(data):
            size = pieces[number % len(pieces)]
            walk.feed(memoryview(data)[at : at + size])
            at, number = at + size, number + 1
        header = walk.finish()
    except ScanError as error:
        with pytest.raises(type(error)):  # it stays what it is
            walk.finish()
        return verdict_of(error, syntax)
    return "whole", tuple(sorted(header.values.items())), walk.pad


def looked_over(data: bytes, syntax: str) -> Verdict:
    """The verdict on a file, in which values are skipped."""
    location = Location(syntax, "1.2", "1.2.3", 3, len(data))
    try:
        walk_file(io.BytesIO(b"xyz" + data), location)
    except ScanError as error:
        return verdict_of(error, syntax)
    return ("whole",)


@pytest.mark.parametrize("number", range(len(mutants.originals())))
def test_every_mutant_has_one_verdict(number: int) -> None:
    syntax, data = mutants.originals()[number]
    chance = Random(number)
    seen = set()
    for mutant in mutants.mutants(data, syntax, chance, 400 if number < 4 else 40):
        at_once = received(mutant, syntax, [len(mutant) or 1])
        seen.add(at_once[0])
        pieces = [chance.choice((1, 2, 3, 7, 8, 11, 13, 100, 1000, CHUNK, CHUNK + 1)) for _ in range(5)]
        assert received(mutant, syntax, pieces) == at_once
        indexed = received(mutant, syntax, [len(mutant) or 1], INDEXED)
        assert received(mutant, syntax, pieces, INDEXED) == indexed
        assert (indexed if at_once[0] != "whole" else indexed[0]) == (at_once if at_once[0] != "whole" else "whole")
        assert looked_over(mutant, syntax) == at_once[: 4 if at_once[0] != "whole" else 1]
        sent(mutant, syntax, refused=at_once[0] != "whole")
    assert len(seen) > 1


def sent(data: bytes, syntax: str, *, refused: bool) -> None:
    """What was taken can be sent, with an even number of bytes, and what is sent would be taken; the rest cannot."""
    file = mutants.file_of(data, syntax)
    if not data:
        return
    found = locate_at_once(file, len(file))
    if found is not None and found[0].transfer_syntax == syntax:
        assert not (found[1] and refused)
    said = ""
    try:
        instance = examine(file)
    except InstanceError as error:
        said = str(error)
    if said:
        assert refused or "mend its header" in said  # its UIDs are not for the walk to judge
        return
    assert not refused or instance.location.length != len(data)  # a mutant may begin with what looks like file meta
    if not refused:
        source = bytes(instance.open())  # type: ignore[arg-type]
        assert len(source) % 2 == 0
        assert received(source, instance.transfer_syntax, [len(source)])[0] == "whole"


@pytest.mark.parametrize("syntax", samples.UNCOMPRESSED)
def test_each_cut_of_a_data_set_is_refused_by_all_or_by_none(syntax: str) -> None:
    data = mutants.made(syntax)
    for cut in range(1, len(data)):
        verdict = received(data[:cut], syntax, [1])
        assert received(data[:cut], syntax, [cut]) == verdict
        assert received(data[:cut], syntax, [cut], INDEXED)[0] == verdict[0]
        sent(data[:cut], syntax, refused=verdict[0] != "whole")


# ---------------------------------------------------------------------- to the end


PIXEL_HEADS = {
    "plain": (EXPLICIT, element(PIXELS, "OW", length=1000)),
    "implicit": (IMPLICIT, element(PIXELS, "", length=1000)),
    "big endian": (BIG_ENDIAN, element(PIXELS, "OW", length=1000, syntax=BIG_ENDIAN)),
}


@pytest.mark.parametrize("case", PIXEL_HEADS)
@pytest.mark.parametrize("there", [998, 999, 1000])
def test_pixel_data_is_as_long_as_it_declares(case: str, there: int) -> None:
    syntax, head = PIXEL_HEADS[case]
    data = identity(syntax) + head + bytes(there)
    verdict = received(data, syntax, [len(data)])
    if there == 1000:
        assert verdict[0] == "whole"
    else:
        assert verdict == (ScanTruncated, len(data), f"(7FE0,0010) lacks {1000 - there} bytes", PIXELS)


FRAGMENTS = element(PIXELS, "OB", item() + item(b"ab" * 30) + element(0xFFFEE0DD, ""), length=UNDEFINED)


@pytest.mark.parametrize(("cut", "reason"), [
    (1, "is not closed"), (8, "is not closed"), (9, "lacks 1 bytes"), (68, "lacks 60 bytes"), (69, "is not closed"),
])  # fmt: skip
def test_fragments_are_all_there(cut: int, reason: str) -> None:
    data = identity() + FRAGMENTS
    assert received(data, EXPLICIT, [10])[0] == "whole"
    _, offset, said, tag = received(data[:-cut], EXPLICIT, [10])
    assert (offset, said, tag) == (len(data) - cut, f"(7FE0,0010) {reason}", PIXELS)


@pytest.mark.parametrize("zeros", range(20))
def test_zeros_may_be_behind_it(zeros: int) -> None:
    verdict = received(identity() + bytes(zeros), EXPLICIT, [5])
    assert verdict[0] == "whole"


@pytest.mark.parametrize("rest", [b"\1", b"\0\0\0\0\0\0\1", b"\x08\0\x05\0CS\2"])
def test_anything_else_behind_it_is_an_element_that_ends_early(rest: bytes) -> None:
    verdict = received(identity() + rest, EXPLICIT, [5])
    assert verdict[:3] == (ScanTruncated, 50 + len(rest), f"{len(rest)} bytes begin an element")


def test_the_header_of_an_element_may_be_what_is_cut() -> None:
    verdict = received(identity() + element(0x00420011, "OB")[:11], EXPLICIT, [5])
    assert verdict[:3] == (ScanTruncated, 61, "11 bytes begin an element")


def test_a_data_set_in_a_transfer_syntax_that_nobody_knows_is_judged_by_its_length_alone() -> None:
    for data in (b"whatever", identity()[:-2]):
        assert received(data, NOBODYS, [3]) == ("whole", (), None)
        assert looked_over(data, NOBODYS) == ("whole",)
    assert received(b"odd", NOBODYS, [3])[:2] == (ScanError, 3)
    assert looked_over(b"odd", NOBODYS)[:2] == (ScanError, 3)


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG_ENDIAN, NOBODYS])
@pytest.mark.parametrize("piece", [1, 1000])
def test_what_would_read_as_more_of_the_file_meta_in_front_of_it_is_refused(syntax: str, piece: int) -> None:
    """In a file nobody could tell where the data set starts, nor which transfer syntax counts."""
    for data in (element(0x00020010, "UI", b"1.2\0") + identity(), b"\2\0"):
        assert received(data, syntax, [piece])[:2] == (ScanError, 0)
    for data in (element(0x00000010, "UI", b"1.2\0") + identity(), element(0x00030010, "UI") + identity()):
        assert received(data, EXPLICIT, [piece])[0] == "whole"
    if syntax != NOBODYS:
        data = b"".join(element(tag, "LO", b"ab", syntax=syntax) for tag in (0x00080018, 0x00020010))
        assert received(data, syntax, [piece])[0] == "whole"


def test_a_deflate_stream_that_begins_like_file_meta_is_refused() -> None:
    stream = b"\2\0\0\0\xff\xff" + deflate(identity())  # two empty blocks, then the data set
    assert received(stream, DEFLATED, [1]) == received(stream, DEFLATED, [1000]) == ("refused",)
    one = b"\0\0\0\xff\xff" + deflate(identity())
    assert received(one, DEFLATED, [1])[0] == received(one, DEFLATED, [1000])[0] == "whole"


# ---------------------------------------------------------------------- bounds, on both sides of each


@pytest.mark.parametrize("there", [7, 8, 9, 11])
def test_a_wanted_value_that_is_missing_is_told_as_soon_as_its_header_is_there(there: int) -> None:
    data = element(0x00080018, "UI", b"1.2\0")[:there]
    said = f"(0008,0018) lacks {12 - there} bytes" if there > 7 else "7 bytes begin an element"
    for wanted in (frozenset(), INDEXED):
        for pieces in ([1], [1000]):
            assert received(data, EXPLICIT, pieces, wanted)[:3] == (ScanTruncated, there, said)


def test_what_cannot_be_padded_is_named_whether_it_is_wanted_or_not() -> None:
    """A delimiter too many lies behind it, so that it is not at the very end."""
    data = element(0x00080018, "UI", b"1.2") + element(0xFFFEE00D, "")
    for wanted in (frozenset(), INDEXED):
        verdict = received(data, EXPLICIT, [1000], wanted)
        assert verdict == (ScanError, 19, "odd length; (0008,0018) cannot be padded", 0x00080018)


@pytest.mark.parametrize("piece", [1, 1000])
@pytest.mark.parametrize(("syntax", "vr"), [(EXPLICIT, "OB"), (EXPLICIT, "UI"), (BIG_ENDIAN, "OB"), (IMPLICIT, "")])
def test_the_last_value_is_padded_in_each_form_of_length(syntax: str, vr: str, piece: int) -> None:
    tag = PIXELS if vr != "UI" else 0x00080018
    odd, even = (element(tag, vr, value, syntax=syntax) for value in (b"1.2", b"1.2\0"))
    for wanted in (frozenset[int](), frozenset({tag})):
        verdict = received(odd, syntax, [piece], wanted)
        assert verdict[0] == "whole"
        assert verdict[2].applied(odd) == even  # type: ignore[attr-defined]


def test_a_value_that_is_too_long_to_be_kept_is_padded_too() -> None:
    odd, even = (element(0x00420011, "OB", bytes(length)) for length in (65_537, 65_538))
    for wanted in (frozenset[int](), frozenset({0x00420011})):
        assert received(odd, EXPLICIT, [1000], wanted)[2].applied(odd) == even  # type: ignore[attr-defined]


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN])
@pytest.mark.parametrize("piece", [1, 1000])
def test_a_data_set_of_one_empty_element_is_whole(syntax: str, piece: int) -> None:
    data = element(0x00080005, "CS", syntax=syntax)
    assert received(data, syntax, [piece]) == ("whole", (), None)
    assert received(data, syntax, [piece], INDEXED) == ("whole", ((0x00080005, b""),), None)


@pytest.mark.parametrize(("length", "padded"), [(65_533, True), (65_535, False)])
def test_a_value_is_padded_as_long_as_its_length_can_be_written(length: int, padded: bool) -> None:
    data = element(0x00080018, "LT", b"x" * length)
    verdict = received(data, EXPLICIT, [1000])
    if padded:
        assert received(verdict[2].applied(data), EXPLICIT, [1000]) == ("whole", (), None)  # type: ignore[attr-defined]
    else:
        assert verdict == (ScanError, len(data), "odd length; (0008,0018) cannot be padded", 0x00080018)


@pytest.mark.parametrize("vr", ["UI", "OB"])
@pytest.mark.parametrize("stop", [None, 0x00080018])
@pytest.mark.parametrize("pieces", [[1], [8, 1000], [12, 1000], [13, 1000], [1000]])
def test_the_last_wanted_element_is_kept_and_the_next_is_not(vr: str, stop: int | None, pieces: list[int]) -> None:
    """However it comes."""
    last = element(0x00080018, vr, b"1.2\0")
    data = last + element(0x00080019, vr, b"1.3\0")
    walk, at = Walk(EXPLICIT, None if stop else frozenset({0x00080018}), stop=stop), 0
    for size in (pieces * len(data))[: len(data)]:
        walk.feed(data[at : at + size])
        at += size
    header = walk.finish()
    assert header.values == {0x00080018: b"1.2\0"}
    assert header.consumed == (len(last) if stop else len(data))


@pytest.mark.parametrize("pieces", [[1], [1000]])
def test_what_is_wanted_is_looked_for_behind_what_is_not_in_order(pieces: list[int]) -> None:
    """Up to one tag, whatever is wanted."""
    behind = element(0x00080018, "UI", b"1.2\0")
    for tag, found in ((0x0070FFFF, True), (0x00710000, False)):
        verdict = received(element(tag, "LO", b"ab") + behind, EXPLICIT, pieces, frozenset({0x00080018}))
        assert verdict == ("whole", ((0x00080018, b"1.2\0"),) if found else (), None)


@pytest.mark.parametrize("piece", [1, 1000])
def test_one_element_is_enough_to_see_that_an_item_of_unknown_vr_is_explicit(piece: int) -> None:
    """Whatever the standard says of it."""
    for inside in (element(0x00080005, "CS"), element(0x00080005, "", syntax=IMPLICIT), b""):
        value = item(inside) + element(0xFFFEE0DD, "")
        data = element(SEQUENCE, "UN", value, length=UNDEFINED)
        assert received(data, EXPLICIT, [piece])[0] == "whole"
    data = element(SEQUENCE, "UN", item(bytes(7)), length=UNDEFINED)
    assert received(data, EXPLICIT, [piece])[2] == "only 7 bytes are left in an item"
    last = element(SEQUENCE, "UN", item(element(0x00080005, "CS")), length=UNDEFINED)
    assert received(sequence(0x00081140, item(last)), EXPLICIT, [piece])[0] == "whole"  # nothing is behind it


def test_the_limit_of_a_deflate_stream_that_inflates_to_nothing() -> None:
    empty = (b"\0\0\0\xff\xff" * (MAX_IDLE // 5 + 1))[:MAX_IDLE]
    inflater = Inflater()
    assert list(inflater.feed(empty)) == []
    with pytest.raises(DamagedDeflate, match=f"{MAX_IDLE + 1} bytes of the deflate stream hold nothing"):
        list(inflater.feed(b"\0"))


@pytest.mark.parametrize("size", [CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 40 * CHUNK, 40 * CHUNK + 1])
def test_all_that_a_deflate_stream_inflates_to_comes(size: int) -> None:
    inflater = Inflater()
    assert b"".join(inflater.feed(deflate(bytes(size)))) == bytes(size)
    inflater.end()


DAMAGE = {
    # data behind the identity: where the fault is, what it is, of which element
    "an item outside of a sequence": (item(identity()), 50, "(FFFE,E000) stands outside of a sequence", 0xFFFEE000),
    "a delimiter with a length": (
        element(0xFFFEE00D, "", b"ab"), 50, "(FFFE,E00D) stands outside of a sequence", 0xFFFEE00D,
    ),
    "an element that ends behind its item": (
        sequence(SEQUENCE, item(element(0x00080018, "UI", b"1.2\0", length=5)), item()),
        70, "(0008,0018) runs over the end of its item", 0x00080018,
    ),
    "a long one": (
        sequence(SEQUENCE, item(element(0x00420011, "OB", b"1.2\0", length=5)), item()),
        70, "(0042,0011) runs over the end of its item", 0x00420011,
    ),
    "a sequence that ends behind its item": (
        sequence(SEQUENCE, item(sequence(0x00081199, item())[:-8] + element(0x00080018, "UI")), item())
        .replace(b"\x99\x11SQ\0\0\x08\0", b"\x99\x11SQ\0\0\x09\0"),
        70, "(0008,1199) runs over the end of its item", 0x00081199,
    ),
    "an item that ends behind its sequence": (
        sequence(SEQUENCE, element(0xFFFEE000, "", bytes(8), length=9)) + identity(),
        62, "an item runs over the end of (0008,1140)", SEQUENCE,
    ),
    "too few bytes for an item": (sequence(SEQUENCE, bytes(7)), 62, "only 7 bytes are left in (0008,1140)", SEQUENCE),
    "too few bytes for an element": (
        sequence(SEQUENCE, item(bytes(7))) + identity(), 70, "only 7 bytes are left in an item", SEQUENCE,
    ),
    "too few bytes for a long element": (
        sequence(SEQUENCE, item(element(0x00420011, "OB")[:11])) + identity(),
        70, "only 11 bytes are left in an item", SEQUENCE,
    ),
    "too few bytes for an element, and none behind it": (
        sequence(SEQUENCE, item(bytes(7))), 70, "only 7 bytes are left in an item", SEQUENCE,
    ),
    "too few bytes for a long element, and none behind it": (
        sequence(SEQUENCE, item(element(0x00420011, "OB")[:11])), 70, "only 11 bytes are left in an item", SEQUENCE,
    ),
    "an element where an item was to come": (
        sequence(SEQUENCE, identity()), 62, "expected an item, found (0008,0016)", SEQUENCE,
    ),
    "a fragment of undefined length": (
        element(PIXELS, "OB", item(undefined=True), length=UNDEFINED),
        62, "expected an item, found (FFFE,E000)", PIXELS,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGE)
@pytest.mark.parametrize("piece", [1, 1000])
def test_damage_is_told_with_its_byte_its_reason_and_its_element(case: str, piece: int) -> None:
    data, offset, reason, tag = DAMAGE[case]
    assert received(identity() + data, EXPLICIT, [piece]) == (ScanError, offset, reason, tag)
    assert looked_over(identity() + data, EXPLICIT) == (ScanError, offset, reason, tag)


def test_what_fits_exactly_is_whole() -> None:
    exact = [
        sequence(SEQUENCE, item(element(0x00080018, "UI", b"1.2\0")), item()),
        sequence(SEQUENCE, item(element(0x00420011, "OB", b"1.2\0")), item()),
        sequence(SEQUENCE, item(sequence(0x00081199, item())), item()),
        sequence(SEQUENCE, item(bytes(8))),
        sequence(SEQUENCE, item(element(0x00420011, "OB"))),
        sequence(SEQUENCE),
    ]
    for data in exact:
        assert received(identity() + data, EXPLICIT, [1])[0] == "whole"
        assert received(identity() + data, EXPLICIT, [1000])[0] == "whole"


def open_sequences(depth: int) -> bytes:
    """`depth` data sets in each other."""
    return (element(SEQUENCE, "SQ", length=UNDEFINED) + element(0xFFFEE000, "", length=UNDEFINED)) * (depth - 1) + (
        element(0xFFFEE00D, "") + element(0xFFFEE0DD, "")
    ) * (depth - 1)


def test_the_limit_of_depth() -> None:
    assert received(open_sequences(64), EXPLICIT, [100])[0] == "whole"
    assert received(open_sequences(65), EXPLICIT, [100])[1:3] == (63 * 20 + 12, "nested deeper than the limit of 64")


@pytest.mark.parametrize(
    "one",
    [
        element(0x00080005, "CS"),
        element(0x00420011, "OB"),
        b"\x09\0\1\x10QQ\0\0\0\0\0\0",
        sequence(SEQUENCE),
        element(0xFFFEE00D, ""),
    ],
    ids=["short", "long", "unknown", "sequence", "delimiter"],
)
def test_the_limit_of_elements(one: bytes) -> None:
    """Reached in the fast loops and out of them."""
    limits = ScanLimits(elements=10)
    walk_elements(one * 10, EXPLICIT, limits)
    with pytest.raises(ScanError, match="limit of 10 elements") as caught:
        walk_elements(one * 11, EXPLICIT, limits)
    assert caught.value.offset == len(one) * 10


def test_items_fragments_and_delimiters_count() -> None:
    for data, count in ((sequence(SEQUENCE, item(), item()), 3), (FRAGMENTS, 4), (open_sequences(2), 4)):
        walk_elements(data, EXPLICIT, ScanLimits(elements=count))
        with pytest.raises(ScanError, match="elements"):
            walk_elements(data, EXPLICIT, ScanLimits(elements=count - 1))


def test_two_hundred_thousand_elements_are_no_limit_on_either_side() -> None:
    items = item(element(0x00080016, "UI", b"1.2\0"), element(0x00080018, "UI", b"1.2\0"), undefined=True) * 60_000
    data = identity() + sequence(0x52009230, items, undefined=True)
    assert received(data, EXPLICIT, [131_000])[0] == "whole"
    assert looked_over(data, EXPLICIT) == ("whole",)
    assert WHOLE_LIMITS.elements >= 2_000_000


@pytest.mark.parametrize("length", [65_535, 65_536, 65_537])
def test_the_limit_of_a_value_that_is_kept(length: int) -> None:
    value = b"x" * length + b" " * (length % 2)
    data = element(0x00080016, "UT", value[:length], length=length) + element(
        0x00080018, "UI", b"1.2" + b"\0" * (1 + length % 2)
    )
    for pieces in ([1000], [200_000]):
        walk = Walk(EXPLICIT, INDEXED)
        for start in range(0, len(data), pieces[0]):
            walk.feed(data[start : start + pieces[0]])
        header = walk.finish()
        assert header.complete == (length <= 65_536)
        assert (0x00080016 in header) == (length <= 65_536)
        assert header.uid(0x00080018) == "1.2"


def test_the_limit_of_what_is_kept_of_items() -> None:
    inside = element(0x00401001, "SH", b"AB" * 100)
    for count, limit, complete in ((3, 3 * (512 + 208 + 64), True), (3, 3 * (512 + 208 + 64) - 1, False)):
        walk = Walk(EXPLICIT, INDEXED, ScanLimits(kept=limit))
        walk.feed(sequence(0x00400275, *[item(inside)] * count) + element(0x00700080, "CS", b"AB"))
        header = walk.finish()
        assert header.complete is complete
        assert header.text(0x00700080) == "AB"


def test_nothing_that_grows_with_the_data_set_is_kept() -> None:
    """Neither of pixels, nor of many items of what the index keeps, nor while bytes are waited for."""
    requests = sequence(0x00400275, *[item(element(0x00401001, "SH", b"AB" * 100))] * 50_000)
    data = identity() + requests + element(PIXELS, "OW", bytes(20_000_000))
    tracemalloc.start()
    try:
        walk = whole(EXPLICIT, INDEXED)
        for start in range(0, len(data), 131_000):
            walk.feed(memoryview(data)[start : start + 131_000])
        header = walk.finish()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert not header.complete
    assert peak < 8_000_000


def test_tiny_pieces_of_a_value_are_not_copied_again_and_again() -> None:
    walk = whole(EXPLICIT, INDEXED)
    data = element(0x00080018, "UT", b"1" * 60_000)
    for at in range(len(data)):
        assert len(walk._buffer) <= 16  # what waits is not joined before it is whole
        walk.feed(data[at : at + 1])
    assert walk.finish().values[0x00080018] == b"1" * 60_000


def test_a_file_is_skipped_in() -> None:
    frames = [item(bytes(100_000)) for _ in range(20)]
    file = samples.Counting(identity() + sequence(PIXELS, *frames, vr="OB", undefined=True))
    walk_elements(FileSource(file, 0, len(file.getvalue())), EXPLICIT, ScanLimits())
    assert file.taken < 40_000


@pytest.mark.parametrize("extra", [b"", b"\0", b"anything"])
def test_what_lies_behind_a_deflate_stream_is_let_be(extra: bytes) -> None:
    assert received(deflate(identity()) + extra, DEFLATED, [7])[0] == "whole"


def test_comments_fit_the_element_that_tells_them() -> None:
    """The longest of each kind, in an object of a terabyte."""
    for damage in DAMAGE.values():
        assert len(ScanError(damage[2], 10**12).comment) <= 64
    assert len(ScanTruncated("(7FE0,0010) lacks 4294967294 bytes", 10**11).comment) <= 64
    limits = WHOLE_LIMITS
    for reason in (
        f"more than the limit of {limits.elements} elements",
        f"inflates beyond the limit of {limits.inflated} bytes",
        f"nested deeper than the limit of {limits.depth}",
        "odd length; (7FE0,0010) cannot be padded",
    ):
        assert len(ScanError(reason, 10**10).comment) <= 64
