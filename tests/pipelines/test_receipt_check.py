"""The check of receipts: what differs from the plan is found and named, and nothing else."""

import random
import re
from pathlib import Path

import pytest

from m4.errors import InputError
from pipelines.copies import Manifest
from pipelines.receipt_check import SIGNIFICANCE
from pipelines.receipts import Use, UseCounter
from tests.manifest_plans import (
    WEIGHTS,
    check,
    differences,
    planned_uses,
    receipt_of,
    write_plan,
    write_weighted_plan,
)


@pytest.fixture
def plain(tmp_path: Path) -> str:
    """Three shards of 30 samples, used up to three times, without weights."""
    return write_plan(tmp_path / "plain", [[(row + n) % 4 for row in range(30)] for n in range(3)])


@pytest.fixture(scope="module")
def weighted(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_weighted_plan(tmp_path_factory.mktemp("weighted"))


def test_an_epoch_that_was_read_as_planned(plain: str, weighted: str) -> None:
    for folder, names in ((plain, [None]), (weighted, list(WEIGHTS))):
        manifest = Manifest(folder)
        all_uses = planned_uses(manifest)
        parts = [all_uses[number::3] for number in range(3)]  # each worker sees every shard
        counters = [UseCounter.begin(manifest, 0) for _ in parts]
        for number, (counter, part) in enumerate(zip(counters, parts, strict=True)):
            counter.count(part[number:])
            counter.count(part[:number], failed=True)
        found = check(folder, *(each.receipt(finished=True) for each in counters))
        assert found.agrees and not differences(found)
        (epoch,) = found.epochs
        assert epoch.uses.planned == len(all_uses) and epoch.uses.missing == 0
        assert epoch.uses.failed == 3 and epoch.share_read == 1.0
        assert [each.weight for each in epoch.weights] == names
        assert sum(each.uses.planned for each in epoch.weights) == len(all_uses)
        assert all(each.uses.missing == 0 for each in epoch.weights)


def test_epochs_that_draw_afresh(weighted: str) -> None:
    manifest = Manifest(weighted, redraw=True, seed=4)
    read = [
        receipt_of(manifest, planned_uses(manifest, epoch), epoch=epoch, finished=True)
        for epoch in (0, 1)
    ]
    found = check(weighted, *read)
    assert found.agrees and [each.epoch for each in found.epochs] == [0, 1]
    assert found.epochs[0].uses.planned != found.epochs[1].uses.planned
    swapped = read[1].model_copy(update={"epoch": 0})
    assert not check(weighted, swapped).agrees
    plain = receipt_of(Manifest(weighted), [])
    with pytest.raises(InputError, match=r"0.json and 1.json have redraw_seed 4 and None"):
        check(weighted, read[0], plain)


def test_a_shard_that_was_skipped_is_named(weighted: str) -> None:
    manifest = Manifest(weighted)
    read = [use for use in planned_uses(manifest) if use.stem != "00007"]
    says = differences(check(weighted, receipt_of(manifest, read, finished=True)))
    shards = {where: what for where, what in says.items() if where.startswith("shard")}
    assert list(shards) == ["shard 00007"]
    assert re.fullmatch(r"not read, \d+ uses planned", shards["shard 00007"])
    assert set(says) - set(shards) == {f"weight {weight:g}" for weight in WEIGHTS}


def test_a_shard_that_was_cut_off_is_named(plain: str) -> None:
    manifest = Manifest(plain)
    read = [use for use in planned_uses(manifest) if use.stem != "00001" or use.offset < 20 * 1024]
    says = differences(check(plain, receipt_of(manifest, read, finished=True)))
    assert says["shard 00001"] == "15 of 45 uses missing; it ends with another sample"
    assert set(says) == {"shard 00001", "all samples"}


def test_one_use_more_or_less_is_found(plain: str) -> None:
    manifest = Manifest(plain)
    every = planned_uses(manifest)
    fewer = differences(check(plain, receipt_of(manifest, every[1:], finished=True)))
    assert fewer[f"shard {every[0].stem}"].startswith("1 of ")
    more = receipt_of(manifest, [*every, every[5]], finished=True)
    says = differences(check(plain, more))[f"shard {every[5].stem}"]
    assert says.startswith("1 more than the ")
    # Also in an epoch that was stopped elsewhere.
    rest = [use for use in every if use.stem == every[5].stem]
    stopped = receipt_of(manifest, [*rest, every[5]])
    assert set(differences(check(plain, stopped))) == {f"shard {every[5].stem}"}


def test_other_samples_at_the_ends_are_found(plain: str) -> None:
    manifest = Manifest(plain)
    every = planned_uses(manifest)
    last = max((use for use in every if use.stem == "00002"), key=lambda use: use.offset)
    other = [use._replace(key="other") if use == last else use for use in every]
    says = differences(check(plain, receipt_of(manifest, other, finished=True)))
    assert says == {"shard 00002": "it ends with another sample"}


def test_a_shard_of_another_manifest(plain: str) -> None:
    manifest = Manifest(plain)
    strange = Use("99999", 0, "key", None)
    read = [*planned_uses(manifest), strange]
    says = differences(check(plain, receipt_of(manifest, read, finished=True)))
    assert says["shard 99999"] == "the manifest has no such shard"


def test_no_receipt_is_no_agreement(plain: str) -> None:
    with pytest.raises(InputError, match="no receipts to compare"):
        check(plain)


def test_a_weight_that_the_manifest_does_not_have(weighted: str) -> None:
    manifest = Manifest(weighted)
    first, *others = planned_uses(manifest)
    for finished in (True, False):
        read = [first._replace(weight=0.125), *others]
        says = differences(check(weighted, receipt_of(manifest, read, finished=finished)))
        assert says["weight 0.125"] == "1 more than the 0 uses planned"
        assert (f"weight {first.weight:g}" in says) == finished


def test_receipts_of_another_manifest_are_not_compared(plain: str, tmp_path: Path) -> None:
    other = Manifest(write_plan(tmp_path / "other", [[1, 1], [1, 2]]))
    manifest = Manifest(plain)
    good = receipt_of(manifest, planned_uses(manifest), finished=True)
    found = check(plain, receipt_of(other, planned_uses(other), finished=True), good)
    assert not found.agrees
    (sentence,) = found.strangers
    assert sentence.startswith("0.json: written for another content of the manifest")
    assert not any(epoch.differences for epoch in found.epochs) and len(found.epochs) == 1


@pytest.mark.parametrize("share", [0.03, 0.3, 0.6, 0.9, 0.999])
def test_an_epoch_that_was_stopped_agrees_in_either_order(weighted: str, share: float) -> None:
    manifest = Manifest(weighted)
    for seed in range(4):
        in_rounds = planned_uses(manifest, seed=seed)
        shuffled = random.Random(seed).sample(in_rounds, len(in_rounds))
        together = sorted(in_rounds, key=lambda use: (use.stem, use.offset))
        for order in (in_rounds, together, shuffled):
            read = order[: int(share * len(order))]
            found = check(weighted, receipt_of(manifest, read))
            (epoch,) = found.epochs
            assert found.agrees, (seed, epoch.differences)
            assert epoch.share_read == pytest.approx(share, abs=2e-4)
            assert epoch.p_value is not None and epoch.p_value > SIGNIFICANCE


@pytest.mark.parametrize("weight", WEIGHTS)
def test_a_weight_read_less_often_is_named(weighted: str, weight: float) -> None:
    manifest = Manifest(weighted)
    generator = random.Random(1)
    kept = [
        use for use in planned_uses(manifest) if use.weight != weight or generator.random() < 0.6
    ]
    says = differences(check(weighted, receipt_of(manifest, kept, finished=True)))
    of_weights = {where for where in says if where.startswith("weight")}
    assert of_weights == {f"weight {weight:g}"} and "missing" in says[f"weight {weight:g}"]
    stopped = check(weighted, receipt_of(manifest, kept[: len(kept) // 2]))
    assert set(differences(stopped)) == {f"weight {weight:g}"}
    assert "not those planned" in differences(stopped)[f"weight {weight:g}"]


def test_a_stopped_epoch_with_few_uses_is_no_evidence(weighted: str) -> None:
    manifest = Manifest(weighted)
    first = planned_uses(manifest)[:3]
    (epoch,) = check(weighted, receipt_of(manifest, first)).epochs
    assert epoch.p_value == 1.0 and not epoch.differences


def test_an_epoch_of_which_nothing_was_read_does_not_agree(plain: str, weighted: str) -> None:
    for folder in (plain, weighted):
        nothing = receipt_of(Manifest(folder), [])
        found = check(folder, nothing)
        (epoch,) = found.epochs
        assert not found.agrees and epoch.p_value is None and epoch.share_read == 0.0
        planned = epoch.uses.planned
        assert differences(found) == {"all samples": f"not read, {planned:,} uses planned"}
        some = receipt_of(Manifest(folder), planned_uses(Manifest(folder))[:3])
        assert check(folder, nothing, some).agrees  # a worker whose shards had not come yet


def test_of_an_epoch_that_plans_nothing_nothing_is_missed(tmp_path: Path) -> None:
    folder = write_plan(tmp_path, [[0, 0], [0]])
    for finished in (True, False):
        assert check(folder, receipt_of(Manifest(folder), [], finished=finished)).agrees


def test_an_epoch_between_others_has_to_have_a_receipt(plain: str) -> None:
    manifest = Manifest(plain)
    every = planned_uses(manifest)

    def gaps(*epochs: int) -> tuple[str, ...]:
        found = check(plain, *(receipt_of(manifest, every, epoch=each) for each in epochs))
        assert found.agrees == (not found.gaps)
        assert not any(epoch.differences for epoch in found.epochs)
        return found.gaps

    assert gaps(0, 1, 2) == gaps(4, 3) == ()  # a run may go on with what another began
    assert gaps(0, 2) == ("epoch 1: no receipt",)
    assert gaps(1000, 0, 1, 3) == ("epoch 2: no receipt", "epochs 4 to 999: no receipt")


def test_a_weight_that_the_shards_read_do_not_hold_is_named(tmp_path: Path) -> None:
    """Shard by shard other weights; what was read of the first is counted under the second's."""
    folder = write_plan(tmp_path, [[1] * 40] * 2, lambda shard, row: float(2 * shard + row % 2))
    manifest = Manifest(folder)
    first = [use for use in planned_uses(manifest) if use.stem == "00000"]
    assert check(folder, receipt_of(manifest, first)).agrees
    mixed = [use._replace(weight=3.0) if use.weight == 1.0 else use for use in first]
    says = differences(check(folder, receipt_of(manifest, mixed)))
    assert says["weight 3"].startswith("20 uses read, about 0 expected") and len(says) == 1


def test_differences_come_with_the_largest_first(weighted: str) -> None:
    manifest = Manifest(weighted)
    dropped = {"00003": 40, "00009": 90, "00011": 10}
    read = []
    for use in planned_uses(manifest):
        if dropped.get(use.stem, 0) > 0:
            dropped[use.stem] -= 1
        else:
            read.append(use)
    (epoch,) = check(weighted, receipt_of(manifest, read, finished=True)).epochs
    shards = [each for each in epoch.differences if each.where.startswith("shard")]
    assert [each.where[-2:] for each in shards] == ["09", "03", "11"]
    assert [each.uses for each in shards] == [90, 40, 10]
    assert epoch.uses.missing == 140
