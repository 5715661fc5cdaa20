"""The claim of a build on a data set in object storage, as everybody sees it who writes under it, on whatever host.

The build renews its claim (`pipeline.dataset.lock`); a claim that was not renewed for ``lost_s`` by the server's clock
may be taken away by another build. Who is cut off must stop before that, without being told: hence nothing is written
unless the claim was renewed within the first half of that time. The second half is for requests that were under way.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from schemas.errors import UserError

PATIENCE_S = 120.0  # of a build with a storage that does not answer: longer than Ray takes to give up a lost node
PAUSE_S = 1.0  # between two attempts
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # goes on while a virtual machine is halted


def now_s() -> float:
    """Seconds by a clock of this host that nobody sets."""
    return time.clock_gettime(_CLOCK)


@dataclass(frozen=True)
class Claim:
    """The key of a claim's object, and after what time without renewal it is lost."""

    key: str
    lost_s: float


class Superseded(Exception):
    """Another worker was given the part of this one, which was taken for dead; it has no more to do with it."""


class Watch:
    """What one process knows of a claim.

    ``renewed_s`` asks when the claim was renewed (0: it is gone), ``server_s`` what time it is, both by the server's
    clock: those of the hosts may differ. `lost` is set by the build itself where it cannot renew. `require_part` is
    called before a write is tried again, which may be minutes later: it raises `Superseded` where another has the part.
    """

    def __init__(self, claim: Claim, renewed_s: Callable[[], float], server_s: Callable[[], float]) -> None:
        self.claim = claim
        self.lost = False
        self.require_part: Callable[[], None] | None = None
        self._renewed_s, self._server_s = renewed_s, server_s
        self._ahead_s = math.nan  # what the server's clock shows beyond ours
        self._sure_until = -math.inf

    def is_fresh(self) -> bool:
        """Whether one may write now; False where the claim has grown old, which may pass.

        `UserError` when it is lost; `OSError` when the storage does not answer.
        """
        asked = now_s()
        if asked < self._sure_until and not self.lost:
            return True
        if not self.lost:
            renewed = self._renewed_s()
            self.lost = not renewed
        if self.lost:
            raise UserError(
                f"{self.claim.key}: this build lost its lock: its claim could not be renewed in time, or was taken "
                "away; it writes nothing more. What is finished is kept: run the same command again"
            )
        if math.isnan(self._ahead_s):
            self._ahead_s = self._server_s() - now_s()
        fresh = asked + self._ahead_s - renewed < self.claim.lost_s / 2
        if fresh:
            self._sure_until = asked + self.claim.lost_s / 12
        return fresh
