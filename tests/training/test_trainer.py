import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from m4.errors import InputError
from pipelines.receipt_check import ReceiptCheck, check_receipt
from pipelines.receipts import read_receipt
from training.checkpoints import checkpoint_steps, read_checkpoint
from training.encode import encode_images, load_checkpoint
from training.log import read_log
from training.trainer import TrainSettings, learning_rate, make_optimizer, receipt_path, train
from vision.model import ModelSettings, build_model


@pytest.fixture(scope="module")
def settings_for(small_model: ModelSettings) -> Callable[..., TrainSettings]:
    def make(manifest: str, out: Path, **changed: Any) -> TrainSettings:
        given = {
            "batch_size": 16,
            "steps": 8,
            "warmup_steps": 2,
            "checkpoint_every": 4,
            "log_every": 3,
            "threads": 1,
            "device": "cpu",
            "model": small_model,
            **changed,
        }
        return TrainSettings(manifest=manifest, out=str(out), **given)

    return make


@pytest.fixture(scope="module")
def manifest(pictures, tmp_path_factory: pytest.TempPathFactory) -> str:
    return pictures.manifest(tmp_path_factory.mktemp("manifest"), lambda number: 1 + number % 2)


@pytest.fixture(scope="module")
def learnable(draw_pictures: Callable, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Manifests to learn from and to be examined on, of different pictures."""
    folder = tmp_path_factory.mktemp("learnable")
    taught = draw_pictures(folder / "taught", shards=4, each=200, seed=1)
    asked = draw_pictures(folder / "asked", shards=1, each=100, seed=2)
    return taught.manifest(folder / "a"), asked.manifest(folder / "b")


@pytest.mark.parametrize(("loss", "precision"), [("clip", "fp32"), ("siglip", "bf16")])
def test_it_learns(
    tmp_path: Path, learnable: tuple[str, str], settings_for: Callable, loss: str, precision: str
):
    taught, asked = learnable
    settings = settings_for(
        taught,
        tmp_path,
        loss=loss,
        precision=precision,
        batch_size=64,
        steps=90,
        learning_rate=4e-3,
        warmup_steps=10,
        cache_images=True,
        log_every=1,
        checkpoint_every=1000,
    )
    result = train(settings)
    lines = read_log(tmp_path / "log.jsonl")
    if loss == "clip":
        assert lines[0].loss > 0.8 * math.log(64)
        assert result.loss < 0.55 * math.log(64)
    else:
        assert result.loss < 0.6 * lines[0].loss
    model = load_checkpoint(result.checkpoint)
    found = encode_images(model, asked)
    texts = model.encode_texts(sorted(set(found.captions)))
    best = np.argmax(found.features @ texts.T, axis=1)
    right = np.array(sorted(set(found.captions)))[best] == np.array(found.captions)
    assert right.mean() > 0.3  # chance is below 0.02


def test_the_result_and_what_it_leaves(tmp_path: Path, manifest: str, settings_for: Callable):
    seen = []
    settings = settings_for(manifest, tmp_path, steps=10, checkpoint_every=3)
    result = train(settings, progress=lambda done, of: seen.append((done, of)))
    assert seen == [(step, 10) for step in range(1, 11)]
    assert result.checkpoint == str(tmp_path / "step-00000010.pt")
    # 90 samples an epoch: five batches of 16 and one of 10.
    assert (result.steps, result.samples, result.epochs) == (10, 90 + 4 * 16, 2)
    assert result.failures == {} and result.seconds > 0
    assert checkpoint_steps(tmp_path) == [6, 9, 10]
    lines = read_log(tmp_path / "log.jsonl")
    assert [line.step for line in lines] == [3, 6, 9, 10]
    assert [line.samples for line in lines] == [48, 90, 138, 154]
    assert [line.epoch for line in lines] == [0, 0, 1, 1]
    assert lines[1].learning_rate == pytest.approx(learning_rate(settings, 5))
    assert lines[-1].loss == result.loss
    again = train(settings)  # there is nothing left to do
    assert (again.loss, again.samples, again.epochs) == (result.loss, result.samples, 2)
    assert read_log(tmp_path / "log.jsonl") == lines


CHILD = """
import os, signal, sys
import torch
from pipelines import storage
from training.trainer import TrainSettings, train
settings = TrainSettings.model_validate_json(sys.argv[1])
step, during = int(sys.argv[2]), sys.argv[3]
def die():
    os.kill(os.getpid(), signal.SIGKILL)
def progress(done, of):
    if during == "training" and done == step:
        die()
save = torch.save
def half(content, stream):
    if during == "saving" and content["step"] == step:
        stream.write(b"half a checkpoint")
        stream.flush()
        die()
    save(content, stream)
torch.save = half
train(settings, progress=progress)
"""


def killed(settings: TrainSettings, step: int, during: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHILD, settings.model_dump_json(), str(step), during],
        env={**os.environ, "PYTHONPATH": os.getcwd(), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        timeout=300,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


def test_a_killed_run_ends_with_the_same_bits(
    tmp_path: Path, manifest: str, settings_for: Callable
):
    changed = {"steps": 16, "crop": 0.8, "log_every": 3, "loss": "siglip"}
    whole = train(settings_for(manifest, tmp_path / "whole", **changed))
    settings = settings_for(manifest, tmp_path / "killed", **changed)
    killed(settings, 7, "training")  # a line of the log is ahead of the checkpoint
    killed(settings, 12, "saving")
    assert checkpoint_steps(tmp_path / "killed") == [4, 8]
    assert list((tmp_path / "killed").glob("*.partial"))
    resumed = train(settings)
    one, other = read_checkpoint(whole.checkpoint), read_checkpoint(resumed.checkpoint)
    assert all(torch.equal(weight, other.model[name]) for name, weight in one.model.items())
    for number, state in one.optimizer["state"].items():
        for name, value in state.items():
            assert torch.equal(value, other.optimizer["state"][number][name])
    assert (one.epoch, one.batch, one.samples) == (other.epoch, other.batch, other.samples)
    assert whole.loss == resumed.loss and whole.samples == resumed.samples
    lines, expected = (
        [(line.step, line.samples, line.loss) for line in read_log(tmp_path / run / "log.jsonl")]
        for run in ("killed", "whole")
    )
    assert lines == expected
    assert not list((tmp_path / "killed").glob("*.partial"))
    assert receipts_of(tmp_path / "killed") == receipts_of(tmp_path / "whole")


def test_workers_do_not_hinder_going_on(tmp_path: Path, manifest: str, settings_for: Callable):
    changed = {"workers": 2, "redraw": False, "steps": 9, "checkpoint_every": 5}
    whole = train(settings_for(manifest, tmp_path / "whole", **changed))
    settings = settings_for(manifest, tmp_path / "stopped", **changed)

    def stop(done: int, of: int) -> None:
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(settings, progress=stop)
    resumed = train(settings)
    one, other = read_checkpoint(whole.checkpoint), read_checkpoint(resumed.checkpoint)
    assert all(torch.equal(weight, other.model[name]) for name, weight in one.model.items())


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a folder and the folders in it."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def receipts_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "receipts").iterdir())}


def check_receipts(manifest: str, folder: Path) -> ReceiptCheck:
    paths = sorted(str(path) for path in (folder / "receipts").iterdir())
    return check_receipt(manifest, {path: read_receipt(path) for path in paths})


def test_receipts_count_nothing_twice(tmp_path: Path, pictures, settings_for: Callable):
    """About six steps an epoch and a checkpoint every four: the stop leaves a receipt ahead."""
    folder = pictures.manifest(
        tmp_path / "manifest", lambda number: 0, lambda number: (0.5, 1.0, 2.5)[number % 3]
    )
    changed = {"steps": 15, "redraw": True, "checkpoint_every": 4, "seed": 2}
    train(settings_for(folder, tmp_path / "whole", **changed))
    settings = settings_for(folder, tmp_path / "stopped", **changed)

    def stop(done: int, of: int) -> None:
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(settings, progress=stop)
    assert read_receipt(str(receipt_path(tmp_path / "stopped", 0))).finished
    train(settings)
    assert receipts_of(tmp_path / "stopped") == receipts_of(tmp_path / "whole")
    found = check_receipts(folder, tmp_path / "stopped")
    assert found.agrees
    assert [each.finished for each in found.epochs] == [True, True, False]
    assert [each.redraw_seed for each in found.epochs] == [2, 2, 2]
    assert 0 < found.epochs[2].share_read < 1
    for each in found.epochs[:2]:
        assert each.uses.read == each.uses.planned and len(each.weights) == 3


def test_a_receipt_stands_for_what_was_not_read(
    tmp_path: Path, draw_pictures: Callable, settings_for: Callable
):
    """A sample set aside is accounted for; a shard left out, as by another program, is named."""
    mine = draw_pictures(tmp_path / "tars")
    folder = mine.manifest(tmp_path / "manifest")
    shard = mine.shards[0]
    with open(shard.path, "r+b") as tar:
        tar.seek(mine.samples(shard)[0].span.offset + 512)
        tar.write(b"\0" * 200)
    train(settings_for(folder, tmp_path / "run", steps=9, max_failures=0.2, workers=2))
    found = check_receipts(folder, tmp_path / "run")
    assert found.agrees and [each.finished for each in found.epochs] == [True, False]
    assert (found.epochs[0].uses.read, found.epochs[0].uses.failed) == (59, 1)
    path = str(receipt_path(tmp_path / "run", 0))
    receipt = read_receipt(path)
    shards = {stem: each for stem, each in receipt.shards.items() if stem != "00001"}
    rest = receipt.weights[0].model_copy(update={"read": 39})
    receipt.model_copy(update={"shards": shards, "weights": (rest,)}).write(path)
    first, second = check_receipts(folder, tmp_path / "run").epochs
    assert [(each.where, each.uses) for each in first.differences] == [
        ("all samples", 20),
        ("shard 00001", 20),
    ]
    assert not second.differences


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_that_ends_with_the_last_step_is_finished(
    tmp_path: Path, manifest: str, settings_for: Callable, workers: int
):
    """90 samples in batches of at most 16: five whole ones and one of 10, or two short ones."""
    steps = 6 if workers == 0 else 7
    for number, finished in ((steps - 1, False), (steps, True)):
        folder = tmp_path / str(number)
        train(settings_for(manifest, folder, steps=number, workers=workers))
        (epoch,) = check_receipts(manifest, folder).epochs
        assert epoch.finished == finished and not epoch.differences
        assert (epoch.uses.missing == 0) == finished


def test_a_shard_missing_in_the_last_epoch_is_found(
    tmp_path: Path, pictures, manifest: str, settings_for: Callable
):
    """As if training had read a copy of the manifest that lacks a shard's samples."""
    fewer = pictures.manifest(
        tmp_path / "fewer", lambda number: 0 if 20 <= number < 40 else 1 + number % 2
    )
    settings = settings_for(fewer, tmp_path / "run", steps=4)
    assert train(settings).samples == 60
    found = check_receipt(manifest, {"last": read_receipt(str(receipt_path(tmp_path / "run", 0)))})
    (epoch,) = found.epochs
    assert epoch.finished and [each.where for each in epoch.differences] == [
        "all samples",
        "shard 00001",
    ]


def test_a_run_with_nothing_left_to_do_writes_its_last_receipt_again(
    tmp_path: Path, manifest: str, settings_for: Callable
):
    settings = settings_for(manifest, tmp_path / "run", steps=6)
    train(settings)
    before = receipts_of(tmp_path / "run")
    receipt_path(tmp_path / "run", 0).unlink()
    train(settings)
    assert receipts_of(tmp_path / "run") == before
    assert read_receipt(str(receipt_path(tmp_path / "run", 0))).finished


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"learning_rate": 0.5}, "with learning_rate 0.001, but 0.5 is given"),
        ({"loss": "siglip"}, "with loss 'clip', but 'siglip'"),
        ({"steps": 9}, "with steps 8, but 9"),
        ({"precision": "bf16"}, "with precision 'fp32', but 'bf16'"),
    ],
)
def test_other_settings_are_no_continuation(
    finished: Path, manifest: str, settings_for: Callable, changed: dict, message: str
):
    before = contents(finished)
    with pytest.raises(InputError, match=message):
        train(settings_for(manifest, finished, **changed))
    assert contents(finished) == before


@pytest.fixture(scope="module")
def finished(
    manifest: str, settings_for: Callable, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    train(settings_for(manifest, folder))
    return folder


def test_another_manifest_is_no_continuation(tmp_path: Path, pictures, settings_for: Callable):
    folder = pictures.manifest(tmp_path / "manifest")
    train(settings_for(folder, tmp_path / "run"))
    marker = tmp_path / "manifest" / "00001.json"
    marker.write_text(marker.read_text().replace('"settings": "test"', '"settings": "other"'))
    with pytest.raises(InputError, match="another content of manifest"):
        train(settings_for(folder, tmp_path / "run"))


def test_the_seed_decides(tmp_path: Path, finished: Path, manifest: str, settings_for: Callable):
    def weights(folder: Path) -> torch.Tensor:
        return read_checkpoint(folder / "step-00000008.pt").model["text_projection"]

    state = torch.get_rng_state()
    train(settings_for(manifest, tmp_path / "same"))
    assert torch.equal(torch.get_rng_state(), state)  # the caller's generator is left alone
    train(settings_for(manifest, tmp_path / "other", seed=1))
    assert torch.equal(weights(tmp_path / "same"), weights(finished))
    assert not torch.equal(weights(tmp_path / "other"), weights(finished))


def test_a_loss_that_is_no_number_stops_the_run(
    tmp_path: Path, manifest: str, settings_for: Callable
):
    settings = settings_for(
        manifest, tmp_path, learning_rate=1e38, warmup_steps=0, checkpoint_every=1
    )
    with pytest.raises(InputError, match=r"step 2: the loss is (nan|inf).*lower learning_rate"):
        train(settings)
    assert checkpoint_steps(tmp_path) == [1]


def test_too_many_failures_end_the_run(
    tmp_path: Path, draw_pictures: Callable, settings_for: Callable
):
    mine = draw_pictures(tmp_path / "tars", shards=1, each=40)
    folder = mine.manifest(tmp_path / "manifest")
    shard = mine.shards[0]
    with open(shard.path, "r+b") as tar:
        for sample in mine.samples(shard)[:4]:
            tar.seek(sample.span.offset + 512)
            tar.write(b"\0" * 200)
    with pytest.raises(InputError, match=r"more than max_failures 0.05 allows \(\d image cannot"):
        train(settings_for(folder, tmp_path / "strict", max_failures=0.05))
    result = train(settings_for(folder, tmp_path / "lenient", max_failures=0.2))
    assert result.steps == 8
    reason = "image cannot be decoded: UnidentifiedImageError"
    # 8 steps are two epochs of three batches and two batches more.
    assert 8 <= result.failures[reason] <= 12
    assert result.samples + result.failures[reason] == 2 * 40 + 2 * 16


def test_settings_that_cannot_work(
    tmp_path: Path, manifest: str, settings_for: Callable, monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(InputError, match="batch_size is 1000, but an epoch has 90 samples"):
        train(settings_for(manifest, tmp_path, batch_size=1000))
    with pytest.raises(InputError, match="is remote"):
        train(settings_for(manifest, tmp_path).model_copy(update={"out": "gs://bucket/run"}))
    with pytest.raises(ValidationError, match="Extra inputs"):
        settings_for(manifest, tmp_path, lr=0.1)
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="torch sees none"):
            train(settings_for(manifest, tmp_path, device="cuda"))
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="WORLD_SIZE is 2"):
        train(settings_for(manifest, tmp_path))


def test_the_learning_rate(settings_for: Callable, tmp_path: Path):
    settings = settings_for("m", tmp_path, steps=110, warmup_steps=10, learning_rate=2.0)
    rates = [learning_rate(settings, step) for step in range(111)]
    assert rates[:10] == pytest.approx([0.2 * (step + 1) for step in range(10)])
    assert max(rates) == rates[10] == 2.0 and rates[60] == pytest.approx(1.0)
    assert rates[110] == pytest.approx(0.0)
    assert all(later < earlier for earlier, later in pairwise(rates[10:]))
    without = settings_for("m", tmp_path, warmup_steps=0)
    assert learning_rate(without, 0) == without.learning_rate


def test_only_matrices_decay(small_model: ModelSettings, settings_for: Callable, tmp_path: Path):
    model = build_model(small_model, "siglip")
    optimizer = make_optimizer(model, settings_for("m", tmp_path, weight_decay=0.3))
    decays = {
        id(weight): group["weight_decay"]
        for group in optimizer.param_groups
        for weight in group["params"]
    }
    found = {name: decays[id(weight)] for name, weight in model.named_parameters()}
    assert found["visual.conv1.weight"] == found["token_embedding.weight"] == 0.3
    for name, decay in found.items():
        if "bias" in name or "ln_" in name or "logit" in name:
            assert decay == 0, name


def test_auto_is_replaced_by_what_was_used(finished: Path, tmp_path: Path, manifest, settings_for):
    settings = settings_for(manifest, tmp_path, precision="auto", device="auto", steps=1)
    result = train(settings)
    kept = read_checkpoint(result.checkpoint).settings
    assert kept["precision"] in ("fp32", "bf16") and kept["device"] in ("cpu", "cuda")
    assert train(settings).samples == result.samples
