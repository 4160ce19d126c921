"""Errors that a person can act on."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from m4.feasibility import Price
    from m4.relaxing import Relaxation


class InputError(ValueError):
    """What the user gave cannot be used: a file, a setting, a catalogue.

    The message names the file, sample or setting, both values that disagree, and what to do. The
    command line prints it as one sentence and ends with exit code 2.
    """


class UndefinedError(InputError):
    """What is asked for has no answer here, though other questions have: a prompt of which a
    debiasing method leaves nothing."""


class InfeasibleError(InputError):
    """The requested tolerances cannot be met at the requested rate.

    Attributes
    ----------
    largest_rate : float
        The largest rate eta at which all constraints can be met.
    conflicts : tuple of str
        Names of constraints that cannot hold together at the requested rate.
    minimal : bool
        Whether leaving out any one of `conflicts` makes the rest of them feasible. False only
        where dozens of constraints on a large table conflict.
    prices : tuple of Price
        What each constraint costs at the largest rate, the dearest first.
    relaxation : Relaxation
        The nearest settings that are feasible.
    """

    def __init__(
        self,
        message: str,
        largest_rate: float,
        conflicts: tuple[str, ...],
        minimal: bool,
        prices: "tuple[Price, ...]",
        relaxation: "Relaxation",
    ):
        super().__init__(message)
        self.largest_rate = largest_rate
        self.conflicts = conflicts
        self.minimal = minimal
        self.prices = prices
        self.relaxation = relaxation


class UnusableSample(Exception):
    """A sample that has to be set aside; the message is the reason, the same for all its kind."""
