"""A C-FIND and answers that nobody would send who means well, on each face."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from tests.faces import Faces, on_each_face
from tests.test_faces import ANYTHING, matches

import dulcet
from dulcet.dimse.status import Status
from dulcet.services import invocations
from dulcet.services.identifiers import encode_dataset
from dulcet.services.models import find_model
from dulcet.uids import IMPLICIT_VR_LITTLE_ENDIAN

FIND = str(find_model("study").find)
NESTED = (struct.pack("<HHI", 0x0040, 0x0100, 0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)) * 20_000
NOISE = b"\xff" * 500
CUT = struct.pack("<HHI", 0x0010, 0x0010, 400) + b"DOE"


def data_set(index: int) -> bytes:
    return encode_dataset(matches(index + 1)[index], IMPLICIT_VR_LITTLE_ENDIAN)[0]


@pytest.mark.parametrize("bad", [NESTED, NOISE, CUT, None], ids=["nested", "noise", "cut", "no data set"])
@on_each_face
async def test_a_match_that_does_not_decode_costs_nobody_the_others(faces: Faces, bad: bytes | None) -> None:
    async def handler(request: Any) -> None:
        await request.read()
        for data in (data_set(0), bad, data_set(2)):
            await request.respond(Status.PENDING, data)
        await request.respond(Status.SUCCESS)

    with faces.handling(handler, policy=ANYTHING) as provider:
        contexts = [dulcet.Proposal(FIND, (IMPLICIT_VR_LITTLE_ENDIAN,))]
        async with faces.associate(provider.address, contexts=contexts) as association:
            found = []
            with pytest.raises(dulcet.ReceiveError) as raised:  # noqa: PT012
                async for match in association.find(level="STUDY", PatientName=""):
                    found.append(str(match.StudyInstanceUID))
            assert found == ["1.2.3.0", "1.2.3.2"]
            assert f"{provider.address}: 1 of 3 answers do not decode" in str(raised.value)
            assert association.ending is None
    assert provider.errors == []


@pytest.mark.parametrize("there", [2, 3, 1000])
@on_each_face
async def test_find_takes_as_many_as_its_limit_and_cancels_the_rest(faces: Faces, there: int) -> None:
    async def script(association: Any) -> None:
        async for request in association.requests():
            await request.read()
            for index in range(there):
                if request.cancelled:
                    await request.respond(Status.CANCEL)
                    break
                await request.respond(Status.PENDING, data_set(index % 3))
                if hasattr(association, "inner"):
                    association.inner._look()
            else:
                await request.respond(Status.SUCCESS)

    with faces.accepting(script, policy=ANYTHING) as provider:
        contexts = [dulcet.Proposal(FIND, (IMPLICIT_VR_LITTLE_ENDIAN,))]
        async with faces.associate(provider.address, contexts=contexts) as association:
            found = [match async for match in association.find(level="STUDY", PatientName="", limit=3)]
            assert len(found) == min(there, 3)
            again = [match async for match in association.find(level="STUDY", PatientName="", limit=1)]
            assert len(again) == 1
            with pytest.raises(ValueError, match="limit 0: how many matches are wanted, 1 or more; None for all"):
                [match async for match in association.find(level="STUDY", PatientName="", limit=0)]
        assert association.ending == "released"
    assert provider.errors == []


def test_answers_that_nobody_takes_do_not_pile_up_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocking face keeps what comes before the response it waits for; not all of it (see test_user.py for aio)."""
    import threading

    import dulcet.blocking.association as face

    monkeypatch.setattr(face, "KEPT_BYTES", 200_000)
    window = dulcet.AssociationConfig(window_invoked=0, window_performed=0)
    with dulcet.listen("PROVIDER@127.0.0.1:0", policy=ANYTHING, config=window) as listener:

        def provide() -> None:
            association = next(iter(listener))
            request = next(association.requests())
            with pytest.raises(dulcet.AssociationError):  # noqa: PT012
                while True:  # the echo is never answered
                    request.respond(Status.PENDING, data_set(0))

        providing = threading.Thread(target=provide, daemon=True)
        providing.start()
        association = dulcet.associate(str(listener.address), config=window)
        finding = association.find(level="STUDY", PatientName="")
        next(finding)
        with pytest.raises(dulcet.DimseTimeout, match="nobody takes"):
            association.echo()
        providing.join(20)
        assert not providing.is_alive()
    assert invocations.KEPT_BYTES > 200_000
