"""What models see: image decoding, open_clip models, and heads that turn embeddings into marks."""

from importlib import import_module
from typing import Any

_HOMES = {
    "ImageFormat": "vision.images",
    "ModelSettings": "vision.model",
    "build_model": "vision.model",
    "ensure_torchvision": "vision.torchvision_guard",
    "tokenizer": "vision.model",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
