"""What a model is worth: bias, retrieval, zero-shot; works on embeddings and labels alone."""

from importlib import import_module
from typing import Any

# Not lazy: a submodule of the same name would hide the function once it has been imported.
from evaluation.evaluate import evaluate as evaluate

_HOMES = {
    "AssociationBias": "evaluation.bias",
    "CaptionPairs": "evaluation.quality",
    "Comparison": "evaluation.compare",
    "EvaluateSettings": "evaluation.evaluate",
    "Evaluation": "evaluation.evaluate",
    "Gallery": "evaluation.gallery",
    "GalleryCounts": "evaluation.gallery",
    "RepresentationBias": "evaluation.bias",
    "Retrieval": "evaluation.quality",
    "TextEncoder": "vision.prompts",
    "Trial": "evaluation.compare",
    "WorstGroup": "evaluation.quality",
    "ZeroShot": "evaluation.quality",
    "association_bias": "evaluation.bias",
    "class_embedding": "vision.prompts",
    "comparison_table": "evaluation.compare",
    "noun_phrase": "vision.prompts",
    "representation_bias": "evaluation.bias",
    "retrieval_recall": "evaluation.quality",
    "worst_group": "evaluation.quality",
    "zero_shot": "evaluation.quality",
}
__all__ = sorted([*_HOMES, "evaluate"])


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
