"""The mathematics of multi-modal moment matching: catalogue, moments, solvers, policy, sampling."""

from importlib import import_module
from typing import Any

_HOMES = {
    "bias_table": "m4.bias",
    "BiasTable": "m4.bias",
    "CellCalibration": "m4.calibration",
    "Attribute": "m4.catalogue",
    "Catalogue": "m4.catalogue",
    "load_catalogue": "m4.catalogue",
    "Certificate": "m4.certificate",
    "certify": "m4.certificate",
    "cells_to_check": "m4.check_plan",
    "CheckedSample": "m4.checked",
    "estimate_true_bias": "m4.checked",
    "PatternCounter": "m4.counting",
    "cost_curve": "m4.curve",
    "design_effect": "m4.diagnostics",
    "diagnose": "m4.diagnostics",
    "effective_sample_size": "m4.diagnostics",
    "love_table": "m4.diagnostics",
    "price_table": "m4.diagnostics",
    "top_share": "m4.diagnostics",
    "InfeasibleError": "m4.errors",
    "InputError": "m4.errors",
    "largest_rate": "m4.feasibility",
    "Levels": "m4.levels",
    "make_levels": "m4.levels",
    "calibrate_cells": "m4.noise",
    "calibrate_from_rates": "m4.noise",
    "bound_true_bias": "m4.noise_bounds",
    "ErrorRates": "m4.noise_bounds",
    "Patterns": "m4.patterns",
    "choose": "m4.points",
    "Curve": "m4.points",
    "Requirements": "m4.points",
    "Policy": "m4.policy",
    "Intersection": "m4.problem",
    "Problem": "m4.problem",
    "draw_copies": "m4.sampling",
    "Solution": "m4.solving",
    "solve": "m4.solving",
    "solve_weights": "m4.solving",
    "pattern_order": "m4.systematic",
    "systematic_copies": "m4.systematic",
    "calibrated_copies": "m4.thresholds",
    "measure": "m4.totals",
    "Totals": "m4.totals",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
