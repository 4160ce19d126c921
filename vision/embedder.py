"""Embeddings of pictures and texts by an open_clip model: what heads and zero-shot prompts read."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import normalize

from m4.errors import InputError
from vision import images
from vision.ahead import ahead
from vision.images import Box, ImageFormat
from vision.model import ModelSettings, build_model, image_format, tokenizer

Resize = Literal["shortest", "squash"]
RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
QUICK = "-quickgelu"  # ends the name of an architecture with that activation
DIGEST = 8  # hexadecimal digits that tell two checkpoint files of one name apart


@dataclass(frozen=True)
class Preprocessing:
    """From a picture to the pixels that a model was trained to see.

    As open_clip's `image_transform` does it: with `shortest` the shorter side is resized to the
    model's size and the middle square is cut out; with `squash` the whole picture is resized to a
    square. Its third way, `longest`, is that of none of its checkpoints.
    """

    image_format: ImageFormat
    resize: Resize = "shortest"
    resample: Image.Resampling = Image.Resampling.BICUBIC

    @classmethod
    def of(cls, model: Any, given: dict[str, Any] | None = None) -> "Preprocessing":
        """That of an open_clip model, or one `given` as open_clip configures it.

        Raises `InputError` where it is of another kind.
        """
        seen = image_format(model)
        wanted = {**(getattr(model.visual, "preprocess_cfg", None) or {}), **(given or {})}
        resize = wanted.get("resize_mode", "shortest")
        interpolation = wanted.get("interpolation", "bicubic")
        if resize not in ("shortest", "squash") or interpolation not in RESAMPLING:
            raise InputError(
                f"the model wants pictures resized by {resize} {interpolation}; only shortest or "
                "squash, bicubic or bilinear can be given"
            )
        mean, std = wanted.get("mean", seen.mean), wanted.get("std", seen.std)
        return cls(
            ImageFormat(seen.size, tuple(mean), tuple(std)), resize, RESAMPLING[interpolation]
        )

    def pixels(self, picture: Image.Image) -> np.ndarray:
        """A picture's pixels, (3, size, size) uint8."""
        box: Box = (0.0, 0.0, float(picture.width), float(picture.height))
        if self.resize == "shortest":
            box = shortest_box(*picture.size, self.image_format.size)
        return images.fit(picture, self.image_format.size, box, self.resample)


def shortest_box(width: int, height: int, size: int) -> Box:
    """The part of a picture that is left of it, resized to `size` and cut to its middle.

    torchvision resizes to whole pixels, and cuts between whole pixels: the box is up to half a
    pixel off the middle, and up to a pixel off a square.
    """
    shorter = min(width, height)
    new_width, new_height = (size * side // shorter for side in (width, height))
    left, top = round((new_width - size) / 2), round((new_height - size) / 2)
    across, down = width / new_width, height / new_height
    return left * across, top * down, (left + size) * across, (top + size) * down


@dataclass(frozen=True, eq=False)
class Embedder:
    """A model that embeds pictures and texts in one space.

    Attributes
    ----------
    model : of open_clip, in evaluation mode, on `device`
    tokenize : from texts to token ids (B, L)
    preprocessing : of pictures
    name : of the embedding space; embeddings and heads belong together if their names are equal
    device : "cpu", "cuda" or "cuda:1"
    batch_size : pictures or texts that the model is given at once
    threads : that resize pictures
    architecture : what the model was built by; None: not known
    """

    model: Any
    tokenize: Callable[[list[str]], torch.Tensor]
    preprocessing: Preprocessing
    name: str
    device: str = "cpu"
    batch_size: int = 64
    threads: int = 1
    architecture: ModelSettings | None = None

    @property
    def size(self) -> int:
        """Pixels that the model wants to see along a picture's shorter side."""
        return self.preprocessing.image_format.size

    @cached_property
    def dim(self) -> int:
        """Numbers in an embedding, d."""
        return self.embed([Image.new("RGB", (self.size, self.size))]).shape[1]

    def embed(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        """Embeddings of RGB pictures; (n, d) float32, L2-normalised.

        The next batch is resized in threads while the model has the one before. On CUDA the model
        computes in bfloat16 where that is safe (autocast).
        """
        if not pictures:
            return np.zeros((0, self.dim), dtype=np.float32)
        with ThreadPoolExecutor(self.threads) as pool:

            def resized() -> Iterator[np.ndarray]:
                for part in _batches(pictures, self.batch_size):
                    yield np.stack(list(pool.map(self.preprocessing.pixels, part)))

            return np.concatenate([self.forward(pixels) for pixels in ahead(resized())])

    def forward(self, pixels: np.ndarray) -> np.ndarray:
        """Embeddings of a batch (B, 3, size, size) uint8, which `Preprocessing.pixels` made."""
        with torch.inference_mode(), self._precision():
            moved = torch.from_numpy(pixels).to(self.device)
            values = images.normalise_pixels(moved, self.preprocessing.image_format)
            return _unit(self.model.encode_image(values))

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Embeddings of captions or prompts; (n, d) float32, L2-normalised."""
        if not texts:
            return np.zeros((0, self.dim), dtype=np.float32)
        parts = []
        with torch.inference_mode(), self._precision():
            for part in _batches(texts, self.batch_size):
                tokens = self.tokenize(list(part)).to(self.device)
                parts.append(_unit(self.model.encode_text(tokens)))
        return np.concatenate(parts)

    def _precision(self) -> AbstractContextManager:
        if self.device.startswith("cuda"):
            return torch.autocast("cuda", torch.bfloat16)
        return nullcontext()


def _batches(items: Sequence, size: int) -> Iterator[Sequence]:
    for first in range(0, len(items), size):
        yield items[first : first + size]


def _unit(features: torch.Tensor) -> np.ndarray:
    return normalize(features.float(), dim=-1).cpu().numpy()


def load_embedder(
    architecture: str | ModelSettings,
    pretrained: str | Path | None,
    *,
    device: str = "auto",
    batch_size: int = 64,
    threads: int | None = None,
    preprocess_as: str | None = None,
    name: str | None = None,
) -> Embedder:
    """Load a model with its weights. Nothing is fetched unless `pretrained` is a tag.

    Parameters
    ----------
    architecture : a name that open_clip knows, "ViT-B-32"; or the sizes of a small model
    pretrained : a checkpoint file, or one of open_clip's tags for this architecture; of a small
        model a state dictionary, or a checkpoint that `train` wrote
    device : "auto" is CUDA where there is one, else the CPU
    threads : that resize pictures; as many as torch computes with where left out
    preprocess_as : tag whose preprocessing a checkpoint file wants; needed only where the tags of
        the architecture differ in it
    name : of the embedding space. Left out, it is "ViT-B-32/<tag>", also for "ViT-B-32-quickgelu",
        as the tag says which activation it wants; or of a file its stem and the first digits of
        its SHA-256, as many checkpoints share a file name

    Raises `InputError` where something of this cannot be used.
    """
    if pretrained is None:
        raise InputError(
            f"pretrained: {architecture} has random weights without; name a checkpoint file, or "
            "a tag of open_clip"
        )
    where = usable_device(device)
    if isinstance(architecture, ModelSettings):
        settings, model = architecture, _small_model(architecture, Path(pretrained))
        title, given = "small", None
        if preprocess_as is not None:
            raise InputError("preprocess_as has no effect on a small model; leave it out")
    else:
        settings = ModelSettings(name=architecture, pretrained=str(pretrained))
        given = _named_preprocessing(settings, preprocess_as)
        model, title = build_model(settings, "clip"), architecture
    if name is None:
        name = space_name(title, Path(pretrained))
    return Embedder(
        model.to(where).eval(),
        tokenizer(settings),
        Preprocessing.of(model, given),
        name,
        where,
        batch_size,
        threads or torch.get_num_threads(),
        settings,
    )


def usable_device(device: str) -> str:
    """The device that is meant, "cpu" or of CUDA. Raises `InputError` where it is not there."""
    there = torch.cuda.device_count()
    if device == "auto":
        return "cuda" if there else "cpu"
    kind, _, number = device.partition(":")
    if device != "cpu" and (kind != "cuda" or not (number or "0").isdecimal()):
        raise InputError(f"device: {device!r} is not one of auto, cpu, cuda, cuda:1")
    if kind == "cuda" and int(number or 0) >= there:
        raise InputError(f"device: {device} is not here, torch sees {there} of CUDA; take auto")
    return device


def space_name(architecture: str, pretrained: Path) -> str:
    """The name of the embedding space of a tag, or of a file, with the digest of its content."""
    if not pretrained.is_file():
        return f"{architecture.removesuffix(QUICK)}/{pretrained}"
    with pretrained.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return f"{architecture}/{pretrained.stem}@{digest[:DIGEST]}"


def _named_preprocessing(settings: ModelSettings, like: str | None) -> dict[str, Any] | None:
    """The preprocessing that a checkpoint wants, as open_clip configures it, where it says so.

    Raises `InputError` where it is not clear.
    """
    from vision.torchvision_guard import ensure_torchvision

    ensure_torchvision()
    import open_clip

    architecture, pretrained = str(settings.name), str(settings.pretrained)
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    known = {tag: open_clip.get_pretrained_cfg(architecture, tag) for tag in tags}
    if pretrained in known:
        if like is not None:
            raise InputError(f"preprocess_as has no effect on the tag {pretrained}; leave it out")
        _check_activation(architecture, pretrained, bool(known[pretrained].get("quick_gelu")))
        return None  # open_clip gives it to the model
    if like is not None:
        if like not in known:
            raise InputError(f"preprocess_as: {architecture} has no tag {like!r}; it has {tags}")
        return _given(known[like])
    kinds = [_given(cfg) for cfg in known.values()]
    if any(kind != kinds[0] for kind in kinds):
        raise InputError(
            f"{pretrained}: checkpoints of {architecture} differ in how pictures are preprocessed; "
            f"say which tag it is like by preprocess_as: {', '.join(tags)}"
        )
    return kinds[0] if kinds else None


def _check_activation(architecture: str, tag: str, quick: bool) -> None:
    """Raise `InputError` where a tag was trained with another activation than the architecture has.

    open_clip warns; the embeddings would be wrong, if only by a little.
    """
    import open_clip

    has = (open_clip.get_model_config(architecture) or {}).get("quick_gelu", False)
    other = architecture + QUICK if quick else architecture.removesuffix(QUICK)
    if has != quick and other in open_clip.list_models() and other != architecture:
        raise InputError(
            f"{architecture}: {tag} was trained with {'quick ' if quick else ''}GELU; take the "
            f"architecture {other}"
        )


def _given(cfg: dict[str, Any]) -> dict[str, Any]:
    """The part of a tag's configuration that is about pictures."""
    keys = ("mean", "std", "interpolation", "resize_mode")
    return {key: cfg[key] for key in keys if cfg.get(key) is not None}


def _small_model(settings: ModelSettings, path: Path) -> Any:
    """A small model with the weights of a file. Raises `InputError` where they do not fit."""
    if settings.name is not None:
        raise InputError(f"architecture: give the name {settings.name!r} itself, not settings")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        weights = content.get("model", content)
        model = build_model(settings, "siglip" if "logit_bias" in weights else "clip")
        model.load_state_dict(weights)
    except FileNotFoundError:
        raise InputError(f"{path}: no such checkpoint") from None
    except Exception as error:  # torch.load raises whatever a damaged file leads to
        shown = " ".join(str(error).split())[:300]
        raise InputError(f"{path}: not a checkpoint of this model: {shown}") from None
    return model
