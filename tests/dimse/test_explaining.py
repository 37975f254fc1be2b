"""What cannot be done is said with who, what, and what to change."""

from __future__ import annotations

import pytest
from tests.pairs import CT, Pair

from dulcet.config import AssociationConfig
from dulcet.dimse.association import DimseAssociation
from dulcet.errors import NoPresentationContext

PRIVATE = "1.2.3"


def test_the_one_who_did_not_accept_is_named_on_either_side():
    pair = Pair().establish()
    request = pair.requestor.core.request
    assert request is not None
    for core, title in ((pair.requestor.core, request.called), (pair.acceptor.core, request.calling)):
        with pytest.raises(NoPresentationContext, match=f"^{title} did not accept {PRIVATE}; it accepted no context"):
            core.need_context(PRIVATE)


def test_before_there_is_a_request_it_is_the_peer():
    core = DimseAssociation(requestor=False, config=AssociationConfig())
    with pytest.raises(NoPresentationContext, match=r"^the peer did not accept \S+ \(CT Image Storage\) in 1.2; it"):
        core.need_context(CT, "1.2")
