"""No signal is lost, whenever it comes."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from dulcet.io.signals import Signals

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


def test_a_signal_counts_from_the_beginning_and_is_given_back() -> None:
    before = signal.getsignal(signal.SIGUSR1)
    with Signals(signal.SIGUSR1, signal.SIGUSR2) as signals:
        os.kill(os.getpid(), signal.SIGUSR1)  # nobody waits yet
        os.kill(os.getpid(), signal.SIGUSR2)
        assert {signals.wait(), signals.wait()} == {signal.SIGUSR1, signal.SIGUSR2}
    assert signal.getsignal(signal.SIGUSR1) == before


def test_whoever_waits_can_be_woken_from_another_thread() -> None:
    with Signals(signal.SIGUSR1) as signals:
        threading.Timer(0.01, signals.wake).start()
        assert signals.wait() == 0
        signals.wake(7)
        assert signals.wait() == 7


def test_signals_of_others_are_passed_over() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGUSR2, lambda number, _: heard.append(number))
    try:
        with Signals(signal.SIGUSR1) as signals:
            os.kill(os.getpid(), signal.SIGUSR2)
            os.kill(os.getpid(), signal.SIGUSR1)
            assert signals.wait() == signal.SIGUSR1
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert heard == [signal.SIGUSR2]


def test_another_thread_than_the_main_one_hears_what_wakes_it() -> None:
    woken: list[int] = []

    def work() -> None:
        with Signals(signal.SIGUSR1) as signals:
            box.append(signals)
            begun.set()
            woken.append(signals.wait())

    begun = threading.Event()
    box: list[Signals] = []
    thread = threading.Thread(target=work)
    thread.start()
    assert begun.wait(10)
    box[0].wake(3)
    thread.join(10)
    assert woken == [3]
