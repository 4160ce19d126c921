"""A debiased model as a folder that stock open_clip loads, without this package."""

import json
import shutil
import uuid
from dataclasses import dataclass, field
from io import BytesIO
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch

from debias.method import Method, Modality
from debias.modules import Side
from debias.repaired import Repaired, repaired
from m4.errors import InputError
from vision.embedder import RESAMPLING, Embedder, Preprocessing
from vision.model import ModelSettings, model_config
from vision.torchvision_guard import ensure_torchvision

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"  # names of open_clip
PROGRAMS: dict[Modality, str] = {"images": "images.pt2", "texts": "texts.pt2"}
# Where towers have their last projection: vision transformers, ResNets and models of timm; and
# text transformers of `CLIP` and of `CustomTextCLIP`.
PROJECTIONS: dict[Modality, tuple[str, ...]] = {
    "images": ("visual.proj", "visual.attnpool.c_proj", "visual.head.proj"),
    "texts": ("text_projection", "text.text_projection"),
}
CLOSE = 1e-4  # between embeddings of unit length that differ by rounding alone
SENTENCES = ["a photo of a nurse", "two people, talking; both smile!"]

LOADING = """\
model, _, preprocess = open_clip.create_model_and_transforms("local-dir:.")
tokenizer = open_clip.get_tokenizer("local-dir:.")
"""
ATTACHING = """
images = torch.export.load("images.pt2").module()
texts = torch.export.load("texts.pt2").module()
encode_image, encode_text = model.encode_image, model.encode_text
model.encode_image = lambda image, normalize=False: images(encode_image(image).float())
model.encode_text = lambda text, normalize=False: texts(encode_text(text).float())
"""
NOTES = """\
Features then have unit length whatever `normalize` says, and are NaN where the method leaves
nothing. On a GPU, move the model and both programs by `.to`. The programs know no training mode,
so they are no submodules: `model.eval()` works as ever.
"""


def export_open_clip(
    folder: Path | str,
    embedder: Embedder,
    method: Method,
    architecture: str | ModelSettings | None = None,
    *,
    attached: bool = False,
) -> None:
    """Write a debiased model as a folder for open_clip: "local-dir:FOLDER".

    A method that is linear on both sides is folded into the last projections of the towers, which
    is exact, as n(n(z) M') = n(z M'): nothing is left to do after loading. Any other is attached:
    the model stays as it is, and beside it lie two programs of `torch.export`, which lines of the
    folder's README.md put behind its towers. A folded model does not notice where nothing is left
    of a row; attached programs answer NaN.

    The folder gets its name once open_clip has loaded it and said what `repaired` says.

    Of models that `train` wrote, pictures that are no squares are cut up to a pixel beside where
    `training.encode.MiddleSquare` cuts them; else the preprocessing is the embedder's own.

    Parameters
    ----------
    folder : not there yet
    embedder : with the model, as it is without the method
    architecture : that of the model, as `load_embedder` takes it; None: the embedder knows it
    attached : whether to attach a linear method too, for towers that it cannot be folded into

    Raises `InputError` where the folder is there, the model is of another kind or architecture or
    has a tokenizer from the hub, or a tower has no last projection to fold into.
    """
    folder = Path(folder)
    if folder.exists():
        raise InputError(f"{folder}: is there already; give a folder that is not, or remove it")
    wanted = repaired(embedder.model, method)  # refuses other models
    config = _model_config(embedder.model, architecture or embedder.architecture)
    if config["embed_dim"] != method.dimension_:
        raise InputError(
            f"architecture: embeddings of {config['embed_dim']} numbers, but "
            f"{type(method).__name__} was fitted on {method.dimension_}; fit it on those of the "
            "same model"
        )
    if attached or method.image_matrix is None or method.text_matrix is None:
        export = _attached(embedder.model, method, config)
    else:
        export = _folded(embedder.model, method, config)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f"{folder.name}.{uuid.uuid4().hex}.partial")
    partial.mkdir()
    try:
        _write(partial, export, embedder, method)
        _check(partial, export, embedder, wanted)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@dataclass(frozen=True, eq=False)
class _Export:
    """What a folder holds: configuration and weights of a model, and programs to attach to it."""

    config: dict[str, Any]
    weights: dict[str, torch.Tensor]
    programs: dict[Modality, bytes] = field(default_factory=dict)


def _model_config(model: Any, architecture: str | ModelSettings | None) -> dict[str, Any]:
    """The configuration by which open_clip builds a model of the same shape."""
    ensure_torchvision()
    import open_clip

    if architecture is None:
        raise InputError("architecture: the embedder does not know it; name it")
    settings = architecture
    if not isinstance(settings, ModelSettings):
        settings = ModelSettings(name=settings)
    if settings.name is None:
        config = model_config(settings)
    else:
        config = open_clip.get_model_config(settings.name)
        if config is None:
            raise InputError(f"architecture: open_clip has none of the name {settings.name!r}")
    source = config["text_cfg"].get("hf_tokenizer_name")
    if source:
        raise InputError(
            f"architecture: {settings.name} has the tokenizer {source} of the hub, which cannot "
            "be exported; wrap the model by `repaired` instead"
        )
    config["custom_text"] = isinstance(model, open_clip.CustomTextCLIP)
    config["nonscalar_logit_scale"] = model.logit_scale.ndim > 0
    # There is one or not; its value is among the weights.
    config["init_logit_bias"] = None if model.logit_bias is None else 0.0
    return config


def _weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: each.detach().cpu().contiguous() for name, each in model.state_dict().items()}


def _folded(model: Any, method: Method, config: dict[str, Any]) -> _Export:
    """The model with a linear method's matrices (r, d) in its projections."""
    weights = _weights(model)
    matrices: dict[Modality, Any] = {"images": method.image_matrix, "texts": method.text_matrix}
    for modality, matrix in matrices.items():
        _fold(model, modality, matrix, weights)
    return _Export({**config, "embed_dim": len(matrices["images"])}, weights)


def _fold(
    model: Any, modality: Modality, matrix: np.ndarray, weights: dict[str, torch.Tensor]
) -> None:
    """Put a matrix M behind a tower's last projection: P (w, d) becomes P M', W (d, w) M W."""
    factor = torch.from_numpy(matrix)
    for path in PROJECTIONS[modality]:
        found = _found(model, path)
        if isinstance(found, torch.nn.Parameter):
            weights[path] = (weights[path].double() @ factor.T).to(found.dtype)
            return
        if isinstance(found, torch.nn.Linear):
            for name, parameter in found.named_parameters():  # weight, and bias where it has one
                moved = factor @ weights[f"{path}.{name}"].double()
                weights[f"{path}.{name}"] = moved.to(parameter.dtype)
            return
    tower = model.visual if modality == "images" else getattr(model, "text", model)
    raise InputError(
        f"{modality}: the tower {type(tower).__name__} has no last projection to fold into "
        f"({', '.join(PROJECTIONS[modality])}); export with attached=True, or wrap the model by "
        "`repaired`"
    )


def _found(model: Any, path: str) -> Any:
    try:
        return attrgetter(path)(model)
    except AttributeError:
        return None


def _attached(model: Any, method: Method, config: dict[str, Any]) -> _Export:
    programs = {modality: _program(method, modality) for modality in PROGRAMS}
    return _Export(config, _weights(model), programs)


def _program(method: Method, modality: Modality) -> bytes:
    """One side of a method as a program of `torch.export`, float32, for any number of rows."""
    rows = torch.zeros(2, method.dimension_)  # fewer than two would be taken for fixed
    shapes = ({0: torch.export.Dim.DYNAMIC},)
    exported = torch.export.export(Side(method, modality), (rows,), dynamic_shapes=shapes)
    for part in exported.graph_module.modules():
        for node in part.graph.nodes if isinstance(part, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)  # paths of this machine
    stream = BytesIO()
    torch.export.save(exported, stream)
    return stream.getvalue()


def _write(folder: Path, export: _Export, embedder: Embedder, method: Method) -> None:
    from safetensors.torch import save

    seen = embedder.preprocessing
    names = {resampling: name for name, resampling in RESAMPLING.items()}
    config = {
        "model_cfg": export.config,
        "preprocess_cfg": {
            "mean": seen.image_format.mean,
            "std": seen.image_format.std,
            "interpolation": names[seen.resample],
            "resize_mode": seen.resize,
        },
    }
    (folder / WEIGHTS).write_bytes(save(export.weights))
    for modality, content in export.programs.items():
        (folder / PROGRAMS[modality]).write_bytes(content)
    (folder / "README.md").write_text(_readme(export, embedder, method))
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")


def _readme(export: _Export, embedder: Embedder, method: Method) -> str:
    name = type(method).__name__
    title = f"# {embedder.name}, debiased by {name}\n\n"
    if not export.programs:
        how = f"{name} is folded into the last projections of the towers. In this folder:"
        return f"{title}{how}\n\n```python\nimport open_clip\n\n{LOADING}```\n"
    how = (
        f"The model is as it was; {name} is in `images.pt2` and `texts.pt2`, which are put behind\n"
        f"its towers. In this folder, with torch {torch.__version__.split('+')[0]} or later:"
    )
    lines = f"import open_clip\nimport torch\n\n{LOADING}{ATTACHING}"
    return f"{title}{how}\n\n```python\n{lines}```\n\n{NOTES}"


def _check(folder: Path, export: _Export, embedder: Embedder, wanted: Repaired) -> None:
    """Raise `InputError` unless open_clip makes of a folder what was to be written."""
    import open_clip

    try:
        model = open_clip.create_model(f"local-dir:{folder}", device=embedder.device).eval()
    except (AssertionError, RuntimeError) as error:  # what open_clip checks, and torch
        shown = " ".join(str(error).split())[:300]
        raise InputError(
            f"architecture: the weights do not fit into it: {shown}; give the one that the model "
            "was built by; where it is, export with attached=True"
        ) from None
    seen, given = Preprocessing.of(model), embedder.preprocessing
    if (seen.image_format, seen.resize, seen.resample) != (
        given.image_format,
        given.resize,
        given.resample,
    ):
        raise InputError(
            f"architecture: it wants {seen}, but the embedder makes {given}; give the one that "
            "the model was built by"
        )
    tokens = embedder.tokenize(SENTENCES)
    if not torch.equal(open_clip.get_tokenizer(f"local-dir:{folder}")(SENTENCES), tokens):
        raise InputError(
            "architecture: its tokenizer gives other tokens than the embedder's; give the one that "
            "the model was built by"
        )
    _compare(model, wanted.model if export.programs else wanted, tokens, embedder)


def _compare(model: Any, wanted: Any, tokens: torch.Tensor, embedder: Embedder) -> None:
    """Raise `InputError` where a model embeds noise or tokens otherwise than the one wanted."""
    size = embedder.size
    noise = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    noise, tokens = noise.to(embedder.device), tokens.to(embedder.device)
    with torch.inference_mode():
        pairs = {
            "images": (model.encode_image(noise, True), wanted.encode_image(noise, True)),
            "texts": (model.encode_text(tokens, True), wanted.encode_text(tokens, True)),
        }
    for modality, (found, expected) in pairs.items():
        apart = float((found - expected).abs().max())
        if not apart < CLOSE:  # nor where it is NaN
            raise InputError(
                f"architecture: its embeddings of {modality} are {apart:.1e} off the model's, more "
                f"than {CLOSE}; give the one that the model was built by"
            )
