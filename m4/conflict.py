"""Which constraints forbid a rate together: minimal sets of them, by divide and conquer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from m4.programme import EXACT, Programme, RateBounds, maximise_rate

WORTHWHILE = 1_000_000  # suspects times rows up to which a conflict is made minimal: half a minute


@dataclass(frozen=True, eq=False)
class Conflict:
    """Constraints that cannot be met together at a rate.

    Attributes
    ----------
    members : (S,) bool; none where all constraints can be met
    minimal : whether without any one of its members the rest of them can be met. Not worked out
        where dozens of constraints over tens of thousands of rows are needed to prove it
    """

    members: np.ndarray
    minimal: bool


def conflict(programme: Programme, goal: float, found: RateBounds | None = None) -> Conflict:
    """Constraints that forbid a rate, where there are any.

    `found` are bounds of the programme's largest rate, where they are known.
    """
    bounds = maximise_rate(programme, goal=goal) if found is None else found
    members = np.zeros(len(programme.eps), bool)
    if bounds.reaches(goal):
        return Conflict(members, True)
    suspects = _suspects(programme, bounds.duals, goal)
    members[suspects] = True
    alone = programme.among(members)
    if len(suspects) * len(alone.share) > WORTHWHILE:
        return Conflict(members, False)
    places = np.searchsorted(np.flatnonzero(members), suspects)
    duals = bounds.duals[members]

    def forbids(some: list[int]) -> bool:
        among = np.zeros(len(places), bool)
        among[places[some]] = True
        return not maximise_rate(alone.among(among), start=duals[among], goal=goal).reaches(goal)

    members[:] = False
    members[suspects[minimal(range(len(suspects)), forbids)]] = True
    return Conflict(members, True)


def _suspects(programme: Programme, duals: np.ndarray, goal: float) -> np.ndarray:
    """Constraints whose multipliers alone prove that the rate is out of reach, weightiest first."""
    order = np.argsort(-np.abs(duals) * programme.size, kind="stable")
    order = order[duals[order] != 0]

    def prove(length: int) -> bool:
        kept = np.zeros_like(duals)
        kept[order[:length]] = duals[order[:length]]
        return programme.bound(kept) < goal * (1.0 - EXACT)

    low, high = 0, len(order)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if prove(middle) else (middle, high)
    return order[:high]


def minimal(
    candidates: Sequence[int], holds: Callable[[list[int]], bool], most: int | None = None
) -> list[int]:
    """A subset of which `holds` is true, and of no subset that lacks one of its members.

    `holds` is true of all candidates, and of every set that contains one of which it is true.
    Of several answers, one with early candidates. QuickXplain (Junker, AAAI 2004): about
    k log(n/k) tests for k of n candidates. Ends with more than `most` members, and then perhaps
    not with all, as soon as it is clear that so many are needed.
    """
    certain: list[int] = []

    def needed(known: list[int], among: list[int], untried: bool) -> list[int]:
        """What of `among` has to join the known ones; untried if those have not been tested."""
        if (most is not None and len(certain) > most) or (untried and holds(known)):
            return []
        if len(among) == 1:
            certain.extend(among)
            return among
        early, late = among[: len(among) // 2], among[len(among) // 2 :]
        of_late = needed(known + early, late, True)
        of_early = needed(known + of_late, early, bool(of_late))
        return of_early + of_late

    return needed([], list(candidates), True) if candidates else []
