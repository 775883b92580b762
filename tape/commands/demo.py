"""`tape demo`."""

from __future__ import annotations


def demo() -> None:
    """What Tape does, on the data that come with it: two backtests, a breaker that trips, and where to look.

    It writes its logs under runs/, starts the Postgres that comes with Tape, and takes some seconds.
    """
    from tape.demo import demo as run_demo
    from tape.progress import Interrupt, progress
    from tape.show_demo import show_demo

    interrupt = Interrupt()
    with interrupt.listening(), progress() as report:
        made = run_demo(report, interrupt)
    show_demo(made)
