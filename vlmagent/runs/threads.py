"""How threads of a process wait for each other: set before torch is loaded, or in the environment of a new process.

Spinning they take the cores that a second run or an evaluation needs: two runs on the same cores would each slow down
several times. Sleeping at once they are woken for every small product, and two threads are hardly faster than one.
Between the two: they spin for some microseconds, long enough for the gaps within a pass.
"""

from __future__ import annotations

WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "4000"}
"""Defaults of OpenMP and of GNU's implementation of it; whoever sets them himself is obeyed."""
