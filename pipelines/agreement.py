"""How well annotations agree with marks that are known to be true."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from m4.catalogue import Catalogue, Model
from m4.errors import InputError
from pipelines.tables import read_all


class Agreement(Model):
    """Agreement on one value or label.

    Attributes
    ----------
    truth : examples whose truth is known (for a value) or holds (for a label)
    coverage : share of those with a known truth that the annotator marks at all; 1 for labels,
        which are never unknown
    precision : share right among what the annotator says holds; null where it says so nowhere
    recall : share found among what truly holds and is covered; null where nothing truly holds
    unfounded : examples that the annotator marks although their truth is not known
    """

    truth: int
    coverage: float | None
    precision: float | None
    recall: float | None
    unfounded: int


def _share(part: np.ndarray, whole: np.ndarray) -> float | None:
    return float((part & whole).sum() / whole.sum()) if whole.any() else None


def agreement(annotations: str, truth: str, catalogue: Catalogue) -> Mapping[str, Agreement]:
    """Compare two folders of annotations of the same shards, by value and label.

    A mark holds where its probability is at least 1/2.

    Raises `InputError` where the folders annotate different samples.
    """
    columns = ["uid", *catalogue.value_names, "labels"]
    found, true = read_all(annotations, columns), read_all(truth, columns)
    if found["uid"].to_list() != true["uid"].to_list():
        raise InputError(
            f"{annotations} and {truth} annotate different samples ({len(found)} and {len(true)}); "
            "annotate the same shards"
        )
    table: dict[str, Agreement] = {}
    for name in catalogue.value_names:
        known_true, known = (~side[name].is_null().to_numpy() for side in (true, found))
        holds_true, holds = (
            (side[name].fill_null(0.0) >= 0.5).to_numpy() for side in (true, found)
        )
        both = known & known_true
        table[name] = Agreement(
            truth=int(known_true.sum()),
            coverage=_share(known, known_true),
            precision=_share(holds_true, holds & both),
            recall=_share(holds, holds_true & both),
            unfounded=int((known & ~known_true).sum()),
        )
    for r, label in enumerate(catalogue.label_names):
        holds_true, holds = (side["labels"].list.contains(r).to_numpy() for side in (true, found))
        table[label] = Agreement(
            truth=int(holds_true.sum()),
            coverage=1.0,
            precision=_share(holds_true, holds),
            recall=_share(holds, holds_true),
            unfounded=0,
        )
    return table


def write_agreement(path: Path, table: Mapping[str, Agreement]) -> None:
    """Write a comparison as JSON."""
    content = {name: row.model_dump() for name, row in table.items()}
    path.write_text(json.dumps(content, indent=1) + "\n")


def read_agreement(path: Path) -> Mapping[str, Agreement]:
    """Read what `write_agreement` wrote; empty where there is no such file."""
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_bytes())
        return {name: Agreement.model_validate(row) for name, row in content.items()}
    except (ValueError, AttributeError):
        raise InputError(f"{path}: not a table of agreement; delete it") from None
