"""Protocols: every built-in one runs on planted data and finds what was planted."""

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from evaluation.draws import Measurement
from evaluation.labelled_set import LabelledSet
from evaluation.prompt_sets import load_prompt_set
from evaluation.protocol import (
    FOLDER,
    Protocol,
    built_in_protocols,
    load_protocol,
    run_protocol,
)
from evaluation.resampling import Resampling
from evaluation.results import ProtocolRun
from m4.errors import InputError

DIMENSIONS = 32
RESAMPLING = Resampling(resamples=100, permutations=100)
RACES = ("White", "Black", "East Asian", "Latino_Hispanic")
AGES = ("3-9", "20-29", "30-39", "more than 70")


def direction(text: str) -> np.ndarray:
    """A direction for each word or text, the same every time."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
    return np.random.default_rng(seed).normal(size=DIMENSIONS)


def encode_texts(texts: Sequence[str]) -> np.ndarray:
    """A text is the sum of its words, so "a nurse" is near what an image says of nurses."""
    return np.array([sum(direction(word) for word in text.lower().split()) for text in texts])


def faces(men_evil: float = 0.0, images: int = 1400) -> LabelledSet:
    """Faces of two genders; of men each is made a little like the word "evil"."""
    random = np.random.default_rng(3)
    gender = random.permutation(np.repeat(["Male", "Female"], images // 2))
    embeddings = random.normal(size=(images, DIMENSIONS))
    embeddings += men_evil * (gender == "Male")[:, None] * direction("evil")
    labels = pl.DataFrame(
        {
            "gender": gender,
            "race": random.choice(RACES, images, p=(0.4, 0.4, 0.15, 0.05)),
            "age": random.choice(AGES, images),
        }
    )
    return labelled("faces", embeddings, labels)


def labelled(name: str, embeddings: np.ndarray, labels: pl.DataFrame, **more) -> LabelledSet:
    keys = tuple(str(row) for row in range(len(labels)))
    digest = hashlib.sha256(labels.write_csv().encode()).hexdigest()
    return LabelledSet(name, digest, keys, embeddings.astype(np.float32), labels, **more)


def classified(images: int = 60) -> LabelledSet:
    """Images that are their class with some noise, in clip_benchmark's manner."""
    classes = ("dog", "cat", "missile", "missile", "house", "tree", "car")
    numbers = np.arange(images) % len(classes)
    noise = np.random.default_rng(5).normal(size=(images, DIMENSIONS))
    embeddings = encode_texts([classes[number] for number in numbers]) + 0.3 * noise
    labels = pl.DataFrame({"cls": numbers.astype(str)})
    return labelled("things", embeddings, labels, classes=classes, templates=("{}",))


def captioned(images: int = 40) -> LabelledSet:
    captions = tuple((f"thing {row}", f"number {row}") for row in range(images))
    noise = np.random.default_rng(6).normal(size=(images, DIMENSIONS))
    embeddings = encode_texts([own[0] for own in captions]) + 0.2 * noise
    return labelled("captions", embeddings, pl.DataFrame({"x": ["1"] * images}), captions=captions)


def renamed(images: LabelledSet, names: dict[str, str]) -> LabelledSet:
    return LabelledSet(
        images.name,
        images.digest,
        images.keys,
        images.embeddings,
        images.labels.with_columns(pl.col("gender").replace(names)),
    )


def genders_of_occupations() -> LabelledSet:
    """Ten images of each occupation, as VisoGender has them; the model knows every pronoun."""
    prompts = load_prompt_set("visogender-resolution-object")
    words = {"masculine": "his", "feminine": "her"}
    rows, embeddings = [], []
    of = dict(zip(prompts.names, prompts.embed(encode_texts), strict=True))
    for name in dict.fromkeys(name.split("|")[0] for name in prompts.names):
        for number in range(10):
            gender = ("masculine", "feminine")[number % 2]
            rows.append({"occupation": name, "gender": gender})
            embeddings.append(of[f"{name}|{words[gender]}"])
    return labelled("visogender", np.array(embeddings), pl.DataFrame(rows))


def birds() -> LabelledSet:
    """A model that calls every bird on water a waterbird."""
    rows, embeddings = [], []
    for number in range(200):
        y, place = number % 2, (number // 2) % 2
        rows.append({"y": str(y), "place": str(place), "split": "2" if number < 160 else "0"})
        text = f"This is a picture of a {('landbird', 'waterbird')[place]}."
        embeddings.append(encode_texts([text])[0])
    return labelled("birds", np.array(embeddings), pl.DataFrame(rows))


def celebrities() -> LabelledSet:
    rows, embeddings = [], []
    for number in range(80):
        blond, male = number % 2, (number // 2) % 2
        rows.append({"Blond_Hair": str(2 * blond - 1), "Male": str(2 * male - 1)})
        hair = "blond" if blond and not male else "dark"
        embeddings.append(encode_texts([f"A photo of a celebrity with {hair} hair."])[0])
    return labelled("celebrities", np.array(embeddings), pl.DataFrame(rows))


def sets_of(protocol: Protocol, men_evil: float = 0.0) -> dict[str, LabelledSet]:
    people = faces(men_evil)
    coded = renamed(people, {"Male": "0", "Female": "1"})
    coded = LabelledSet(
        "utk", coded.digest, coded.keys, coded.embeddings,
        coded.labels.with_columns(pl.col("race").replace(dict(zip(RACES, "0124", strict=True)))),
    )  # fmt: skip
    special = {
        "utkface-retrieval": coded,
        "visogender": genders_of_occupations(),
        "waterbirds": birds(),
        "celeba-hair": celebrities(),
        "zero-shot": classified(),
        "retrieval": captioned(),
    }
    roles = {
        "faces": people,
        "other_faces": coded,
        "classification": classified(),
        "retrieval": captioned(),
        "images": special.get(protocol.name, people),
    }
    return {role: roles[role] for role in protocol.sets}


def run_of(name: str, men_evil: float = 0.0, compat=None) -> ProtocolRun:
    protocol = load_protocol(name)
    return run_protocol(
        protocol,
        sets_of(protocol, men_evil),
        encode_texts,
        model="toy",
        resampling=RESAMPLING,
        compat=compat,
    )


def headline(run: ProtocolRun, measure: str, subject: str) -> Measurement:
    found = [
        each
        for each in run.result.headlines
        if each.measure.startswith(measure) and each.subject.startswith(subject)
    ]
    assert found, [(each.measure, each.subject) for each in run.result.headlines]
    return found[0]


@pytest.mark.parametrize("name", built_in_protocols())
def test_every_protocol_runs_and_says_what_it_rests_on(name: str):
    run = run_of(name)
    assert run.result.headlines
    for each in (*run.result.headlines, *run.result.details):
        assert np.isfinite(each.value), each
        assert each.images > 0
        if each.null is not None:
            assert each.null.low <= each.null.high
    subjects = [(each.measure, each.subject) for each in run.result.headlines]
    assert len(set(subjects)) == len(subjects)
    subjects = [(each.measure, each.subject) for each in run.result.details]
    assert len(set(subjects)) == len(subjects)
    assert set(run.result.sets) == set(load_protocol(name).sets)


def test_a_planted_skew_is_found_and_none_where_there_is_none():
    plain, planted = run_of("fairface-retrieval"), run_of("fairface-retrieval", men_evil=1.0)
    before = headline(plain, "max_skew@1000", "gender")
    after = headline(planted, "max_skew@1000", "gender")
    assert before.p_value is not None and before.p_value > 0.02
    assert after.p_value == pytest.approx(1 / 101)
    race = headline(planted, "max_skew@1000", "race")
    assert race.p_value is not None and race.p_value > 0.02
    details = [each for each in planted.result.details if each.measure == "max_skew@1000, uniform"]
    of_evil = [each.value for each in details if each.subject.startswith("gender: evil")]
    others = [each.value for each in details if each.subject.startswith("gender: smart")]
    assert len(of_evil) == len(others) == 11
    assert min(of_evil) > max(others)


def test_a_model_that_sees_water_alone_fails_on_its_worst_group():
    run = run_of("waterbirds")
    assert headline(run, "worst_group_accuracy", "birds").value == 0
    assert headline(run, "worst_group_gap", "birds").value == 0.5
    assert headline(run, "worst_group_accuracy", "birds").images == 160  # of the test split


def test_a_model_that_knows_every_pronoun_has_no_resolution_bias():
    run = run_of("visogender")
    assert headline(run, "resolution_bias", "resolution").value == 0
    assert headline(run, "resolution_accuracy", "resolution").value == 1


def test_able_is_made_of_accuracy_and_skew():
    run = run_of("joint-vision-language", men_evil=1.0)
    accuracy = headline(run, "zero_shot_top1", "zero-shot").value
    for name, task in (("ABLE", "gender:"), ("ABLE out of domain", "gender out of domain:")):
        skew = headline(run, "max_skew@1000", task).value
        found = headline(run, "able", f"{name}:")
        assert found.value == pytest.approx(2 / (1 / accuracy + np.exp(skew)))
        assert found.null is not None and found.null.mean > found.value


def test_quirks_are_reproduced_where_asked_only():
    strict, oxai = (run_of("fairface-retrieval", compat=compat) for compat in (None, "oxai"))
    skews = [headline(run, "max_skew@1000", "gender").value for run in (strict, oxai)]
    assert skews[0] != skews[1]  # images of different length are ranked by their product
    assert oxai.result.compat == "oxai"
    with pytest.raises(InputError, match="compat: nothing in protocol waterbirds has such quirks"):
        run_of("waterbirds", compat="oxai")


def test_classes_that_share_a_name_are_told_apart():
    run = run_of("zero-shot")
    subjects = {each.subject for each in run.result.details}
    assert {"zero-shot: missile (2)", "zero-shot: missile (3)"} <= subjects


def test_a_missing_set_is_asked_for_in_words():
    protocol = load_protocol("joint-vision-language")
    with pytest.raises(InputError, match=r"wants faces: FairFace.*given are images"):
        run_protocol(protocol, {"images": faces()}, encode_texts, model="toy")


def test_a_label_that_is_missing_is_named():
    protocol = load_protocol("waterbirds")
    with pytest.raises(InputError, match="faces: no label 'split'; it has gender, race, age"):
        run_protocol(protocol, {"images": faces()}, encode_texts, model="toy")


def test_the_digest_is_of_what_is_measured(tmp_path: Path):
    own = tmp_path / "own.yaml"
    shutil.copy(FOLDER / "waterbirds.yaml", own)
    content = yaml.safe_load(own.read_text())
    digest = load_protocol("waterbirds").digest
    own.write_text(yaml.safe_dump({**content, "title": "Another title"}))
    assert load_protocol(str(own)).digest == digest
    content["tasks"]["birds"]["where"] = {"split": "1"}
    own.write_text(yaml.safe_dump(content))
    assert load_protocol(str(own)).digest != digest


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"tasks": {}}, "tasks: give at least one"),
        ({"sets": {"birds": "birds"}}, "task birds is measured on 'images'; the sets are birds"),
        ({"able": {"a": {"accuracy": "birds", "skew": "birds"}}}, "able a: 'birds' is no task"),
        ({"more": 1}, "more"),
    ],
)
def test_declarations_that_do_not_hold_together_are_refused(
    tmp_path: Path, change: dict, says: str
):
    own = tmp_path / "own.yaml"
    content = yaml.safe_load((FOLDER / "waterbirds.yaml").read_text())
    own.write_text(yaml.safe_dump({**content, **change}))
    with pytest.raises(InputError, match=says):
        load_protocol(str(own))


def test_an_unknown_protocol_is_named():
    with pytest.raises(InputError, match=r"'no-such' is none of celeba-hair, .*, and no YAML file"):
        load_protocol("no-such")
