"""What is trained: an open_clip model, small and described by its sizes, or one of its own."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from m4.catalogue import Model
from m4.errors import InputError
from vision.torchvision_guard import ensure_torchvision

if TYPE_CHECKING:
    import torch

    from vision.images import ImageFormat

Loss = Literal["clip", "siglip"]

SIGLIP_LOGIT_SCALE = math.log(10)  # Zhai et al. 2023, arXiv 2303.15343
SIGLIP_LOGIT_BIAS = -10.0
LONGEST_REASON = 300  # characters; torch lists each weight that is missing
SIZES = (
    "embed_dim",
    "image_size",
    "patch_size",
    "image_width",
    "image_layers",
    "image_head_width",
    "context_length",
    "text_width",
    "text_layers",
    "text_heads",
)


class ModelSettings(Model):
    """Which model: sizes of a vision transformer and a text transformer, or a name.

    Attributes
    ----------
    name : an architecture of open_clip, "ViT-B-32"; no size may be given then
    pretrained : a checkpoint file for it, or one of open_clip's tags, which it fetches
    embed_dim : d, numbers in an embedding
    image_size, patch_size : pixels along a side
    image_width, image_layers, image_head_width : of the image tower
    context_length : tokens of a caption, start and end included; longer ones are cut
    text_width, text_layers, text_heads : of the text tower
    """

    name: str | None = None
    pretrained: str | None = None
    embed_dim: int = Field(default=64, ge=1)
    image_size: int = Field(default=64, ge=1)
    patch_size: int = Field(default=16, ge=1)
    image_width: int = Field(default=96, ge=1)
    image_layers: int = Field(default=3, ge=1)
    image_head_width: int = Field(default=48, ge=1)
    context_length: int = Field(default=24, ge=3)
    text_width: int = Field(default=64, ge=1)
    text_layers: int = Field(default=2, ge=1)
    text_heads: int = Field(default=2, ge=1)

    @model_validator(mode="after")
    def _consistent(self) -> "ModelSettings":
        given = [size for size in SIZES if getattr(self, size) != _default(size)]
        if self.name is not None and given:
            raise ValueError(
                f"{given[0]} has no effect with name {self.name!r}, which has sizes of its own; "
                "give one or the other"
            )
        if self.name is None and self.pretrained is not None:
            raise ValueError("`pretrained` needs the `name` of its architecture")
        _check_divides(self, "patch_size", "image_size")
        _check_divides(self, "image_head_width", "image_width")
        _check_divides(self, "text_heads", "text_width")
        return self


def _default(size: str) -> int:
    return ModelSettings.model_fields[size].default


def _check_divides(settings: ModelSettings, part: str, whole: str) -> None:
    small, large = getattr(settings, part), getattr(settings, whole)
    if large % small:
        raise ValueError(f"{part} {small} does not divide {whole} {large}")


def build_model(settings: ModelSettings, loss: Loss) -> Any:
    """Build an `open_clip` model with random or pretrained weights, on the CPU, in float32.

    For SigLIP the logit scale starts at ln 10 and the bias at -10, unless pretrained weights say
    otherwise. Nothing is fetched unless `pretrained` is a tag, or the architecture `name` itself
    needs a file of the hub. Raises `InputError` where a name, tag or file cannot be used.
    """
    ensure_torchvision()
    import open_clip

    start: dict[str, float] = {}
    if loss == "siglip":
        start = {"init_logit_scale": SIGLIP_LOGIT_SCALE, "init_logit_bias": SIGLIP_LOGIT_BIAS}
    if settings.name is not None:
        return _named_model(settings.name, settings.pretrained, start)
    config = model_config(settings)
    return open_clip.CLIP(
        embed_dim=config["embed_dim"],
        vision_cfg=open_clip.CLIPVisionCfg(**config["vision_cfg"]),
        text_cfg=open_clip.CLIPTextCfg(**config["text_cfg"]),
        **start,
    )


def model_config(settings: ModelSettings) -> dict[str, Any]:
    """The sizes of a small model as open_clip writes them in its configurations."""
    return {
        "embed_dim": settings.embed_dim,
        "vision_cfg": {
            "image_size": settings.image_size,
            "patch_size": settings.patch_size,
            "width": settings.image_width,
            "layers": settings.image_layers,
            "head_width": settings.image_head_width,
        },
        "text_cfg": {
            "context_length": settings.context_length,
            "width": settings.text_width,
            "layers": settings.text_layers,
            "heads": settings.text_heads,
        },
    }


def _named_model(name: str, pretrained: str | None, start: dict[str, float]) -> Any:
    import open_clip

    if name not in open_clip.list_models():
        raise InputError(f"name: open_clip has no architecture {name!r}; see its list_models()")
    tags = open_clip.list_pretrained_tags_by_model(name)
    if pretrained is not None and pretrained not in tags and not Path(pretrained).is_file():
        known = ", ".join(tags) or "none"
        raise InputError(f"pretrained: {pretrained} is no file and no tag of {name} ({known})")
    try:
        # The text tower of some architectures has weights of its own on the hub; these too are
        # left alone unless they come with `pretrained`.
        return open_clip.create_model(name, pretrained, pretrained_text=False, **start)
    except (RuntimeError, OSError) as error:
        what = f"{name} with {pretrained}" if pretrained else name
        shown = " ".join(str(error).split())[:LONGEST_REASON]
        raise InputError(f"{what} cannot be built: {shown}") from None
    except Exception as error:  # torch.load raises whatever a file leads to that has no weights
        kind = type(error).__name__
        raise InputError(f"{pretrained or name}: not a checkpoint of {name} ({kind})") from None


def tokenizer(settings: ModelSettings) -> "Callable[[list[str]], torch.Tensor]":
    """The model's tokenizer: from captions to ids (B, L) int64."""
    ensure_torchvision()
    import open_clip

    if settings.name is not None:
        return open_clip.get_tokenizer(settings.name)
    return partial(open_clip.tokenize, context_length=settings.context_length)


def image_format(model: Any) -> "ImageFormat":
    """What a model wants to see: OpenAI's mean and deviation, unless its weights say otherwise."""
    from vision.images import OPENAI_MEAN, OPENAI_STD, ImageFormat

    size = model.visual.image_size
    height, width = size if isinstance(size, tuple) else (size, size)
    if height != width:
        raise InputError(f"the model wants {height} x {width} pixels; only squares can be given")
    wanted = getattr(model.visual, "preprocess_cfg", {})
    mean, std = wanted.get("mean", OPENAI_MEAN), wanted.get("std", OPENAI_STD)
    return ImageFormat(height, tuple(mean), tuple(std))
