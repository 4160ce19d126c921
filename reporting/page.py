"""Report: one self-contained HTML file, without scripts, that opens anywhere."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from pydantic import Field

from evaluation.draws import Measurement
from m4.catalogue import Model
from m4.errors import InputError
from reporting import charts
from reporting.contents import Contents, read_contents
from reporting.drawings import Drawing
from reporting.pictures import Picture, sample_pictures
from reporting.transfer_chart import transfer_scatter
from reporting.transfer_points import transfer_measurements, transfer_points

EMPTY = "\N{EN DASH}"  # a mean over nothing
LARGEST = 2_000_000  # bytes; a report is mailed around


class ReportSettings(Model):
    """Settings of the report."""

    run: str = Field(description="run directory; report.html is written in it")
    pictures: bool = Field(default=False, description="show sample pictures, which may show people")


@dataclass(frozen=True)
class Headline:
    """One figure before and after, for the top of the page."""

    name: str
    before: float
    after: float
    better: str
    separated: bool | None = None

    @property
    def verdict(self) -> str:
        """ "better" or "worse"; neither where the seeds do not tell the two apart."""
        if self.separated is False or self.after == self.before:
            return "same"
        lower = self.after < self.before
        return "better" if lower == (self.better == "lower") else "worse"


def report(settings: ReportSettings) -> Path:
    """Write `<run>/report.html` from what the run directory holds, and return its path.

    Raises `InputError` where the run has not been solved yet, or a file of it is damaged.
    """
    contents = read_contents(Path(settings.run))
    applied = contents.records.get("apply manifest")
    few, many = _pictures(contents) if settings.pictures else ([], [])
    environment = Environment(
        loader=PackageLoader("reporting", "."), autoescape=True, undefined=StrictUndefined
    )
    environment.filters["share"] = lambda number: EMPTY if number is None else f"{number:.1%}"
    environment.filters["figure"] = lambda number: EMPTY if number is None else f"{number:.3f}"
    html = environment.get_template("page.html").render(
        contents=contents,
        problem=contents.policy.problem,
        certificate=contents.policy.certificate,
        headlines=_headlines(contents),
        drawn_charts=_charts(contents),
        transfers=_transfers(contents),
        cells=_cells(contents),
        opt_outs=None if applied is None else applied.opt_outs,
        balance=None if applied is None else applied.balance,
        few=few,
        many=many,
        fewest=charts.FEWEST,
    )
    if len(html.encode()) > LARGEST:
        raise InputError(
            f"the report of {settings.run} would be {len(html.encode()):,} bytes, above "
            f"{LARGEST:,}; leave the pictures out"
        )
    path = contents.run / "report.html"
    path.write_text(html)
    return path


def _pictures(contents: Contents) -> tuple[list[Picture], list[Picture]]:
    folder = str(contents.run / "annotations")
    return sample_pictures(folder, contents.catalogue, contents.policy, count=12)


def _headlines(contents: Contents) -> list[Headline]:
    before, after = contents.data.before, contents.data.planned
    found = [
        Headline(
            "data: representation bias",
            before.representation_bias,
            after.representation_bias,
            "lower",
        ),
        Headline(
            "data: association bias", before.association_bias, after.association_bias, "lower"
        ),
    ]
    comparison = contents.comparison
    if comparison is None or not {"original", "balanced"} <= set(comparison.arms):
        return found
    shown = {
        "representation_bias": "model: representation bias",
        "association_bias_mean": "model: association bias",
        "zero_shot_top1": "model: zero-shot top-1",
        "image_to_text_r5": "model: image-to-text R@5",
    }
    for row in comparison.measures:
        if row.measure in shown:
            original, balanced = row.arms["original"].mean, row.arms["balanced"].mean
            name = shown[row.measure]
            found.append(Headline(name, original, balanced, row.better, row.separated))
    return found


def _charts(contents: Contents) -> dict[str, Markup]:
    data, trials = contents.data, contents.trials
    wanted: dict[str, Callable[[], str]] = {
        "representation": lambda: charts.representation(data),
        "weights": lambda: charts.weights(data, contents.policy.problem.eta),
    }
    if contents.catalogue.label_names:
        wanted["association"] = lambda: charts.association(data, contents.catalogue)
    if len(contents.losses):
        wanted["losses"] = lambda: charts.losses(contents.losses)
    if trials:
        wanted["pairs"] = lambda: charts.pairs(trials)
    comparison = contents.comparison
    if comparison is not None:
        wanted["bias"] = lambda: charts.measures(comparison, "lower")
        wanted["quality"] = lambda: charts.measures(comparison, "higher")
    # The charts are our own markup: all text in them was escaped when they were rendered.
    return {name: Markup(draw()) for name, draw in wanted.items()}


@dataclass(frozen=True)
class Transfer:
    """Data against models, of one value: the chart, and each arm's figures."""

    drawing: Drawing
    figures: dict[str, tuple[Measurement, ...]]


def _transfers(contents: Contents) -> dict[str, Transfer]:
    """Bias transfer of each value worth a chart."""
    shown = charts.informative_values(contents.catalogue)
    found = transfer_points(contents.trials, contents.data)
    return {
        value: Transfer(transfer_scatter(found[value]), transfer_measurements(found[value]))
        for value in shown
        if value in found
    }


def _cells(contents: Contents) -> list[dict[str, object]]:
    """The association table, before and after side by side; cells of few examples are left out."""
    before = contents.data.before.association
    after = contents.data.planned.association
    both = before.select("value", "label", "examples", "target", "share", "association").hstack(
        after.select(
            after["share"].alias("share_after"),
            after["association"].alias("association_after"),
            "kept",
            "constrained",
            "within",
            "lost",
        )
    )
    shown = charts.informative_values(contents.catalogue)
    rows = both.filter(both["value"].is_in(shown) & (both["examples"] >= charts.FEWEST))
    return rows.to_dicts()
