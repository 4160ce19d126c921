"""Errors that a person can act on."""


class InputError(ValueError):
    """What the user gave cannot be used: a file, a setting, a catalogue.

    The message names the file, sample or setting, both values that disagree, and what to do. The
    command line prints it as one sentence and ends with exit code 2.
    """


class InfeasibleError(InputError):
    """The requested tolerances cannot be met at the requested rate.

    Attributes
    ----------
    largest_rate : float
        The largest rate eta at which all constraints can be met.
    conflicts : tuple of str
        Names of constraints that cannot hold together at the requested rate; leaving out any one
        of them makes the rest feasible.
    """

    def __init__(self, message: str, largest_rate: float, conflicts: tuple[str, ...]):
        super().__init__(message)
        self.largest_rate = largest_rate
        self.conflicts = conflicts
