"""Makes `import torchvision` work beside a torch that its wheel was not built for.

PyPI's torchvision wheels link CUDA. Beside a CPU build of torch their compiled operators cannot be
loaded, and the import fails because the schemas of two of them are missing. open_clip and timm
import torchvision, but use none of these operators.
"""

import sys
from importlib import import_module

SCHEMAS = {
    "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
_defined: list[object] = []  # a torch Library takes its definitions with it when it is collected


def ensure_torchvision() -> None:
    """Import torchvision; where its operators are missing, define their schemas and try again.

    A sound install is left alone. An operator whose schema was defined here still has no kernel:
    calling it raises `NotImplementedError`. Call this before open_clip or timm is imported, in
    every process.
    """
    if "torchvision" in sys.modules:
        return
    try:
        import_module("torchvision")
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise
        _define_schemas()
        import_module("torchvision")


def _define_schemas() -> None:
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    for name, signature in SCHEMAS.items():
        if not hasattr(torch.ops.torchvision, name):
            library.define(name + signature)
    _defined.append(library)
