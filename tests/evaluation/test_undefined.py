"""Tasks that have no answer for a model: noted, and the others are as if they were not there."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from debias import OrthogonalProjection
from evaluation.labelled_set import LabelledSet
from evaluation.protocol import Protocol, run_protocol
from evaluation.resampling import Resampling
from evaluation.results import ProtocolRun, compare_runs, load_result
from m4.errors import InputError, UndefinedError
from reporting.evaluation_page import ProtocolSection, evaluation_page

RESAMPLING = Resampling(resamples=100, permutations=100)
CLASSES = ("nurse", "doctor", "chef")
D = 8
IMAGES = 120


def direction(text: str) -> np.ndarray:
    return np.random.default_rng(sum(map(ord, text))).normal(size=D)


def encode_texts(texts: Sequence[str]) -> np.ndarray:
    return np.array([direction(text) for text in texts])


def images(seed: int = 0) -> LabelledSet:
    """Faces with a class, a gender and captions."""
    random = np.random.default_rng(seed)
    numbers = np.arange(IMAGES) % len(CLASSES)
    noise = random.normal(size=(IMAGES, D))
    labels = pl.DataFrame(
        {
            "cls": numbers.astype(str),
            "gender": np.random.default_rng(1).permutation(np.repeat(["f", "m"], IMAGES // 2)),
        }
    )
    return LabelledSet(
        "faces",
        "digest",
        tuple(map(str, range(IMAGES))),
        encode_texts([CLASSES[number] for number in numbers]) + noise,
        labels,
        captions=tuple((f"caption {row}",) for row in range(IMAGES)),
        classes=CLASSES,
        templates=("{}",),
    )


def prompts_of(folder: Path) -> str:
    path = folder / "traits.yaml"
    path.write_text(
        "name: traits\nsource: ours\ntemplates: ['{}']\nphrases: {kind: kind, rude: rude}"
    )
    return str(path)


@pytest.fixture
def tasks(tmp_path: Path) -> dict[str, dict[str, Any]]:
    """Three tasks that ask by different words."""
    prompts = prompts_of(tmp_path)
    return {
        "skew": {"kind": "retrieval_skew", "prompts": prompts, "attribute": "gender", "k": 20},
        "jobs": {"kind": "zero_shot"},
        "captions": {"kind": "retrieval", "ks": [1, 5]},
    }


def protocol_of(tasks: dict[str, Any], **more: Any) -> Protocol:
    given = {"name": "own", "title": "t", "source": "s", "sets": {"images": "faces"}}
    return Protocol.model_validate({**given, "tasks": tasks, **more})


ABLE = {"able": {"ABLE": {"accuracy": "jobs", "skew": "skew"}}}
WORDS = {"skew": "kind", "jobs": "doctor", "captions": "caption 7"}  # that a task asks by


def run(
    protocol: Protocol,
    undefined: Sequence[str] = (),
    error: type[Exception] = UndefinedError,
    model: str = "toy",
    seed: int = 0,
) -> ProtocolRun:
    """With an encoder that has no answer where a text is one of the words of those tasks."""
    gone = {WORDS[task] for task in undefined}

    def encode(texts: Sequence[str]) -> np.ndarray:
        for text in texts:
            if text in gone:
                raise error(f"nothing is left of {text!r}")
        return encode_texts(texts)

    return run_protocol(
        protocol, {"images": images(seed)}, encode, model=model, resampling=RESAMPLING
    )


def check_same_draws(found: Sequence[Any], wanted: Sequence[Any]) -> None:
    assert [each.names for each in found] == [each.names for each in wanted]
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one.observed, other.observed)
        np.testing.assert_array_equal(one.bootstrap, other.bootstrap)


@pytest.mark.parametrize("task", list(WORDS))
def test_the_other_tasks_are_as_if_it_were_not_there(tasks: dict, task: str):
    found = run(protocol_of(tasks), [task])
    assert found.result.undefined == {task: f"nothing is left of {WORDS[task]!r}"}
    wanted = run(protocol_of({name: tasks[name] for name in tasks if name != task}))
    assert found.result.headlines == wanted.result.headlines and wanted.result.headlines
    assert found.result.details == wanted.result.details
    check_same_draws(found.headlines, wanted.headlines)
    check_same_draws(found.tables, wanted.tables)
    assert found.result.losses == (f"{task}: undefined (nothing is left of {WORDS[task]!r}).",)
    assert not wanted.result.undefined


def test_what_is_measured_is_the_same_protocol(tasks: dict):
    whole, part = run(protocol_of(tasks)), run(protocol_of(tasks), ["jobs"])
    assert whole.result.digest == part.result.digest


@pytest.mark.parametrize("lost", [["jobs"], ["skew"], ["jobs", "skew"], ["captions"]])
def test_able_needs_both_of_its_tasks(tasks: dict, lost: list[str]):
    found = run(protocol_of(tasks, **ABLE), lost).result
    measured = {each.measure for each in found.headlines}
    if lost == ["captions"]:
        assert "able" in measured and list(found.undefined) == ["captions"]
        return
    first = "jobs" if "jobs" in lost else "skew"
    assert "able" not in measured and found.headlines
    assert found.undefined["ABLE"] == f"{first} is undefined"
    assert set(found.undefined) == {*lost, "ABLE"}


def test_no_answer_to_anything_is_an_error(tasks: dict):
    with pytest.raises(UndefinedError, match="protocol own: nothing is left of 'kind'"):
        run(protocol_of(tasks, **ABLE), list(tasks))


def test_other_errors_are_not_swallowed(tasks: dict):
    for error in (InputError, RuntimeError):
        with pytest.raises(error, match="nothing is left of 'doctor'") as raised:
            run(protocol_of(tasks), ["jobs"], error)
        assert raised.type is error
    tasks["skew"]["attribute"] = "race"
    with pytest.raises(InputError, match="no label 'race'") as raised:
        run(protocol_of(tasks), ["jobs"])
    assert raised.type is InputError


def test_a_method_that_leaves_nothing_of_one_prompt(tasks: dict):
    method = OrthogonalProjection().fit(spurious=encode_texts(["kind", "m"]))
    found = run_protocol(
        protocol_of(tasks, **ABLE),
        {"images": images()},
        lambda texts: method.transform_texts(encode_texts(texts), texts),
        model="toy",
        resampling=RESAMPLING,
    ).result
    assert list(found.undefined) == ["skew", "ABLE"]
    assert "OrthogonalProjection leaves nothing of row 0 ('kind')" in found.undefined["skew"]


def test_it_comes_back_from_its_file(tasks: dict, tmp_path: Path):
    made = run(protocol_of(tasks, **ABLE), ["skew"])
    made.save(tmp_path, "found")
    found = ProtocolRun.load(tmp_path / "found.json")
    assert (
        found.result.undefined
        == made.result.undefined
        == load_result(tmp_path / "found.json").undefined
    )
    assert list(found.result.undefined) == ["skew", "ABLE"]
    assert compare_runs(found, found) == compare_runs(made, made)
    old = made.result.model_dump_json(exclude={"undefined"})
    (tmp_path / "old.json").write_text(old)
    assert load_result(tmp_path / "old.json").undefined == {}


@pytest.mark.parametrize(
    ("first", "second"),
    [([], ["skew"]), (["skew"], []), (["jobs"], ["jobs"]), (["skew"], ["captions"])],
)
def test_a_comparison_passes_over_what_either_lacks(tasks: dict, first: list, second: list):
    protocol = protocol_of(tasks, **ABLE)
    whole = [run(protocol, [], model=f"m{seed}", seed=seed) for seed in (0, 1)]
    runs = [
        run(protocol, lost, model=f"m{seed}", seed=seed)
        for seed, lost in enumerate((first, second))
    ]
    lost = {*first, *second}
    lost |= {"ABLE"} if lost & {"skew", "jobs"} else set()
    found, wanted = compare_runs(*runs), compare_runs(*whole)
    for each in ("headlines", "details"):
        kept = [one for one in getattr(wanted, each) if one.subject.partition(": ")[0] not in lost]
        assert list(getattr(found, each)) == kept
        assert len(kept) < len(getattr(wanted, each)) or each == "details"
    assert found.headlines


def test_nothing_in_common_is_an_empty_comparison(tasks: dict):
    del tasks["captions"]
    runs = [run(protocol_of(tasks), [lost], model=lost) for lost in ("skew", "jobs")]
    found = compare_runs(*runs)
    assert found.headlines == found.details == ()


@pytest.mark.parametrize("lost", [([], ["skew"]), (["skew"], []), (["skew"], ["captions"])])
def test_the_page_shows_what_each_model_has(tasks: dict, lost: tuple[list[str], list[str]]):
    protocol = protocol_of(tasks, **ABLE)
    runs = [
        run(protocol, those, model=f"model {seed}", seed=seed) for seed, those in enumerate(lost)
    ]
    page = evaluation_page([ProtocolSection.of(runs)])
    for result, those in zip((each.result for each in runs), lost, strict=True):
        for task in those:
            said = f"{result.model}: {task}: undefined (nothing is left of"
            assert said in page
        for each in result.headlines:
            shown = (
                f'<td>{each.subject}</td><td class="text">{result.model}</td><td>{each.value:.3f}'
            )
            assert shown in page
    assert page.count("ABLE: undefined (skew is undefined).") == 1


def test_what_all_models_lack_is_said_once(tasks: dict):
    runs = [run(protocol_of(tasks), ["skew"], model=f"model {seed}", seed=seed) for seed in (0, 1)]
    page = evaluation_page([ProtocolSection.of(runs)])
    assert page.count("skew: undefined (") == 1 and ": skew: undefined" not in page


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"tasks": {"gender: women": {"kind": "zero_shot"}}}, "task 'gender: women': figures are"),
        ({"able": {"a:b": {"accuracy": "jobs", "skew": "skew"}}}, "task 'a:b': figures are named"),
        ({"able": {"jobs": {"accuracy": "jobs", "skew": "skew"}}}, "able jobs: a task has that na"),
    ],
)
def test_names_that_figures_could_not_be_told_by_are_refused(tasks: dict, more: dict, said: str):
    with pytest.raises(ValidationError) as refused:
        protocol_of(**({"tasks": tasks} | more))
    assert said in str(refused.value)
