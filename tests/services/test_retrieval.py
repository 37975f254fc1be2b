"""C-GET without losing a class: a peer in memory, which sends what has a context, and what the script makes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from pydicom import Dataset

from dulcet import Status, uids
from dulcet.services.identifiers import build_identifier
from dulcet.services.results import Retrieved
from dulcet.services.retrieval import Fetch, Find, Retrieval, find_class, retrieve
from dulcet.services.sop_classes import storage_classes
from dulcet.upper_layer.negotiation import MAX_CONTEXTS

EXPLICIT, J2K, RLE = uids.EXPLICIT_VR_LITTLE_ENDIAN, uids.JPEG2000_LOSSLESS, uids.RLE_LOSSLESS
CT, SR, RARE = uids.CT_IMAGE_STORAGE, uids.COMPREHENSIVE_SR_STORAGE, uids.SPECTACLE_PRESCRIPTION_REPORT_STORAGE
PRIVATE = "1.2.826.0.1.3680043.8.498.77.9.1"
SYNTAXES = (J2K, RLE, uids.JPEG_BASELINE_8_BIT)


@dataclass
class Peer:
    """Instances by UID, each of a class and in a syntax."""

    content: dict[str, tuple[str, str]]
    tells_study: bool = True
    tells_instances: bool = True
    gives_up: bool = False
    proposed: list[list[Any]] = field(default_factory=list)
    asked: list[Find] = field(default_factory=list)

    def run(self, wanted: Retrieval) -> Retrieved:
        script = retrieve(wanted)
        action = next(script)
        while True:
            try:
                action = script.send(self.find(action) if isinstance(action, Find) else self.get(action, wanted))
            except StopIteration as end:
                result: Retrieved = end.value
                return result

    def find(self, find: Find) -> list[Dataset] | None:
        self.asked.append(find)
        if not (self.tells_study or self.tells_instances):
            return None
        if find.level == "IMAGE":
            return [match(SOPInstanceUID=uid, SOPClassUID=of) for uid, (of, _) in self.content.items()]
        if find.level == "SERIES":
            return [match(SeriesInstanceUID="1.2.3.4")]
        told = {"SOPClassesInStudy": sorted({of for of, _ in self.content.values()})} if self.tells_study else {}
        return [match(StudyInstanceUID="1.2.3", **told)]

    def get(self, fetch: Fetch, wanted: Retrieval) -> tuple[Retrieved, set[str]]:
        self.proposed.append(fetch.contexts)
        offered = {(one.abstract_syntax, syntax) for one in fetch.contexts for syntax in one.transfer_syntaxes}
        total = Retrieved(Status(Status.SUCCESS), counted=True)
        for query in fetch.queries:
            chosen = query.get("SOPInstanceUID") or list(self.content)
            for uid in [chosen] if isinstance(chosen, str) else chosen:
                total.matched += 1
                if self.content[uid] in offered:
                    wanted.arrived.add(uid)
                    total.completed += 1
                    continue
                total.failed += 1
                total.failed_uids.append(uid)
                total.status = Status(0xC000 if self.gives_up else 0xB000)
                if self.gives_up:
                    break
        return total, {one.abstract_syntax for one in fetch.contexts}


def match(**values: Any) -> Dataset:
    return build_identifier(values)


def study(**options: Any) -> Retrieval:
    return Retrieval(build_identifier({"StudyInstanceUID": "1.2.3"}, level="STUDY"), "STUDY", **options)


CONTENT = {"1.1": (CT, EXPLICIT), "1.2": (CT, J2K), "1.3": (SR, EXPLICIT), "1.4": (RARE, EXPLICIT), "1.5": (CT, RLE)}


@pytest.mark.parametrize("count", range(4))
@pytest.mark.parametrize(
    ("tells_study", "tells_instances", "gives_up"),
    [(True, True, False), (False, True, False), (False, False, False), (True, True, True), (False, True, True)],
)
def test_every_class_comes_with_any_number_of_syntaxes(
    count: int, tells_study: bool, tells_instances: bool, gives_up: bool
) -> None:
    peer = Peer(CONTENT, tells_study, tells_instances, gives_up)
    syntaxes = SYNTAXES[:count]
    wanted = study(syntaxes=syntaxes)
    result = peer.run(wanted)
    taken = {EXPLICIT, *(syntaxes or SYNTAXES)}
    refused = {uid for uid, (_, lies_in) in CONTENT.items() if lies_in not in taken}
    assert wanted.arrived == CONTENT.keys() - refused
    assert (result.completed, result.failed) == (len(CONTENT) - len(refused), len(refused))
    assert set(result.failed_uids) == refused
    assert result.status == (0xB000 if refused else 0x0000)
    assert all(len(contexts) <= MAX_CONTEXTS for contexts in peer.proposed)


def test_one_model_is_proposed_where_one_is_asked_for() -> None:
    peer = Peer(CONTENT)
    peer.run(study(model="study"))
    models = [one for one in peer.proposed[0] if not one.provider]
    assert [one.abstract_syntax for one in models] == [uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_GET]


def test_a_peer_that_does_not_tell_is_offered_every_class_there_is() -> None:
    peer = Peer({"1.1": (PRIVATE, EXPLICIT)}, False, False)
    result = peer.run(study(syntaxes=SYNTAXES))
    proposed = {one.abstract_syntax for contexts in peer.proposed for one in contexts}
    assert proposed >= storage_classes()
    assert (result.failed, result.failed_uids) == (1, ["1.1"])


def test_a_class_that_the_caller_names_is_proposed_first() -> None:
    peer = Peer({"1.1": (PRIVATE, EXPLICIT)}, False, False)
    assert peer.run(study(classes=[PRIVATE])).completed == 1
    assert len(peer.proposed) == 1


def test_what_came_is_not_asked_for_again_where_instances_are_told() -> None:
    peer = Peer(CONTENT)
    wanted = study()
    asked: list[list[str]] = []
    get = peer.get

    def noting(fetch: Fetch, of: Retrieval) -> tuple[Retrieved, set[str]]:
        asked.append([uid for query in fetch.queries for uid in query.get("SOPInstanceUID") or CONTENT])
        return get(fetch, of)

    peer.get = noting  # type: ignore[method-assign]
    peer.run(wanted)
    assert asked[0] == list(CONTENT)
    assert all({"1.1", "1.3", "1.4"}.isdisjoint(again) for again in asked[1:])


def test_the_reason_is_that_of_the_association_that_took_the_class() -> None:
    """What no syntax brings fails for another reason than the last one tried."""
    peer = Peer(CONTENT)
    comments = iter(("an instance could not be read", *["not accepted: CT Image Storage"] * 20))
    get = peer.get

    def damaged(fetch: Fetch, of: Retrieval) -> tuple[Retrieved, set[str]]:
        total, taken = get(fetch, of)
        of.arrived.discard("1.1")
        total.comment = next(comments)
        return total, taken

    peer.get = damaged  # type: ignore[method-assign]
    result = peer.run(study())
    assert result.failed_uids == ["1.1"]
    assert result.comment == "an instance could not be read"


def test_an_instance_without_a_uid_costs_nobody_the_others() -> None:
    """There are archives that hold such; a retrieve cannot name it."""
    peer = Peer({**CONTENT, "": (CT, "a syntax that nobody proposes")})
    wanted = study()
    result = peer.run(wanted)
    assert wanted.arrived == CONTENT.keys()
    assert [one.uid for one in wanted.instances or ()] == list(CONTENT)
    assert (result.completed, result.failed) == (len(CONTENT), 1)


def test_a_cancel_or_a_refusal_is_the_end() -> None:
    for status in (Status.CANCEL, 0xA900, 0x0124):
        peer = Peer(CONTENT)
        peer.get = lambda fetch, wanted: (Retrieved(Status(status)), {CT})  # type: ignore[method-assign] # noqa: B023
        assert peer.run(study()).status == status


@pytest.mark.parametrize(
    ("name", "uid"),
    [("CTImageStorage", CT), ("CT Image Storage", CT), ("ctimage", CT), (PRIVATE, PRIVATE), ("ComprehensiveSR", SR)],
)
def test_a_class_has_a_keyword_a_name_and_a_uid(name: str, uid: str) -> None:
    assert find_class(name) == uid


def test_a_class_that_does_not_exist_is_said() -> None:
    with pytest.raises(ValueError, match="'CT Scan' is no SOP class"):
        find_class("CT Scan")
