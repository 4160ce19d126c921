"""What a model is worth: bias, retrieval, zero-shot; works on embeddings and labels alone."""

from importlib import import_module
from typing import Any

# Not lazy: a submodule of the same name would hide the function once it has been imported.
from evaluation.evaluate import evaluate as evaluate

_NAMES = {
    "evaluation.bias": (
        "AssociationBias",
        "RepresentationBias",
        "association_bias",
        "representation_bias",
    ),
    "evaluation.compare": ("Comparison", "Trial", "comparison_table"),
    "evaluation.draws": ("Draws", "Measurement"),
    "evaluation.evaluate": ("Evaluation",),
    "evaluation.fairness": ("demographic_parity_difference", "equal_opportunity_difference"),
    "evaluation.gallery": ("Gallery", "GalleryCounts"),
    "evaluation.gallery_measures": ("EvaluateSettings",),
    "evaluation.harms": ("Misclassification", "misclassification"),
    "evaluation.labelled_set": ("LabelledSet",),
    "evaluation.prompt_sets": ("PromptSet", "load_prompt_set"),
    "evaluation.pronouns": ("Resolution", "resolution"),
    "evaluation.protocol": ("Protocol", "load_protocol", "run_protocol"),
    "evaluation.quality": ("WorstGroup", "ZeroShot", "worst_group", "zero_shot"),
    "evaluation.rank_measures": (
        "able",
        "bias_at_k",
        "max_skew",
        "min_skew",
        "ndkl",
        "null_distribution",
        "skew",
    ),
    "evaluation.ranking": ("Galleries", "RetrievalSkew", "rank", "retrieval_skew"),
    "evaluation.resampling": ("Resampling",),
    "evaluation.results": ("ProtocolResult", "ProtocolRun", "compare_runs"),
    "evaluation.retrieval": ("CaptionPairs", "Retrieval", "retrieval_recall"),
    "evaluation.transfer": ("BiasTransfer", "bias_transfer", "data_associations"),
    "evaluation.words": ("Associations", "associations"),
    "vision.prompts": ("TextEncoder", "class_embedding", "noun_phrase"),
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names}
__all__ = sorted([*_HOMES, "evaluate"])


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
