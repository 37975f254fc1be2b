"""The whole corpus through DCMTK's senders, each file in its own transfer syntax as far as the sender can."""

from __future__ import annotations

from tests.corpus import Instance, by_transfer_syntax
from tests.interop import peers

# storescu proposes for each SOP class one compressed syntax and the uncompressed ones: a process for each syntax.
STORESCU_PROPOSAL = {
    "ImplicitLittleEndian": "-xi",
    "ExplicitLittleEndian": "-xe",
    "Deflated": "-xd",
    "ExplicitBigEndian": "-xb",
    "JPEGBaseline": "-xy",
    "JPEGExtended": "-xx",
    "JPEGLosslessSV1": "-xs",
    "JPEGLSLossless": "-xt",
    "JPEGLSNearLossless": "-xu",
    "JPEG2000Lossless": "-xv",
    "JPEG2000": "-xw",
    "RLELossless": "-xr",
}


def send_with_storescu(port: int, corpus: list[Instance], *options: str, aet: str = "ANY-SCP") -> None:
    """All of the corpus by storescu, each file in its own transfer syntax; it leaves out what it cannot read."""
    for group in by_transfer_syntax(corpus).values():
        files = [instance.path for instance in group]
        proposal = STORESCU_PROPOSAL[group[0].syntax_name]
        peers.storescu(port, files, "-nh", "-R", proposal, *options, aet=aet, environment=peers.TUNED).check()


def send_with_dcmsend(port: int, corpus: list[Instance], *options: str, aet: str = "ANY-SCP") -> None:
    """All of the corpus by dcmsend; it leaves out what it cannot read."""
    files = [instance.path for instance in corpus]
    peers.dcmsend(port, files, "-nuc", "-nh", *options, aet=aet, environment=peers.TUNED).check()
