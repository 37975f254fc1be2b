"""Data sets as they come over the wire, and a short way to put one into a StoreDirectory."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.corpus import CT_IMAGE, EXPLICIT, element

from dulcet.io.instances import Instance
from dulcet.io.store_directory import StoreDirectory
from dulcet.part10 import Location

UID: Final = "1.2.826.0.1.3680043.10.1389.7"


def data_set(
    *, sop_class: str = CT_IMAGE, uid: str = UID, values: dict[int, tuple[bytes, bytes]] | None = None, bulk: int = 64
) -> bytes:
    """Explicit VR little endian; `values` are more elements: tag -> (VR, value)."""
    elements = {0x00080016: (b"UI", sop_class.encode("latin-1")), 0x00080018: (b"UI", uid.encode("latin-1"))}
    elements |= values or {}
    elements[0x7FE00010] = (b"OB", bytes(bulk))
    return b"".join(element(tag, vr, value) for tag, (vr, value) in sorted(elements.items()) if value)


def keep(
    directory: StoreDirectory,
    data: bytes,
    *,
    sop_class: str = CT_IMAGE,
    uid: str = UID,
    syntax: str = EXPLICIT,
    piece: int = 4096,
) -> Path:
    """Let it come in pieces, as from an association; where it was put."""
    incoming = directory.begin(sop_class, uid, syntax, source_ae_title="SENDER")
    try:
        for start in range(0, len(data), piece):
            incoming.write(memoryview(data)[start : start + piece])
        return incoming.commit()
    finally:
        incoming.discard()


def files_below(folder: Path) -> list[Path]:
    """Every file but the locks of living processes, partial ones too."""
    return sorted(path for path in folder.rglob("*") if not path.is_dir() and path.name != "lock")


class Unseen(Instance):
    """Sent as it is, whatever it is."""

    def open(self) -> memoryview:
        return memoryview(self.origin)


def unseen(data: bytes, *, sop_class: str = CT_IMAGE, uid: str = UID, syntax: str = EXPLICIT) -> Instance:
    """What somebody sends who does not look at it."""
    return Unseen(data, Location(syntax, sop_class, uid, 0, len(data)))
