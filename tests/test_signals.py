import os
import signal

import pytest

from deeplab_mnv2.training.signals import Interrupt, agree


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_noted_and_the_handlers_come_back(number):
    before = signal.getsignal(number)
    with Interrupt() as interrupt:
        assert interrupt.signal == 0
        os.kill(os.getpid(), number)
        assert interrupt.signal == number
    assert signal.getsignal(number) is before


def test_a_second_ctrl_c_does_what_it_always_did():
    with Interrupt():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_one_process_agrees_with_itself():
    assert agree(15, 1) == (15, 1)
