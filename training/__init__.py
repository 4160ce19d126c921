"""Training: the loader that applies a manifest to untouched shards, and CLIP and SigLIP on it."""

# `train` itself is imported from training.trainer: a function here would be hidden by the module.
from importlib import import_module
from typing import Any

_HOMES = {
    "Batch": "training.loader",
    "EncodedImages": "training.encode",
    "Loader": "training.loader",
    "LoaderSettings": "training.loader",
    "Position": "training.loader",
    "TrainResult": "training.trainer",
    "TrainSettings": "training.trainer",
    "encode_images": "training.encode",
    "load_checkpoint": "training.encode",
    "train": "training.trainer",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
