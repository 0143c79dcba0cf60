"""What a machine does to a process: rights it lacks, a clock that jumps, other programs found."""

from __future__ import annotations

import ctypes
import dataclasses
import datetime
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import auto_selfcal
from tests.quiet_run import NoDrawer

__all__ = ["suffer"]

# CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER: what lets root into the files of others
_RIGHTS = (1, 2, 3)
_PR_CAPBSET_DROP = 24
_CAPABILITY_VERSION_3 = 0x20080522


def suffer(harm: Mapping[str, Any]) -> None:
    """Do to this process what was ordered.

    Parameters
    ----------
    harm : mapping
        ``env``: variables of the environment. ``clock``: instants (s from now) and jumps (s) of
        the calendar's clock. ``plain_user``: true where permissions hold for root as well.
        ``no_report``: true where the report is left out, which takes as long as a small run.
    """
    os.environ.update(harm.get("env", {}))
    if harm.get("no_report"):
        auto_selfcal.REPORTS = dataclasses.replace(auto_selfcal.REPORTS, drawer=NoDrawer)
    if harm.get("clock"):
        _set_clock(harm["clock"])
    if harm.get("plain_user") and os.geteuid() == 0:
        _drop_rights()


def _drop_rights() -> None:
    """Give up root's right to write what its owner may not, also for programs started later."""
    libc = ctypes.CDLL(None, use_errno=True)
    for right in _RIGHTS:
        if libc.prctl(_PR_CAPBSET_DROP, right, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "a capability cannot be given up")
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; twice 32 of each
    if libc.capget(header, sets):
        raise OSError(ctypes.get_errno(), "capabilities cannot be read")
    for place in range(3):
        sets[place] &= ~sum(1 << right for right in _RIGHTS)
    if libc.capset(header, sets):
        raise OSError(ctypes.get_errno(), "capabilities cannot be set")


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
