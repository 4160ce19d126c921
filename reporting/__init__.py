"""The report: one HTML file that says what a run found, changed and cost."""

from importlib import import_module
from typing import Any

_HOMES = {
    "Contents": "reporting.contents",
    "read_contents": "reporting.contents",
    "ReportSettings": "reporting.page",
    "report": "reporting.page",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
