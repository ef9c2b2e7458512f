import os
import signal
import threading

import pytest

from deeplab_mnv2.training.signals import StopSignal, agree


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_noted_and_the_handlers_come_back(number):
    before = signal.getsignal(number)
    with StopSignal() as stop:
        assert stop.signal == 0
        os.kill(os.getpid(), number)
        assert stop.signal == number
    assert signal.getsignal(number) is before


def test_a_second_ctrl_c_does_what_it_always_did():
    with StopSignal():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_in_another_thread_the_handlers_stay_those_of_the_program():
    seen, before = [], [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]

    def enter():
        with StopSignal() as stop:
            seen.append([signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)])
        seen.append(stop.signal)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [before, 0]


def test_an_ignored_signal_stays_ignored():
    """A shell starts background jobs so: Ctrl-C is meant for the job in front."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with StopSignal() as stop:
            os.kill(os.getpid(), signal.SIGINT)
            assert stop.signal == 0
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_one_process_agrees_with_itself():
    assert agree(15, 1) == (15, 1)
