"""What models see: image decoding, open_clip models, ONNX models, heads on embeddings."""

from importlib import import_module
from typing import Any

_HOMES = {
    "Embedder": "vision.embedder",
    "load_embedder": "vision.embedder",
    "fit_linear": "vision.fitting",
    "prompt_head": "vision.fitting",
    "Head": "vision.heads",
    "load_head": "vision.heads",
    "ImageFormat": "vision.images",
    "ModelSettings": "vision.model",
    "build_model": "vision.model",
    "tokenizer": "vision.model",
    "OnnxModel": "vision.onnx_model",
    "load_onnx_model": "vision.onnx_model",
    "ensure_torchvision": "vision.torchvision_guard",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
