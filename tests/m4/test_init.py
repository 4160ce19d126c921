"""The public face: every name is there, and importing it stays cheap."""

import subprocess
import sys

import pytest

import m4

HEAVY = ("torch", "apache_beam", "cvxpy", "numba")


def modules_after(code: str) -> set[str]:
    """Which of the heavy modules a fresh interpreter has loaded after some code."""
    shown = f"{code}\nimport sys\nprint([name for name in {HEAVY!r} if name in sys.modules])"
    ended = subprocess.run(
        [sys.executable, "-c", shown], capture_output=True, text=True, check=True, timeout=120
    )
    return {name for name in HEAVY if repr(name) in ended.stdout}


def test_importing_loads_nothing_heavy() -> None:
    assert modules_after("import m4") == set()


def test_applying_a_policy_loads_nothing_heavy() -> None:
    """A loader's worker reads a policy, weighs its examples and draws copies."""
    assert (
        modules_after("from m4 import Patterns, Policy, Problem, bias_table, draw_copies") == set()
    )


def test_solving_loads_only_what_it_uses() -> None:
    code = "import m4; m4.solve_weights([1, 0, 1, 0], [1, 0, 0, 1], eta=0.5)"
    assert modules_after("from m4 import solve, solve_weights, largest_rate") == {"numba"}
    assert modules_after(code) == {"numba"}


@pytest.mark.parametrize("name", m4.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(m4, name).__name__ == name


def test_other_names_are_not() -> None:
    with pytest.raises(AttributeError, match="'balance'"):
        m4.balance  # noqa: B018
