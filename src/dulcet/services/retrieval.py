"""C-GET without losing a class: what is asked first, what each association proposes, what they came to together.

Rules: no I/O; a script yields what a face is to do and is sent the result; one information model is proposed, the one
that is asked for; a class is proposed on one association at a time, so nothing comes twice; what failed is asked for
again only with classes or syntaxes that were not proposed before.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from dulcet import uids
from dulcet.config import AssociationConfig
from dulcet.dimse.status import Status
from dulcet.services.models import find_model, model_of, retrieve_levels
from dulcet.services.proposals import UNCOMPRESSED_PREFERENCE, common_first, proposals
from dulcet.services.results import Retrieved
from dulcet.services.sop_classes import storage_classes
from dulcet.upper_layer.negotiation import MAX_CONTEXTS, Proposal

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["Fetch", "Find", "Retrieval", "asking", "contexts_for", "find_class", "progress_of", "retrieve"]

LEVELS: Final = ("PATIENT", "STUDY", "SERIES", "IMAGE")
QUERIES: Final = 64
"""C-FINDs that are worth their time, where a peer tells SOP classes of instances only; one for each series."""
PATIENT_FIND: Final = uids.PATIENT_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND
PATIENCE: Final = 5.0
"""Seconds for a connection, an association and an answer when a peer is asked for SOP classes: it need not know."""


@dataclass(slots=True)
class Find:
    """Ask on an association with these contexts, the same one until a `Fetch`; the matches, None without an answer."""

    contexts: list[Proposal]
    level: str
    keys: dict[str, Any]


@dataclass(slots=True)
class Fetch:
    """C-GETs on an association of its own: their `Retrieved`, and the SOP classes of which a context was accepted."""

    contexts: list[Proposal]
    queries: list[Dataset]
    """Identifiers, one C-GET for each."""
    done: Retrieved | None = None
    """What those before it came to, for who is shown the progress."""


Script = Generator[Find | Fetch, Any, Retrieved]


@dataclass(slots=True)
class Retrieval:
    """What is wanted."""

    query: Dataset
    """The unique keys with their values."""
    level: str
    model: str | None = None
    syntaxes: Sequence[str] = ()
    classes: Sequence[str] = ()
    arrived: set[str] = field(default_factory=set)
    """SOP Instance UIDs that the face has taken and acknowledged."""
    refused: set[str] = field(default_factory=set)
    """Those that our side could not take, which no other association would change."""
    instances: list[Known] | None = None
    """What the peer told of single instances, once it was asked."""

    def missing(self) -> list[Known]:
        """Those that did not come yet."""
        return [one for one in self.instances or () if one.uid not in self.arrived]


@dataclass(frozen=True, slots=True)
class Known:
    """An instance at the peer."""

    study: str
    series: str
    uid: str
    sop_class: str
    syntaxes: tuple[str, ...]


def asking(config: AssociationConfig) -> AssociationConfig:
    """The configuration of an association that only asks for SOP classes: it costs little time where nobody answers."""
    timers = config.timers
    response = PATIENCE if timers.response is None else min(timers.response, PATIENCE)
    short = replace(
        timers,
        connect=min(timers.connect, PATIENCE),
        associate=min(timers.associate, PATIENCE),
        release=min(timers.release, PATIENCE),
        response=response,
    )
    return replace(config, timers=short)


def find_class(name: str) -> str:
    """The UID of a SOP class: itself, or by its keyword or name; ValueError when there is none."""
    wanted = name.strip()
    if wanted[:1].isdigit():
        return wanted
    plain = "".join(wanted.split()).lower()
    for keyword, uid in uids.KEYWORDS.items():
        if plain in (keyword.lower(), keyword.lower().removesuffix("storage")) and uid in uids.STORAGE_CLASSES:
            return uid
    for uid, title in uids.SOP_CLASSES.items():
        if plain == "".join(title.split()).lower():
            return uid
    raise ValueError(f"{name!r} is no SOP class that can be stored: give its UID, its keyword or its name")


def retrieve(wanted: Retrieval) -> Script:
    """The script of a retrieve."""
    services = _services(wanted, "get")
    told = yield from _classes(wanted)
    known = list(dict.fromkeys([*wanted.classes, *told])) if told else []
    room = MAX_CONTEXTS - len(services)
    state = _State(wanted)
    for contexts in _wide(wanted, known, room):
        state.add(contexts, (yield Fetch([*services, *contexts], [wanted.query], state.merged)))
        if state.is_over():
            break
    if not state.is_over():
        yield from _instances(wanted)
        state.counted(len(wanted.instances or ()))
        for contexts in _narrow(wanted, known, state, room):
            state.add(contexts, (yield Fetch([*services, *contexts], state.queries(), state.merged)))
            if state.is_over():
                break
    merged = state.merged
    assert merged is not None
    if merged.failed:
        classes = {one.sop_class for one in wanted.missing() if one.sop_class} or known
        merged.comment = state.reason(set(classes)) or merged.comment
        merged.not_accepted = [uid for uid in sorted(classes) if uid in state.proposed and uid not in state.accepted]
    return merged


COUNTING: Final = (Status.SUCCESS, Status.SUBOPERATIONS_FAILED, Status.CANNOT_PERFORM_SUBOPERATIONS)
"""Statuses after which every sub-operation was tried."""


class _State:
    """What several associations came to together."""

    def __init__(self, wanted: Retrieval) -> None:
        self.merged: Retrieved | None = None
        self.proposed: set[str] = set()
        self.accepted: set[str] = set()
        self.gave_up = False
        """True for a peer that ends a C-GET at the first sub-operation that fails."""
        self._wanted = wanted
        self._said: list[tuple[set[str], str]] = []
        """The SOP classes that an association took, and the peer's comment at its end."""
        self._failed: set[str] = set()
        self._had: set[str] = set()

    def add(self, contexts: Iterable[Proposal], came: tuple[Retrieved, set[str]]) -> None:
        """One more association is done."""
        result, taken = came
        arrived, before = self._wanted.arrived, self.merged
        arrived -= set(result.failed_uids) - self._had  # it came, and our side refused it
        self._had = set(arrived)
        self.proposed.update(one.abstract_syntax for one in contexts)
        self.accepted |= taken
        self._said.append((taken, result.comment))
        self._failed |= set(result.failed_uids)
        if before is None:
            self.merged = result
            left = result.matched - result.completed - result.warning - result.failed
            self.gave_up = not result.status.is_cancel and (left > 0 or result.status not in COUNTING)
            if self.gave_up:
                result.failed += left
        else:
            self.merged = self._together(before, result)

    def counted(self, instances: int) -> None:
        """The peer told so many instances: one that ended early did not count them."""
        assert self.merged is not None
        if self.gave_up and instances > self.merged.matched:
            self.merged.failed += instances - self.merged.matched
            self.merged.matched = instances

    def reason(self, classes: set[str]) -> str:
        """The peer's comment on what failed: of the first association that took its classes, in the syntaxes that are
        likely.  Those after it try one syntax after the other, and are told that it was the wrong one.
        """
        return next((comment for taken, comment in self._said if comment and classes and classes <= taken), "")

    def is_over(self) -> bool:
        """True when everything came that our side can take, or the peer was told to stop."""
        if self.merged is None:
            return False
        refused = len(self._wanted.refused - self._wanted.arrived)
        return self.merged.failed <= refused or self.merged.status.is_cancel

    def _together(self, before: Retrieved, result: Retrieved) -> Retrieved:
        count = len(self._wanted.arrived)
        result.warning += before.warning
        result.matched, result.counted = before.matched, True
        result.completed = max(count - result.warning, 0)
        result.failed = max(result.matched - count, 0)
        result.failed_uids = sorted(self._failed - self._wanted.arrived)
        if self._wanted.instances is not None:
            result.failed_uids = [one.uid for one in self._wanted.missing()]
        if not result.status.is_cancel:
            none, some = Status.CANNOT_PERFORM_SUBOPERATIONS, Status.SUBOPERATIONS_FAILED
            good = Status.SUCCESS if not result.warning else some
            result.status = Status(good if not result.failed else some if count else none)
            result.comment = result.comment or before.comment if result.failed else ""
        return result

    def queries(self) -> list[Dataset]:
        """What is still to be asked for: single instances where the peer tells them, else all of it."""
        from dulcet.services.identifiers import build_identifier

        wanted = self._wanted
        if wanted.instances is None:
            return [wanted.query]
        lots: dict[tuple[str, ...], list[Known]] = {}
        for one in wanted.missing():
            lots.setdefault((one.study, one.series, one.uid if self.gave_up else ""), []).append(one)
        found = []
        for (study, series, _), lot in lots.items():
            keys: dict[str, Any] = {"StudyInstanceUID": study, "SeriesInstanceUID": series}
            if wanted.query.get("PatientID"):
                keys["PatientID"] = wanted.query.PatientID
            found.append(build_identifier({**keys, "SOPInstanceUID": [one.uid for one in lot]}, level="IMAGE"))
        return found


def _services(wanted: Retrieval, verb: Any) -> list[Proposal]:
    """The one information model that is asked for; the two that serve a level where none was named."""
    if wanted.model is not None and wanted.model[:1].isdigit():
        row = model_of(wanted.model)
        found = [wanted.model] if verb == "get" or row is None else [row.sop_class(verb)]
    else:
        names = (wanted.model,) if wanted.model is not None else retrieve_levels(wanted.level)
        found = [find_model(name).sop_class(verb) for name in names]
    return proposals(uid for uid in found if uid is not None)


# ---------------------------------------------------------------------- which classes there are


def _classes(wanted: Retrieval) -> Generator[Find, Any, list[str] | None]:
    """The SOP classes of what is wanted, as the peer tells them; None where it does not."""
    contexts = _services(wanted, "find")
    if not contexts or wanted.level not in LEVELS:
        return None
    asked: dict[str, Any] = {"StudyInstanceUID": _value(wanted, "StudyInstanceUID") or "", "SOPClassesInStudy": ""}
    if wanted.level == "PATIENT" or contexts[0].abstract_syntax == PATIENT_FIND:
        asked["PatientID"] = _value(wanted, "PatientID") or ""
    if not asked["StudyInstanceUID"] and not asked.get("PatientID"):
        return None
    studies = yield Find(contexts, "STUDY", asked)
    if not studies:
        return None
    found: dict[str, None] = {}
    silent: list[str] = []
    for study in studies:
        told = _texts(study, "SOPClassesInStudy")
        found.update(dict.fromkeys(told))
        if not told:
            silent += _texts(study, "StudyInstanceUID")
    if silent:  # it does not tell of studies, but perhaps of instances
        instances = yield from _instances(wanted)
        if instances is None or not all(one.sop_class for one in instances):
            return None
        found.update(dict.fromkeys(one.sop_class for one in instances))
    return list(found) or None


def _instances(wanted: Retrieval) -> Generator[Find, Any, list[Known] | None]:
    """The instances that are wanted, as the peer tells them; None where it does not, or in too many series."""
    if wanted.instances is not None:
        return wanted.instances
    contexts = _services(wanted, "find")
    if not contexts or wanted.level not in LEVELS:
        return None
    above = {"PatientID": _value(wanted, "PatientID")} if _value(wanted, "PatientID") else {}
    asked = {**above, "StudyInstanceUID": _value(wanted, "StudyInstanceUID") or ""}
    studies = yield Find(contexts, "STUDY", asked)
    found: dict[str, Known] = {}
    queries = 0
    for study in [uid for match in studies or () for uid in _texts(match, "StudyInstanceUID")]:
        keys = {**above, "StudyInstanceUID": study, "SeriesInstanceUID": _value(wanted, "SeriesInstanceUID") or ""}
        matches = yield Find(contexts, "SERIES", keys)
        for series in [uid for match in matches or () for uid in _texts(match, "SeriesInstanceUID")]:
            queries += 1
            if queries > QUERIES:
                return None
            image = _value(wanted, "SOPInstanceUID") or ""
            told = {"SOPInstanceUID": image, "SOPClassUID": "", "AvailableTransferSyntaxUID": ""}
            images = yield Find(contexts, "IMAGE", {**keys, "SeriesInstanceUID": series, **told})
            if images is None:
                return None
            for one in images:
                uid, sop_class = "".join(_texts(one, "SOPInstanceUID")), "".join(_texts(one, "SOPClassUID"))
                if not uid:
                    continue  # nobody can ask for it; the others are worth asking for
                found[uid] = Known(study, series, uid, sop_class, tuple(_texts(one, "AvailableTransferSyntaxUID")))
    wanted.instances = list(found.values()) or None
    return wanted.instances


def _value(wanted: Retrieval, keyword: str) -> Any:
    value = wanted.query.get(keyword)
    return list(value) if isinstance(value, list | tuple) or hasattr(value, "append") else value


def _texts(dataset: Any, keyword: str) -> list[str]:
    value = dataset.get(keyword)
    values = [value] if isinstance(value, str) else value or ()
    return [str(one) for one in values if one]


# ---------------------------------------------------------------------- what is proposed


def contexts_for(sop_class: str, syntaxes: Sequence[str] = ()) -> list[Proposal]:
    """A context for each syntax that instances of a class may lie in, so that the peer need not choose one for all;
    the uncompressed ones, which convert into each other, together.
    """
    preferred = [uid for uid in syntaxes if uid in UNCOMPRESSED_PREFERENCE]
    fallback = (*preferred, *(uid for uid in UNCOMPRESSED_PREFERENCE if uid not in preferred))
    own = [
        uid
        for uid in dict.fromkeys(syntaxes)
        if uid not in UNCOMPRESSED_PREFERENCE and (uid not in uids.ENCAPSULATED or _may_be_compressed(sop_class))
    ]
    alone = [Proposal(sop_class, (uid,), provider=True) for uid in own]
    return [*alone, Proposal(sop_class, fallback, provider=True)]


def _may_be_compressed(sop_class: str) -> bool:
    """True for what has pixel data, and for what nobody knows."""
    name = uids.SOP_CLASSES.get(sop_class)
    return name is None or any(word in name for word in PIXELS)


PIXELS: Final = ("Image", "Video", "Segmentation", "Parametric Map", "RT Dose", "Tomography", "Mask")
"""In the name of a SOP class: it has pixel data, and may be compressed."""


def _wide(wanted: Retrieval, known: Sequence[str], room: int) -> Iterable[list[Proposal]]:
    """The contexts of the associations that will probably do: of what is known, or of everything."""
    return _packed((contexts_for(uid, wanted.syntaxes) for uid in known or _everything(wanted)), room)


def _everything(wanted: Retrieval) -> list[str]:
    """Every class that is known, those of everyday work first, and what the caller names before them."""
    rest = sorted(storage_classes(), key=lambda uid: (uid in uids.RETIRED, common_first(uid)))
    return list(dict.fromkeys([*wanted.classes, *rest]))


def _narrow(wanted: Retrieval, known: Sequence[str], state: _State, room: int) -> Iterable[list[Proposal]]:
    """Contexts for what did not come so: in the syntaxes that it lies in, and one context for a class and association,
    for there are peers that look at the first one alone.
    """
    told = {one.sop_class for one in wanted.missing() if one.sop_class}
    classes = sorted(told) or known or _everything(wanted)
    if state.gave_up or not told <= state.proposed:
        yield from _packed((contexts_for(uid, wanted.syntaxes) for uid in classes), room)
    lies_in = dict.fromkeys(uid for one in wanted.missing() for uid in one.syntaxes)
    syntaxes = wanted.syntaxes or [uid for uid in lies_in if uid in COMPRESSED] or COMMON
    if wanted.syntaxes:
        yield from _packed((contexts_for(uid) for uid in classes), room)
    images = [uid for uid in classes if _may_be_compressed(uid)]
    for syntax in syntaxes:
        yield from _packed(([Proposal(uid, (syntax,), provider=True)] for uid in images), room)
    if known:  # what it told may be wrong
        others = [uid for uid in _everything(wanted) if uid not in known]
        yield from _packed((contexts_for(uid, wanted.syntaxes) for uid in others), room)


COMMON: Final = (
    uids.JPEG_LOSSLESS_SV1, uids.JPEG2000_LOSSLESS, uids.JPEG_BASELINE_8_BIT, uids.RLE_LOSSLESS, uids.JPEG2000,
    uids.JPEGLS_LOSSLESS, uids.JPEG_EXTENDED_12_BIT, uids.JPEGLS_NEAR_LOSSLESS,
)  # fmt: skip
"""The compressed syntaxes that archives hold, tried in this order where a peer does not tell its own."""
COMPRESSED: Final = tuple(
    uid
    for uid in uids.TRANSFER_SYNTAXES
    if uid not in uids.RETIRED and (uid in uids.ENCAPSULATED or uid == uids.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN)
)


def _packed(groups: Iterable[list[Proposal]], room: int) -> Iterable[list[Proposal]]:
    """The contexts of a class stay together where they fit."""
    packed: list[Proposal] = []
    for group in groups:
        for start in range(0, len(group), room):
            part = group[start : start + room]
            if len(packed) + len(part) > room:
                yield packed
                packed = []
            packed = [*packed, *part]
    if packed:
        yield packed


def progress_of(done: Retrieved | None, now: Retrieved) -> Retrieved:
    """What is shown while an association brings what those before it did not."""
    if done is None:
        return now
    matched = done.completed + done.warning + done.failed
    completed, warning = done.completed + now.completed, done.warning + now.warning
    remaining = max(matched - completed - warning, 0)  # what failed here may still come on the next association
    return replace(now, completed=completed, warning=warning, remaining=remaining, failed=0)
