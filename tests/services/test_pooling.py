"""Which association is used again, made, released: the decisions of a pool, without one."""

from __future__ import annotations

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dulcet.services.pooling import Chooser, Entry, covers
from dulcet.upper_layer.negotiation import PresentationContext, Proposal

A, B = "1.2.840.10008.1.1", "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
ECHO = Proposal(A, (IMPLICIT,))
STORE = Proposal(B, (EXPLICIT, IMPLICIT))


def context(
    sop_class: str = A, syntax: str = IMPLICIT, user: bool = True, provider: bool = False
) -> PresentationContext:
    return PresentationContext(1, sop_class, syntax, user, provider)


def entry(number: int, idle_since: float | None = 0.0, peer: str = "P", **facts: object) -> Entry[int]:
    facts.setdefault("contexts", (context(),))
    return Entry(peer, number, idle_since=idle_since, **facts)  # type: ignore[arg-type]


# --- what an association covers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("contexts", "wanted", "covered"),
    [
        ([context()], [ECHO], True),
        ([], [], True),
        ([], [ECHO], False),
        ([context()], [ECHO, STORE], False),
        ([context(), context(B, EXPLICIT)], [ECHO, STORE], True),
        ([context(B, IMPLICIT)], [STORE], True),
        ([context(B, "1.2.840.10008.1.2.4.50")], [STORE], False),
        ([context(B, IMPLICIT), context(B, EXPLICIT)], [Proposal(B, (EXPLICIT,))], True),
        ([context()], [Proposal(A, (IMPLICIT,), provider=True)], False),
        ([context(provider=True)], [Proposal(A, (IMPLICIT,), provider=True)], True),
        ([context(provider=True)], [ECHO], True),
        ([context(user=False, provider=True)], [ECHO], False),
        ([context(user=False, provider=True)], [Proposal(A, (IMPLICIT,), user=False, provider=True)], True),
    ],
)
def test_an_association_covers_classes_in_a_syntax_and_role_that_are_wanted(
    contexts: list[PresentationContext], wanted: list[Proposal], covered: bool
) -> None:
    assert covers(contexts, wanted) is covered


# --- the chooser -----------------------------------------------------------------------------------------------------


def test_the_most_recently_used_one_is_used_again() -> None:
    chooser = Chooser(entries=[entry(1, 5.0), entry(2, 7.0), entry(3, 6.0)])
    decision = chooser.choose("P", [ECHO])
    assert decision.entry is not None
    assert (decision.entry.association, decision.entry.idle_since, decision.open) == (2, None, False)


def test_what_is_in_use_or_of_another_peer_is_not_given() -> None:
    chooser = Chooser(entries=[entry(1, None), entry(2, 1.0, peer="Q")])
    assert chooser.choose("P", [ECHO]).open


def test_one_that_lacks_a_context_is_left_alone_while_there_is_room() -> None:
    chooser = Chooser(per_peer=2, entries=[entry(1)])
    decision = chooser.choose("P", [STORE])
    assert (decision.entry, decision.open, decision.evict) == (None, True, None)
    assert chooser.opening == {"P": 1}


def test_at_the_limit_the_longest_idle_one_makes_room() -> None:
    chooser = Chooser(per_peer=2, entries=[entry(1, 5.0), entry(2, 3.0)])
    decision = chooser.choose("P", [STORE])
    assert decision.open
    assert decision.evict is not None
    assert decision.evict.association == 2
    assert [found.association for found in chooser.entries] == [1]


def test_at_the_limit_with_all_in_use_one_waits() -> None:
    chooser = Chooser(per_peer=2, entries=[entry(1, None)])
    assert chooser.choose("P", [ECHO]).open
    decision = chooser.choose("P", [ECHO])
    assert (decision.entry, decision.open, decision.evict) == (None, False, None)


def test_one_that_could_not_be_made_leaves_its_place() -> None:
    chooser: Chooser[int] = Chooser(per_peer=1)
    assert chooser.choose("P", [ECHO]).open
    assert not chooser.choose("P", [ECHO]).open
    chooser.opened(None, "P")
    assert chooser.choose("P", [ECHO]).open


def test_one_of_several_that_are_being_made_counts_down() -> None:
    chooser: Chooser[int] = Chooser(per_peer=3, opening={"P": 2})
    chooser.opened(entry(1, None), "P")
    assert chooser.opening == {"P": 1}
    assert len(chooser.entries) == 1


def test_a_context_that_was_refused_once_is_not_asked_for_again() -> None:
    chooser = Chooser(entries=[entry(1, proposed=(ECHO, STORE))])
    assert chooser.choose("P", [ECHO, STORE]).entry is not None
    chooser = Chooser(entries=[entry(1, proposed=(ECHO,))])
    assert chooser.choose("P", [ECHO, STORE]).open


def test_what_is_given_back_is_idle_from_then_and_what_is_spoilt_is_gone() -> None:
    one, two = entry(1, None), entry(2, None)
    chooser = Chooser(entries=[one, two])
    chooser.give_back(one, 42.0, usable=True)
    chooser.give_back(two, 42.0, usable=False)
    chooser.give_back(two, 42.0, usable=False)
    assert chooser.entries == [one]
    assert one.idle_since == 42.0


def test_idle_ones_are_overdue_after_their_time() -> None:
    chooser = Chooser(idle=30.0, entries=[entry(1, 10.0), entry(2, 20.0), entry(3, None)])
    assert chooser.next_deadline() == 40.0
    assert chooser.overdue(39.9) == []
    assert [found.association for found in chooser.overdue(40.0)] == [1]
    assert chooser.next_deadline() == 50.0
    assert [found.association for found in chooser.overdue(1000.0)] == [2]
    assert chooser.next_deadline() is None
    assert [found.association for found in chooser.entries] == [3]


@given(st.data())
def test_whatever_is_asked_for_and_given_back_the_limit_holds_and_nobody_shares(data: st.DataObject) -> None:
    """Wishes, results, returns and time in any order, against a model that counts."""
    limit = data.draw(st.integers(1, 3))
    chooser: Chooser[int] = Chooser(per_peer=limit, idle=5.0)
    numbers, now = count(), 0.0
    used: list[Entry[int]] = []
    opening: list[tuple[str, Proposal]] = []
    for _ in range(data.draw(st.integers(1, 40))):
        now += data.draw(st.floats(0, 3))
        step = data.draw(st.sampled_from(["choose", "opened", "failed", "back", "spoilt", "overdue"]))
        if step == "choose":
            peer, wanted = data.draw(st.sampled_from("PQ")), data.draw(st.sampled_from([ECHO, STORE]))
            decision = chooser.choose(peer, [wanted])
            assert not (decision.entry and decision.open)
            if decision.entry is not None:
                assert decision.entry not in used, "given to two at once"
                assert decision.entry.peer == peer
                assert covers(decision.entry.contexts, [wanted])
                used.append(decision.entry)
            elif decision.open:
                opening.append((peer, wanted))
            else:
                busy = [found for found in used if found.peer == peer]
                assert len(busy) + sum(one == peer for one, _ in opening) == limit
            if decision.evict is not None:
                assert decision.evict not in used
        elif step in ("opened", "failed") and opening:
            peer, wanted = opening.pop()
            made = None
            if step == "opened":
                made = Entry(peer, next(numbers), (context(wanted.abstract_syntax, wanted.transfer_syntaxes[0]),))
                used.append(made)
            chooser.opened(made, peer)
        elif step in ("back", "spoilt") and used:
            chooser.give_back(used.pop(data.draw(st.integers(0, len(used) - 1))), now, usable=step == "back")
        elif step == "overdue":
            assert all(found not in used for found in chooser.overdue(now))
        for peer in "PQ":
            standing = sum(found.peer == peer for found in chooser.entries)
            assert standing + chooser.opening.get(peer, 0) <= limit
        assert all(found in chooser.entries for found in used)


# --- pauses ----------------------------------------------------------------------------------------------------------
