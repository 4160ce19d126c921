from pathlib import Path
from typing import Any

import pytest
import torch

from m4.errors import InputError
from training.checkpoints import (
    Checkpoint,
    check_same_run,
    checkpoint_path,
    checkpoint_steps,
    latest_checkpoint,
    read_checkpoint,
    save_checkpoint,
)


def checkpoint(step: int, **settings: Any) -> Checkpoint:
    return Checkpoint(
        step=step,
        settings={"manifest": "m", "model": {"name": None, "image_size": 64}, **settings},
        manifest="f" * 64,
        model={"weight": torch.full((2, 3), float(step))},
        optimizer={
            "state": {0: {"step": torch.tensor(1.0)}},
            "param_groups": [{"betas": (0.9, 1)}],
        },
        random=[torch.get_rng_state()],
        epoch=2,
        batch=5,
        samples=40,
        loss=0.5,
        window=[0.25],
        failures={"no image": 1},
        receipt={"manifest": "m", "epoch": 2, "weights": [{"weight": 0.5, "read": 0}]},
    )


def test_what_is_written_is_read_back(tmp_path: Path):
    path = save_checkpoint(tmp_path, checkpoint(7), final=False)
    found = read_checkpoint(path)
    assert path.name == "step-00000007.pt"
    assert torch.equal(found.model["weight"], torch.full((2, 3), 7.0))
    expected = vars(checkpoint(7))
    for name in sorted(expected.keys() - {"model", "random"}):
        assert getattr(found, name) == expected[name], name
    assert torch.equal(found.random[0], expected["random"][0])


def test_the_last_two_and_the_final_one_are_kept(tmp_path: Path):
    for step in (5, 10, 15, 20):
        save_checkpoint(tmp_path, checkpoint(step), final=False)
        assert len(checkpoint_steps(tmp_path)) <= 2
    save_checkpoint(tmp_path, checkpoint(22), final=True)
    assert checkpoint_steps(tmp_path) == [15, 20, 22]
    found = latest_checkpoint(tmp_path)
    assert found is not None and found.step == 22


def test_half_written_files_are_cleared_away(tmp_path: Path):
    half = tmp_path / "step-00000010.pt.0123abcd.partial"
    half.write_bytes(b"half")
    assert latest_checkpoint(tmp_path) is None
    assert not half.exists()


def test_a_file_that_is_no_checkpoint(tmp_path: Path):
    path = checkpoint_path(tmp_path, 3)
    with pytest.raises(InputError, match="no such checkpoint"):
        read_checkpoint(path)
    for content in (b"", b"nonsense", b"PK\x03\x04 broken"):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"step-00000003.pt: not a checkpoint"):
            latest_checkpoint(tmp_path)
    torch.save({"state_dict": {}}, path)
    with pytest.raises(InputError, match=r"not a checkpoint.*; give another, or move it away"):
        read_checkpoint(path)


class _Harmful:
    def __reduce__(self) -> tuple:
        return (pytest.fail, ("code of the checkpoint was run",))


def test_no_code_of_a_checkpoint_is_run(tmp_path: Path):
    torch.save({"step": _Harmful()}, tmp_path / "step-00000001.pt")
    with pytest.raises(InputError, match=r"UnpicklingError"):
        read_checkpoint(tmp_path / "step-00000001.pt")


def test_another_run_is_refused_by_name_and_values(tmp_path: Path):
    found = checkpoint(3, seed=1)
    settings = found.settings
    check_same_run(tmp_path, found, settings, "f" * 64)
    with pytest.raises(InputError, match="with seed 1, but 2 is given"):
        check_same_run(tmp_path, found, {**settings, "seed": 2}, "f" * 64)
    other = {**settings, "model": {"name": None, "image_size": 32}}
    with pytest.raises(InputError, match=r"model\.image_size 64, but 32"):
        check_same_run(tmp_path, found, other, "f" * 64)
    with pytest.raises(InputError, match="another content of manifest m"):
        check_same_run(tmp_path, found, settings, "e" * 64)
