"""What a machine does to a process: another user, a clock that jumps, other programs found."""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

__all__ = ["suffer"]


def suffer(harm: Mapping[str, Any]) -> None:
    """Do to this process what was ordered.

    Parameters
    ----------
    harm : mapping
        ``env``: variables of the environment. ``uid``: number of the user it goes on as.
        ``clock``: instants (s from now) and jumps (s) of the calendar's clock.
    """
    os.environ.update(harm.get("env", {}))
    if harm.get("clock"):
        _set_clock(harm["clock"])
    if "uid" in harm:
        os.setgroups([])
        os.setgid(harm["uid"])
        os.setuid(harm["uid"])


def _set_clock(jumps: Sequence[Sequence[float]]) -> None:
    """Replace the calendar's clock by one that jumps; the monotonic clock goes on as it does."""
    begin, true_time, true_ns = time.monotonic(), time.time, time.time_ns

    def off() -> float:
        passed = time.monotonic() - begin
        return float(sum(jump for instant, jump in jumps if passed >= instant))

    class Jumping(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Jumping:
            return cls.fromtimestamp(time.time(), tz)

        @classmethod
        def utcnow(cls) -> Jumping:
            return cls.now(datetime.UTC).replace(tzinfo=None)

    later: Callable[[], float] = lambda: true_time() + off()  # noqa: E731
    time.time = later
    time.time_ns = lambda: true_ns() + int(1e9 * off())
    datetime.datetime = Jumping  # type: ignore[misc]
