"""A signal ends a run where nothing is lost: at once in work that may be given up, else between."""

import os
import signal
import time

import pytest

from zerocoder_jax.training.phases import StopRequested, StopSignal, stop_on_signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_work_that_may_be_given_up_is_left_at_once(number: int) -> None:
    # nohup and a shell's background start processes with a signal ignored.
    before = signal.signal(number, signal.SIG_DFL)
    try:
        left_at_once(number)
    finally:
        signal.signal(number, before)


def left_at_once(number: int) -> None:
    with stop_on_signals() as stop:
        began = time.monotonic()
        with pytest.raises(StopRequested), stop.interruptible():
            os.kill(os.getpid(), number)
            time.sleep(60)
        assert time.monotonic() - began < 30
        interruption = stop.interruption(7)
    assert interruption.exit_code == 128 + number
    assert signal.Signals(number).name in str(interruption) and "7 steps" in str(interruption)


def test_other_work_is_finished_first(monkeypatch: pytest.MonkeyPatch) -> None:
    with stop_on_signals() as stop:
        stop.check()
        os.kill(os.getpid(), signal.SIGTERM)
        finished = sum(range(1000))
        assert finished == 499500 and stop.number == signal.SIGTERM
        with pytest.raises(StopRequested):
            stop.check()
        # Nor is anything long begun any more.
        with pytest.raises(StopRequested), stop.interruptible():
            pytest.fail("begun")


def test_whoever_presses_ctrl_c_twice_does_not_wait() -> None:
    with stop_on_signals():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_signal_that_was_ignored_stays_so_and_handlers_come_back() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signals() as stop, stop.interruptible():
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.number == 0
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_of_several_hosts_none_leaves_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jax.process_count", lambda: 2)
    stop = StopSignal()
    with stop.interruptible():
        stop.arrived(signal.SIGTERM, None)
    assert stop.number == signal.SIGTERM
