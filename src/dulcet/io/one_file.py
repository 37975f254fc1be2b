"""One file as the destination of one data set, where somebody else has chosen the name."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Final

from dulcet.io.durable_file import DurableFile, refused, sync_folder
from dulcet.io.layout import Layout
from dulcet.io.store_directory import IncomingFile, StoreDirectory
from dulcet.part10.file_meta import encode_file_meta

__all__ = ["OneFile"]

LAYOUT: Final = Layout()


class OneFile(StoreDirectory):
    """What is received replaces the file `path` once it is whole and durable; until then it lies beside it."""

    def __init__(self, path: str | os.PathLike[str], *, durable: bool = True) -> None:
        self.file: Path = Path(path)
        self.path: Path = self.file.parent
        self.layout = LAYOUT
        self.durable = durable

    def begin(
        self, sop_class_uid: str, sop_instance_uid: str, transfer_syntax: str, *, source_ae_title: str = ""
    ) -> IncomingFile:
        """Start the instance; ReceiveError (A700H) when no file can be made there."""
        meta = encode_file_meta(sop_class_uid, sop_instance_uid, transfer_syntax, source_ae_title=source_ae_title)
        partial = str(self.file.with_name(f".{self.file.name[:200]}.{secrets.token_hex(8)}"))
        try:
            file = DurableFile(partial, self.path, durable=self.durable)
        except OSError as error:
            raise refused(self.path, error) from error
        return IncomingFile(self, file, meta, sop_class_uid, sop_instance_uid, transfer_syntax)

    def close(self) -> None:
        """Nothing is left open."""

    def _place(self, incoming: IncomingFile, relative: str) -> Path:
        os.replace(incoming.partial, self.file)
        if self.durable:
            sync_folder(self.path)
        return self.file
