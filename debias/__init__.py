"""Post-hoc methods that take bias out of a trained model's embeddings; each one file or class."""

from importlib import import_module
from typing import Any

_NAMES = {
    "debias.able_score": ("AbleScore",),
    "debias.fair_clip": ("FairCLIP",),
    "debias.fairer_clip": ("FairerCLIP",),
    "debias.joint": ("JointDebias",),
    "debias.lessons": ("Lesson", "Material"),
    "debias.method": ("Method", "load_method"),
    "debias.modules": ("Side",),
    "debias.open_clip_export": ("export_open_clip",),
    "debias.probes": ("LinearProbe",),
    "debias.projection": ("CalibratedProjection", "OrthogonalProjection"),
    "debias.recipes": ("Fitted", "Recipe", "fit_recipe"),
    "debias.relatives": ("ClipClip", "ClosedForm", "GroupMeanProjection", "group_means"),
    "debias.repaired": ("repaired",),
    "debias.soft_prompts": ("SoftPrompts", "encode_in_context", "learn_soft_prompts"),
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
