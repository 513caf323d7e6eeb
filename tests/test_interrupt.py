"""Ctrl-C is a request first, and an exception only when it is repeated."""

import signal
import threading

import pytest

from ocp.interrupt import interruptible


def press():
    signal.raise_signal(signal.SIGINT)


def test_the_first_interrupt_is_a_request_and_the_second_an_exception():
    with interruptible() as request:
        assert not request.is_pending
        press()
        assert request.is_pending
        with pytest.raises(KeyboardInterrupt):
            press()


def test_an_inner_block_shares_the_request_of_the_outer_one():
    with interruptible() as outer:
        with interruptible() as inner:
            press()
            assert inner is outer
        assert outer.is_pending
    with interruptible() as later:
        assert not later.is_pending


def test_the_previous_handler_is_back_after_the_block_however_it_ends():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(RuntimeError, match="inside"), interruptible():
        raise RuntimeError("inside")
    assert signal.getsignal(signal.SIGINT) is before


def test_another_thread_does_not_listen():
    seen = []

    def work():
        with interruptible() as request:
            seen.append((request.is_pending, signal.getsignal(signal.SIGINT)))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, before)]
