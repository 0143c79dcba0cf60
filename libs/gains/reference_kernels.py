"""The reference antenna of solutions in order of time: compiled."""

import numpy as np
from numba import njit

__all__ = ["reference_kernel"]


@njit(cache=True)
def _connects(flag, since, last, t, f, ant, alive, link):
    """Whether an antenna is solved in all hands that any antenna has in this interval.

    ``link`` 2: and in each of them in the last interval referenced, where it was alive there;
    1: and at any time before; 0: without regard to what was before.
    """
    for k in range(alive.size):
        if not alive[k]:
            continue
        if flag[t, f, ant, k]:
            return False
        if link == 2 and last >= 0 and since[ant, k] != last and since[:, k].max() == last:
            return False
        if link == 1 and since[ant, k] < 0:
            return False
    return True


@njit(cache=True)
def _unit(value):
    size = abs(value)
    return value / size if size > 0.0 else 1.0 + 0.0j


@njit(cache=True)
def _choose_reference(flag, since, last, t, f, order, alive):
    """The first antenna of ``order`` that continues the phases of this interval best, -1: none."""
    for link in (2, 1, 0):
        for choice in range(order.size):
            if _connects(flag, since, last, t, f, order[choice], alive, link):
                return order[choice]
    return -1


@njit(cache=True)
def reference_kernel(gain, flag, kept, order, used):
    """Turn phases so that the reference antenna's are zero, or continuous when it is handed over.

    Only the intervals of ``kept`` (ntime, nfreq) count. ``order`` are antennas in order of
    preference, with a free place at index 1 for the one used last, which holds from one
    frequency to the next as in gaincal. A hand that no antenna has in an interval has no say
    there. Where no antenna was solved in the last interval too, one that was at any time before
    links the two; where there is none, as between two subarrays, a new reference starts. An
    interval in which no antenna has all hands is flagged. ``used`` (ntime, nfreq) receives the
    choice.
    """
    ntime, nfreq, nant, npol = gain.shape
    alive = np.zeros(npol, np.bool_)
    for f in range(nfreq):
        last = -1
        since = np.full((nant, npol), -1, np.int64)  # last interval in which each was solved
        for t in range(ntime):
            used[t, f] = -1
            if not kept[t, f]:
                continue
            for k in range(npol):
                alive[k] = not flag[t, f, :, k].all()
            ref = _choose_reference(flag, since, last, t, f, order, alive) if alive.any() else -1
            used[t, f] = ref
            if ref < 0:
                for p in range(nant):
                    for k in range(npol):
                        flag[t, f, p, k] = True
                continue
            order[1] = ref
            for k in range(npol):
                turn = _unit(gain[t, f, ref, k])
                if since[ref, k] >= 0:
                    turn = turn * _unit(gain[since[ref, k], f, ref, k]).conjugate()
                for p in range(nant):
                    gain[t, f, p, k] = gain[t, f, p, k] * turn.conjugate()
                    if not flag[t, f, p, k]:
                        since[p, k] = t
            last = t
