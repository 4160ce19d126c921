"""An open_clip model whose embeddings are debiased."""

from typing import Any

import torch

from debias.method import Method
from debias.modules import Side
from m4.errors import InputError
from vision.torchvision_guard import ensure_torchvision


def repaired(model: Any, method: Method) -> "Repaired":
    """An open_clip model with a fitted method behind its towers; the model itself is not changed.

    Raises `InputError` where the method is not fitted or the model is neither `CLIP` nor
    `CustomTextCLIP`; and, at the first batch, where the method is of another dimension.
    """
    check_kind(model)
    device = model.logit_scale.device
    return Repaired(model, Side(method, "images").to(device), Side(method, "texts").to(device))


def check_kind(model: Any) -> None:
    """Raise `InputError` unless it is a model of two towers as open_clip builds them."""
    ensure_torchvision()
    import open_clip

    if not isinstance(model, open_clip.CLIP | open_clip.CustomTextCLIP):
        raise InputError(
            f"the model is {type(model).__name__}; only CLIP and CustomTextCLIP of open_clip can "
            "be repaired and exported"
        )


class Repaired(torch.nn.Module):
    """Stands in for the model it holds, `model`, and has whatever that has.

    `encode_image`, `encode_text`, `get_logits` and `forward` are those of the model's class on
    debiased features, which have unit length whether `normalize` asks for it or not. A row of
    which nothing is left becomes NaN, as of `debias.modules.Side`.
    """

    def __init__(self, model: Any, images: Side, texts: Side) -> None:
        super().__init__()
        self.model, self.images, self.texts = model, images, texts
        self.training = model.training

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("model"), name)

    def encode_image(self, image: torch.Tensor, normalize: bool = False) -> Any:
        """Debiased embeddings of pixels, (n, r), of unit length."""
        return self.images(self.model.encode_image(image))

    def encode_text(self, text: torch.Tensor, normalize: bool = False) -> Any:
        """Debiased embeddings of token ids, (n, r), of unit length."""
        return self.texts(self.model.encode_text(text))

    def get_logits(self, image: torch.Tensor, text: torch.Tensor) -> Any:
        return type(self.model).get_logits(self, image, text)

    def forward(self, image: torch.Tensor | None = None, text: torch.Tensor | None = None) -> Any:
        return type(self.model).forward(self, image, text)

    def forward_intermediates(self, *args: Any, **kwargs: Any) -> Any:
        """Refused: what it gives bypasses the debiasing."""
        raise InputError(
            "a repaired model gives no intermediates, as they would not be debiased; ask `model`"
        )
