"""Handing a manifest on: to DataComp's tools, open_clip, webdataset, datasets and MosaicML."""

from importlib import import_module
from typing import Any

_HOMES = {
    "Exported": "pipelines.exports.drawn",
    "ExportSettings": "pipelines.exports.exporting",
    "export": "pipelines.exports.exporting",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
