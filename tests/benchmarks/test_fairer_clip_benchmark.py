"""The benchmark of fit times at a tiny size: what it fits, when it stops, what it prints."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import fairer_clip
from benchmarks.fairer_clip import (
    SHAPES,
    Accuracy,
    Adapter,
    Fitted,
    Outcome,
    Settings,
    Split,
    World,
    balanced,
    row,
    train,
    world_of,
    zero_shot,
)
from debias import FairerCLIP

TINY = Settings(dimensions=16, share=0.05, trials=2, rates=(1e-3, 1e-2), patience=2, epochs=6)


@pytest.fixture
def world() -> World:
    return world_of(SHAPES[0], 16, 0.2, seed=0)


@pytest.fixture
def few_features(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = tuple(replace(shape, method=FairerCLIP(features=40)) for shape in SHAPES)
    monkeypatch.setattr(fairer_clip, "SHAPES", shapes)


@pytest.mark.usefixtures("few_features")
def test_the_report_has_a_line_for_each_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "report.md"
    report = fairer_clip.main(replace(TINY, markdown=file))
    assert file.read_text() == capsys.readouterr().out
    names = [
        "zero-shot",
        "linear probe, reweighted",
        "FairerCLIP, labels given",
        "FairerCLIP, labels predicted",
        "adapter, learning rate 0.001",
        "adapter, learning rate 0.01",
    ]
    for table, shape in zip(report.tables, SHAPES, strict=True):
        assert shape.name in table.caption
        assert [line[0] for line in table.rows] == names
        lines = [dict(zip(table.columns, line, strict=True)) for line in table.rows]
        assert lines[2]["ratio to FairerCLIP with labels"] == "1 (1 to 1)"
        for line in lines:
            assert 0 <= float(line["worst cell"]) <= float(line["average"]) <= 1
            assert (line["epochs (best)"] != "") == line["fitted"].startswith("adapter")
        seconds = [float(line["seconds"] or 0) for line in lines]
        assert min(seconds[1:]) > 0


def test_cells_are_as_many_as_asked_for() -> None:
    birds, faces = SHAPES
    assert np.sum(birds.train) == 4795
    assert np.sum(faces.train) == pytest.approx(20_000, abs=2)
    whole = world_of(birds, 4, 1.0, seed=0)
    np.testing.assert_array_equal(np.bincount(whole.train.cells), [3498, 184, 56, 1057])
    np.testing.assert_array_equal(np.bincount(whole.test.cells), np.ravel(birds.test))
    part = world_of(birds, 4, 0.01, seed=0)
    np.testing.assert_array_equal(np.bincount(part.train.cells), [35, 2, 2, 11])
    np.testing.assert_array_equal(np.bincount(part.validation.cells), [5, 5, 2, 2])


@pytest.mark.parametrize("seed", range(5))
def test_prompts_lean_on_the_attribute(seed: int) -> None:
    world = world_of(SHAPES[0], 768, 0.5, seed)
    test, predicted = world.test, zero_shot(world).predict(world.test.images)
    right = [np.mean((predicted == test.labels)[test.cells == cell]) for cell in range(4)]
    assert min(right[0], right[3]) > 0.8  # class and attribute point to the same prompt
    assert max(right[1], right[2]) < 0.7
    other = world_of(SHAPES[0], 768, 0.5, seed + 5)
    assert not np.array_equal(world.texts, other.texts)
    again = world_of(SHAPES[0], 768, 0.5, seed)
    np.testing.assert_array_equal(world.train.images, again.train.images)


def test_accuracy_is_by_image_and_by_the_worst_cell() -> None:
    split = Split(np.zeros((6, 1)), np.array([0, 0, 0, 1, 1, 1]), np.array([0, 0, 1, 0, 1, 1]))
    found = Accuracy.of(np.array([0, 1, 0, 1, 0, 0]), split)
    assert found == Accuracy(0.0, 0.5)
    assert Accuracy.of(np.array([0, 1, 0, 1, 1, 1]), split) == Accuracy(0.5, pytest.approx(5 / 6))


def test_an_epoch_draws_each_cell_alike() -> None:
    cells = np.random.default_rng(0).permutation(np.repeat(range(4), [9000, 700, 50, 250]))
    rows = balanced(cells, np.random.default_rng(1))
    assert rows.shape == cells.shape
    np.testing.assert_allclose(np.bincount(cells[rows]) / 10_000, 0.25, atol=0.02)
    assert len(np.unique(rows[cells[rows] == 2])) == 50
    assert rows.max() < 10_000 and rows.min() >= 0
    assert len(np.unique(rows[cells[rows] == 0])) > 2000


def test_an_adapter_that_adds_nothing_is_zero_shot(world: World) -> None:
    adapter = Adapter(world.texts)
    for parameter in adapter.parameters():
        torch.nn.init.zeros_(parameter)
    expected = zero_shot(world).predict(world.test.images)
    np.testing.assert_array_equal(adapter.predict(world.test.images), expected)


@pytest.mark.parametrize("rate", [1e-3, 1e-2])
def test_the_best_epoch_is_kept_and_training_ends_after_the_patience(
    world: World, rate: float
) -> None:
    settings = replace(TINY, patience=3, epochs=60)
    fitted = train(world, settings, rate, seed=1)
    validated = Accuracy.of(fitted.predict(world.validation.images), world.validation)
    assert validated.worst == max(fitted.worst) == fitted.worst[fitted.best - 1]
    assert len(fitted.worst) == fitted.best + 3 < 60
    test, asked = world.test, zero_shot(world).predict(world.test.images)
    assert Accuracy.of(fitted.predict(test.images), test).worst > Accuracy.of(asked, test).worst
    cut = train(world, replace(settings, epochs=2), rate, seed=1)
    assert cut.worst == fitted.worst[:2]
    again = train(world, settings, rate, seed=1)
    np.testing.assert_array_equal(again.predict(test.images), fitted.predict(test.images))
    assert again.worst == fitted.worst


def test_the_first_of_equal_epochs_is_the_best() -> None:
    assert Fitted(lambda images: images, (0.1, 0.5, 0.5, 0.2)).best == 2


def test_a_line_tells_medians_and_ratios_by_hand() -> None:
    accuracy = Accuracy(0.5, 0.75)
    reference = [Outcome(accuracy, 1.0, seconds, 0, 0) for seconds in (1.0, 2.0, 4.0)]
    outcomes = [Outcome(accuracy, 9.0, 8.0, epochs, 4) for epochs in (8, 16, 16)]
    assert row("adapter", outcomes, reference) == (
        "adapter", "0.500", "0.750", "0.250", "9.00", "8.00", "16 (4)", "0.500",
        "4 (2 to 8)", "1 (0.5 to 4)",
    )  # fmt: skip
    assert row("probe", reference, reference)[4:] == (
        "1.00", "2.00", "", "", "1 (1 to 1)", "",
    )  # fmt: skip
    assert row("zero-shot", reference, reference)[4:] == ("",) * 6
