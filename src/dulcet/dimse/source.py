"""What an outgoing data set may be: bytes in memory, or a span of an open file that a face reads into its PDUs."""

from __future__ import annotations

from dulcet.upper_layer.fragments import FileSpan

__all__ = ["FileSpan", "Source", "as_source"]

Source = bytes | bytearray | memoryview | FileSpan
"""An encoded data set in the context's transfer syntax, file meta and preamble taken off."""


def as_source(data: Source) -> memoryview | FileSpan:
    """The same bytes as a flat view, not copied; a FileSpan as it is."""
    if isinstance(data, FileSpan):
        return data
    view = memoryview(data)
    return view if view.format == "B" and view.ndim == 1 else view.cast("B")
