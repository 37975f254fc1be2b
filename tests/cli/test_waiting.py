"""How long a command waits, and that it names its own option when that was not long enough."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.blocking.scripted import Wire, peer
from tests.cli.running import dulcet
from tests.corpus import CT_IMAGE, make_instance

from dulcet.cli.waiting import in_our_words, timers


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["echo"], "raise --timeout if the peer needs longer"),
        (["find"], "raise --timeout if the peer needs longer"),
        (["get", "-k", "StudyInstanceUID=1.2.3", "--out", "{folder}/got"], "raise --timeout if the peer needs longer"),
        (["store", "{folder}/one.dcm", "--report", "{folder}/report"], "raise --timeout if the peer needs longer"),
    ],
)
def test_a_time_out_names_the_option_that_helps(tmp_path: Path, arguments: list[str], words: str) -> None:
    make_instance(tmp_path / "one.dcm", 100, 1, CT_IMAGE)

    def silent(wire: Wire) -> None:
        wire.accept()
        wire.serve(lambda message: None)

    verb, *rest = (argument.format(folder=tmp_path) for argument in arguments)
    with peer(silent) as made:
        done = dulcet(verb, made.address, *rest, "--timeout", "0.5")
    assert done.code in (1, 3)
    assert words in done.errors
    assert "Timers" not in done.errors + done.output
    if "--report" in arguments:
        assert words in (tmp_path / "report").read_text()


def test_what_has_no_option_is_no_advice() -> None:
    assert in_our_words("X: no response in time; raise Timers.elsewhere if it is slow") == "X: no response in time"
    assert timers(5.0, "response").response == 5.0
    assert in_our_words("x: no response; raise Timers.response if so; y") == "x: no response; raise --timeout if so; y"
    assert in_our_words("a plain sentence") == "a plain sentence"
