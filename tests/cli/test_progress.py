"""The last line of a terminal: how far it is, not more often than anybody can see, and below all that is said."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest

from dulcet.cli import output, progress
from dulcet.cli.output import complain, say, show_below
from dulcet.cli.progress import INTERVAL, Bar, can_show


class Terminal(io.StringIO):
    """Standard error and standard output on one screen."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True

    def lines(self) -> list[str]:
        """What is seen in the end."""
        screen = [""]
        for piece in self.getvalue().split("\n"):
            screen[-1] = piece.rpartition(output.OVER)[2] if output.OVER in piece else screen[-1] + piece
            screen.append("")
        return screen[:-1]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    made = Terminal()
    for module in (output, progress):
        monkeypatch.setattr(module, "sys", SimpleNamespace(stderr=made, stdout=made))
    monkeypatch.setattr(output, "_below", "")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    return made


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Its one number is the time."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress.time, "time", lambda: now[0])  # click's
    return now


def test_a_bar_says_how_far_and_how_long(terminal: Terminal, clock: list[float]) -> None:
    bar = Bar(4)
    clock[0] += 3600
    bar.advance()
    assert terminal.lines() == [f"{'━' * 10}{'─' * 30} 1/4   25%  03:00:00"]
    clock[0] += 1
    bar.at(4, 4)
    assert terminal.lines() == [f"{'━' * 40} 4/4  100%"]


def test_a_terminal_without_unicode_gets_other_signs(terminal: Terminal, clock: list[float]) -> None:
    terminal.encoding = "ascii"
    Bar().at(1, 2)
    assert terminal.lines() == [f"{'#' * 20}{'-' * 20} 1/2   50%"]


def test_colour_is_there_unless_it_is_refused(
    terminal: Terminal, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    Bar().at(1, 2)
    assert "\x1b[32m" not in terminal.getvalue()
    monkeypatch.delenv("NO_COLOR")
    Bar().at(1, 2)
    assert "\x1b[32m" in terminal.getvalue()


def test_it_is_drawn_no_more_often_than_it_can_be_seen(terminal: Terminal, clock: list[float]) -> None:
    bar = Bar(1000)
    for _ in range(999):
        clock[0] += INTERVAL / 100
        bar.advance()
    assert terminal.getvalue().count(output.OVER) in (10, 11)
    bar.advance()  # the end is always shown
    assert "1000/1000  100%" in terminal.lines()[-1]


def test_what_is_said_stands_above_and_the_end_stays(terminal: Terminal, clock: list[float]) -> None:
    with Bar(2).drawn() as bar:
        bar.advance()
        complain("one failed")
        say("that was it")
        clock[0] += 1
        bar.advance()
    say("2 sent")
    assert terminal.lines() == ["dulcet: one failed", "that was it", f"{'━' * 40} 2/2  100%", "2 sent", ""]


def test_an_error_leaves_the_bar_where_it_was(terminal: Terminal, clock: list[float]) -> None:
    def interrupted() -> None:
        with Bar(2).drawn() as bar:
            bar.advance()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    complain("interrupted")
    assert terminal.lines()[1:] == ["dulcet: interrupted", ""]


def test_what_is_not_shown_writes_nothing(terminal: Terminal) -> None:
    with Bar(2, shown=False).drawn() as bar:
        bar.advance()
        bar.advance()
    with Bar(2).drawn():
        pass
    assert terminal.getvalue() == ""


def test_it_can_be_taken_away(terminal: Terminal) -> None:
    show_below("working")
    show_below("")
    say("done")
    assert terminal.lines() == ["done", ""]


def test_there_is_none_in_a_pipe_nor_on_a_dumb_terminal(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    assert can_show()
    monkeypatch.setenv("TERM", "dumb")
    assert not can_show()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=io.StringIO()))
    assert not can_show()
