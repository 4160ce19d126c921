"""Runs of protocols from figures that a test chooses, and what charts of them hold."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from evaluation.draws import Draws
from evaluation.resampling import Resampling
from evaluation.results import Conditions, ProtocolRun, SetUsed
from reporting.drawings import Drawing

RESAMPLING = Resampling(resamples=100, permutations=100)


def draws_of(measure: str, figures: dict[str, float], **changes: Any) -> Draws:
    """Draws whose resamples spread by 0.1 around the figures, and whose null is 0 to 0.2."""
    observed = np.array(list(figures.values()))
    spread, null = np.linspace(-0.1, 0.1, 100), np.linspace(0.0, 0.2, 100)
    given = {
        "measure": measure,
        "names": tuple(figures),
        "observed": observed,
        "bootstrap": observed + spread[:, None],
        "null": np.repeat(null[:, None], len(figures), axis=1),
        "images": 500,
        "better": "lower",
    }
    return Draws(**{**given, **changes})


def conditions_of(model: str, **changes: Any) -> Conditions:
    given = {
        "protocol": "retrieval-test",
        "title": "Who is found first",
        "source": "Someone (2021)",
        "digest": "d",
        "model": model,
        "sets": {"images": SetUsed(name="faces", digest="1", images=12345)},
        "resampling": RESAMPLING,
        "compat": None,
    }
    return Conditions(**{**given, **changes})


def run_of(model: str, draws: Sequence[Draws], **changes: Any) -> ProtocolRun:
    """A run whose headlines are the draws of one figure, and whose tables are the others."""
    headlines = [each for each in draws if len(each.names) == 1]
    tables = [each for each in draws if len(each.names) > 1]
    return ProtocolRun.of(conditions_of(model, **changes), headlines, tables)


def marked(drawing: Drawing, kind: str) -> list[dict[str, Any]]:
    """What a chart draws with one kind of mark, "point": rows of data, "x" and "x2" as placed."""
    chart = drawing.chart.to_dict()
    rows = []
    for data, encoding in _marks(chart, kind, ""):
        for row in chart["datasets"][data]:
            fields = {at: encoding[at].get("field") for at in ("x", "x2") if at in encoding}
            rows.append(row | {at: row.get(name) for at, name in fields.items()})
    return rows


def _marks(part: dict[str, Any], kind: str, above: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name of the data and encoding of each layer with that mark."""
    data = part.get("data", {}).get("name", above)
    if part.get("mark", {}).get("type") == kind:
        yield data, part["encoding"]
    for inner in (*part.get("layer", ()), *part.get("concat", ()), *part.get("vconcat", ())):
        yield from _marks(inner, kind, data)
