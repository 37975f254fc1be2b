"""Files that something happened to: cut, stretched, with lengths and delimiters that are not where they were."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from random import Random
from struct import pack, unpack_from

from tests.part10 import samples
from tests.part10.samples import BIG_ENDIAN, DEFLATED, EXPLICIT, IMPLICIT, deflate, element, identity, item, sequence

MOST = 40_000
"""Bytes of a file that is taken: what may be wrong with larger ones is not more."""
PIXELS = 0x7FE00010
ITEM_END, SEQUENCE_END = 0xFFFEE00D, 0xFFFEE0DD


def patient(syntax: str = EXPLICIT) -> bytes:
    """The four UIDs of a data set."""
    more = {"syntax": syntax}
    return (
        identity(syntax)
        + element(0x0020000D, "UI", b"1.2.3\0", **more)
        + element(0x0020000E, "UI", b"1.2.3.1\0", **more)
    )


def plain(syntax: str) -> bytes:
    """A data set with one of each: sequences of both kinds of length, in each other, fragments, trailing elements."""
    more = {"syntax": syntax}
    whose = element(0x00080018, "UI", b"1.2.9.9\0", **more)
    nested = sequence(0x00081140, item(whose, undefined=True, **more), item(**more), undefined=True, **more)
    uids = patient(syntax)
    at = len(identity(syntax))
    return b"".join((
        element(0x00080005, "CS", b"ISO_IR 100", **more),
        uids[:at],
        sequence(0x00081115, item(nested, **more), item(whose, **more), **more),
        uids[at:],
        sequence(0x00400275, item(element(0x00401001, "SH", b"AB", **more), undefined=True, **more), **more),
        element(0x00420011, "OB", b"x" * 70, **more),
        sequence(PIXELS, item(**more), item(b"ab" * 20, **more), vr="OB", undefined=True, **more),
        element(0xFFFCFFFC, "OB", bytes(10), **more),
    ))  # fmt: skip


def made(syntax: str) -> bytes:
    """The same, encoded."""
    return deflate(plain(EXPLICIT)) if syntax == DEFLATED else plain(syntax)


@cache
def originals() -> list[tuple[str, bytes]]:
    """(transfer syntax, data set) of real files and of made ones."""
    found = [(syntax, made(syntax)) for syntax in samples.UNCOMPRESSED]
    for path in samples.usable():
        if path.stat().st_size <= MOST and path.name not in samples.TRUNCATED and "DICOMDIR" not in path.name:
            location = samples.located(path)
            found.append((location.transfer_syntax, path.read_bytes()[location.offset :]))
    return found


def mutants(data: bytes, syntax: str, chance: Random, count: int) -> Iterator[bytes]:
    """`count` of them, and the data set itself."""
    yield data
    changes = (cut, stretched, lengthened, delimited, spoiled, doubled, dropped)
    for _ in range(count):
        mutant = chance.choice(changes)(data, ">" if syntax == BIG_ENDIAN else "<", chance)
        if chance.random() < 0.2:
            mutant = chance.choice(changes)(mutant, ">" if syntax == BIG_ENDIAN else "<", chance)
        yield mutant


def place(data: bytes, chance: Random) -> int:
    """Where something happens: often where an element header seems to begin."""
    if chance.random() < 0.3 or not data:
        return chance.randrange(len(data) + 1)
    wanted = chance.choice(
        (b"\xfe\xff\x00\xe0", b"\xfe\xff\x0d\xe0", b"\xe0\x7f\x10\x00", b"\x08\x00", b"\x40\x00", b"\x20\x00")
    )
    found = data.find(wanted, chance.randrange(len(data)))
    return min(max((found if found >= 0 else len(data)) + chance.choice((0, 0, 0, 4, 6, 8, -1, 1)), 0), len(data))


def cut(data: bytes, order: str, chance: Random) -> bytes:
    """Ends early."""
    return data[: place(data, chance)]


def stretched(data: bytes, order: str, chance: Random) -> bytes:
    """Something lies behind it."""
    return data + chance.choice((bytes(chance.randrange(20)), chance.randbytes(chance.randrange(1, 20)), identity()))


def lengthened(data: bytes, order: str, chance: Random) -> bytes:
    """What may be a length is a little, or much, off."""
    at, size = place(data, chance), chance.choice((2, 4))
    letter = order + ("H" if size == 2 else "L")
    if at + size > len(data):
        return data
    value = unpack_from(letter, data, at)[0] + chance.choice((-8, -2, -1, 1, 2, 8, 100, 0x7FFF))
    return data[:at] + pack(letter, value % (1 << 8 * size)) + data[at + size :]


def delimited(data: bytes, order: str, chance: Random) -> bytes:
    """A delimiter or an item stands where there was none."""
    at, tag = place(data, chance), chance.choice((0xFFFEE000, ITEM_END, SEQUENCE_END))
    return data[:at] + pack(order + "HHL", tag >> 16, tag & 0xFFFF, chance.choice((0, 0, 8, 0xFFFFFFFF))) + data[at:]


def spoiled(data: bytes, order: str, chance: Random) -> bytes:
    """A byte is another one."""
    at = place(data, chance)
    return data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :]


def doubled(data: bytes, order: str, chance: Random) -> bytes:
    """A piece stands there twice."""
    at = place(data, chance)
    return data[:at] + data[at : at + chance.choice((1, 8, 12, 40))] + data[at:]


def dropped(data: bytes, order: str, chance: Random) -> bytes:
    """A piece is missing."""
    at = place(data, chance)
    return data[:at] + data[at + chance.choice((1, 2, 8, 12)) :]


def file_of(data: bytes, syntax: str) -> bytes:
    """As a file, which says who it is."""
    return samples.part10(data, syntax)


SYNTAXES = (IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED)
