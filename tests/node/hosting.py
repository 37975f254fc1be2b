"""A node with threads on a free port, files to send, and waiting that ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file

import dulcet
from dulcet import Node, uids
from dulcet.node.threads import NodeThreads
from dulcet.upper_layer.negotiation import Proposal

EXPLICIT, IMPLICIT = uids.EXPLICIT_VR_LITTLE_ENDIAN, uids.IMPLICIT_VR_LITTLE_ENDIAN
STUDY = "1.2.826.0.1.3680043.8.498.1"
STUDY_FIND = uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND
STUDY_GET = uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_GET
STUDY_MOVE = uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_MOVE
CT, MR = uids.CT_IMAGE_STORAGE, uids.MR_IMAGE_STORAGE
PATIENCE = 20.0
"""Seconds after which a test has failed."""

FILES = [get_testdata_file(name) for name in ("CT_small.dcm", "MR_small.dcm", "JPEG2000.dcm")]
"""A CT, an MR and a secondary capture, the last one compressed."""
INSTANCES = [str(dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in FILES]


@contextmanager
def serving(node: Node, **options: Any) -> Iterator[NodeThreads]:
    """The node serves; afterwards no association was left over that had to be aborted."""
    server = node.threads(**options)
    try:
        yield server
    except BaseException:
        server.stop(0.0)
        raise
    assert server.stop(PATIENCE), "an association had to be aborted"


def calling(server: NodeThreads, *classes: str | Proposal, window: int = 1, **options: Any) -> dulcet.Association:
    """An association with it; by default with the contexts that `associate` proposes."""
    contexts = [one if isinstance(one, Proposal) else Proposal(one, (EXPLICIT,), provider=True) for one in classes]
    options.setdefault("config", dulcet.AssociationConfig(window_invoked=window))
    options.setdefault("calling_ae_title", "TESTER")
    return dulcet.associate(server.address, contexts=contexts or None, **options)


def instance(uid: str, sop_class: str = CT, size: int = 0) -> Dataset:
    """A small data set that can be sent."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, uid
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = STUDY, f"{STUDY}.1"
    dataset.PatientID = "1"
    if size:
        dataset.add_new(0x00420011, "OB", b"\0" * size)
    return dataset


def match(number: int) -> Dataset:
    """An answer to a C-FIND."""
    dataset = Dataset()
    dataset.QueryRetrieveLevel = "STUDY"
    dataset.StudyInstanceUID = f"1.2.{number}"
    return dataset


def wait_until(condition: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
    """Look again and again; a failure after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.005)


def wait_until_still(number: Callable[[], int], seconds: float = 0.4) -> int:
    """The number once it has not changed for `seconds`."""
    last, since = number(), time.monotonic()
    deadline = since + PATIENCE
    while time.monotonic() - since < seconds:
        assert time.monotonic() < deadline, "it goes on and on"
        time.sleep(0.01)
        if number() != last:
            last, since = number(), time.monotonic()
    return last
