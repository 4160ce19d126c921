"""A fitted method as modules of torch: one for images, one for texts."""

import numpy as np
import torch
from torch.linalg import vector_norm

from debias.method import Method, Modality, resolution
from m4.errors import InputError


class Side(torch.nn.Module):
    """What a fitted method does to the embeddings of one modality.

    (n, d) of a floating type come in, (n, r) of the same type and of unit length go out, as of
    `Method.transform_images` or `transform_texts`, and differentiable. The learned arrays are
    buffers, and so is the method's matrix where it is linear; `.to` moves and converts them. It
    is computed in their type, also under autocast.

    No row is refused, as an exported module cannot: one without a direction, or of which nothing
    is left, becomes NaN.

    Parameters
    ----------
    method : fitted
    modality : "images" or "texts"
    dtype : of the buffers

    Raises `InputError` where the method is not fitted, and, when called, where d is another than
    the one it was fitted on or the numbers are not of a floating type.
    """

    matrix: torch.Tensor | None

    def __init__(
        self, method: Method, modality: Modality, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        method.check_fitted()
        self.method, self.modality = method, modality
        for name in method.LEARNED:
            self.register_buffer(name, _tensor(getattr(method, name), dtype))
        # Coarser numbers may not change which dimensions a method chooses: it has chosen here.
        matrix = method.image_matrix if modality == "images" else method.text_matrix
        self.register_buffer("matrix", None if matrix is None else _tensor(matrix, dtype))

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        if embeddings.ndim != 2 or embeddings.shape[1] != self.method.dimension_:
            raise InputError(
                f"{self.modality}: embeddings of shape {tuple(embeddings.shape)}, but "
                f"{type(self.method).__name__} was fitted on {self.method.dimension_} numbers; "
                "give rows of the same model, or fit it again"
            )
        with torch.autocast(embeddings.device.type, enabled=False):
            return self._debiased(embeddings).to(embeddings.dtype)

    def _debiased(self, embeddings: torch.Tensor) -> torch.Tensor:
        arrays = {name: self.get_buffer(name) for name in self.method.LEARNED}
        method = self.method.with_arrays(arrays)
        given = embeddings.to(arrays[self.method.LEARNED[0]].dtype)
        least = max(resolution(embeddings, self.modality), resolution(given, self.modality))
        # so that the squares neither overflow nor vanish; the direction does not depend on it
        scaled = given / given.detach().abs().amax(dim=1, keepdim=True)
        rows = scaled / _lengths(scaled)
        remaining = _lengths(method.remaining(rows, self.modality))
        matrix = self.matrix
        moved = method.moved(rows, self.modality) if matrix is None else rows @ matrix.T
        lengths = _lengths(moved)
        gone = (remaining < least) | (lengths < least)
        return torch.where(gone, torch.nan, moved / lengths)


def _tensor(array: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
    return torch.tensor(array, dtype=dtype).contiguous()  # as `torch.export` saves buffers


def _lengths(rows: torch.Tensor) -> torch.Tensor:
    return vector_norm(rows, dim=1, keepdim=True)
