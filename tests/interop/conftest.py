"""The corpus, copied so that every instance has a UID of its own, and what DCMTK makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.corpus import Instance, copy_with_unique_instances, survey
from tests.interop import peers
from tests.interop.comparing import Arrived, arrived
from tests.interop.whole_corpus import send_with_dcmsend, send_with_storescu

INTEROP = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(INTEROP):
            item.add_marker(pytest.mark.interop)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> list[Instance]:
    """Every usable file of pydicom's wheel, each with a SOP instance UID of its own."""
    return copy_with_unique_instances(survey()[0], tmp_path_factory.mktemp("corpus") / "files")


@pytest.fixture(scope="session")
def whole(corpus: list[Instance]) -> list[Instance]:
    """The files that do not end in the middle of an element."""
    return [instance for instance in corpus if not instance.truncated]


@pytest.fixture(scope="session")
def storescu_reference(corpus: list[Instance], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Arrived]:
    """What DCMTK's own storescp receives from storescu: storescu encodes data sets anew."""
    folder = tmp_path_factory.mktemp("storescu-storescp")
    with peers.storescp(folder, "+xa", "-dhl", environment=peers.TUNED) as server:
        send_with_storescu(server.port, corpus)
    return arrived(folder)


@pytest.fixture(scope="session")
def dcmsend_reference(corpus: list[Instance], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Arrived]:
    """What DCMTK's own storescp receives from dcmsend."""
    folder = tmp_path_factory.mktemp("dcmsend-storescp")
    with peers.storescp(folder, "+xa", "-dhl", environment=peers.TUNED) as server:
        send_with_dcmsend(server.port, corpus)
    return arrived(folder)
