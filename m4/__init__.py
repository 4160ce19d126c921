"""The mathematics of multi-modal moment matching: catalogue, moments, solvers, policy, sampling."""

from importlib import import_module
from typing import Any

_HOMES = {
    "Attribute": "m4.catalogue",
    "Catalogue": "m4.catalogue",
    "load_catalogue": "m4.catalogue",
    "BiasTable": "m4.bias",
    "bias_table": "m4.bias",
    "Certificate": "m4.certificate",
    "InfeasibleError": "m4.errors",
    "InputError": "m4.errors",
    "Patterns": "m4.patterns",
    "Policy": "m4.policy",
    "Problem": "m4.problem",
    "Solution": "m4.solving",
    "effective_sample_size": "m4.diagnostics",
    "largest_rate": "m4.feasibility",
    "solve": "m4.solving",
    "solve_weights": "m4.solving",
    "draw_copies": "m4.sampling",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
