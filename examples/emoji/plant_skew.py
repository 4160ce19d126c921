"""Plant a skew in the emoji shards: draw cells of the gender x role x tone grid.

    python examples/emoji/plant_skew.py EMOJI_SHARDS OCCUPATIONS OUT [--style noto] [--seed 0]

The drawings form a complete grid, so any skew can be planted by how often each cell is drawn. The
share of women in each role is that of US labour statistics (see planting.yaml); a picture that is
drawn again is the same bytes under a new key and uid. Objects are taken once each, as they are.
"""

import argparse
import csv
import hashlib
import io
import json
import tarfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

SAMPLES_PER_SHARD = 500


@dataclass(frozen=True)
class Drawing:
    """One emoji: its picture, caption and json."""

    picture: bytes
    caption: str
    metadata: dict


def read_drawings(folder: Path, style: str) -> list[Drawing]:
    """All drawings of one style, in shard order."""
    drawings = []
    for path in sorted(folder.glob(f"{style}-*.tar")):
        with tarfile.open(path) as tar:
            members = {member.name: tar.extractfile(member).read() for member in tar}
        for name, picture in members.items():
            if name.endswith(".png"):
                stem = name.removesuffix(".png")
                caption = members[f"{stem}.txt"].decode()
                drawings.append(Drawing(picture, caption, json.loads(members[f"{stem}.json"])))
    if not drawings:
        raise SystemExit(f"error: {folder}: no {style}-*.tar; give the folder of the emoji shards")
    return drawings


def share_of_women(occupations: Path, source: dict) -> float:
    """A role's share of women: as given, or from the labour statistics that planting.yaml names."""
    if "share" in source:
        return source["share"]
    ((table, row),) = source.items()
    name, key, column, scale = {
        "bls": ("kay2015_bls_occupations.csv", "occupation", "p_women", 0.01),
        "search": ("kay2015_occupations_bls_vs_search.csv", "search_term", "bls_p_women", 1.0),
    }[table]
    with open(occupations / name, encoding="utf-8") as stream:
        for entry in csv.DictReader(stream):
            if entry[key] == row:
                return float(entry[column]) * scale
    raise SystemExit(f"error: {occupations / name}: no row {row!r}")


def quotas(shares: Sequence[float], total: int) -> list[int]:
    """Whole numbers that sum to total, nearest to the shares (largest remainders)."""
    exact = np.asarray(shares) / np.sum(shares) * total
    counts = np.floor(exact).astype(int)
    order = np.argsort(counts - exact, kind="stable")
    counts[order[: total - counts.sum()]] += 1
    return counts.tolist()


def cells(drawings: list[Drawing]) -> dict[tuple[str, str, str], list[Drawing]]:
    """Drawings of one person with a gender and a tone, by (role, gender, tone).

    People in no role of a planting stand under the role "".
    """
    grid = defaultdict(list)
    for drawing in drawings:
        content = drawing.metadata
        if content["person"] and content["gender"] in ("male", "female") and content["skin_tone"]:
            grid[content["role"] or "", content["gender"], content["skin_tone"]].append(drawing)
    return grid


def draw(
    drawings: list[Drawing], planting: dict, occupations: Path, generator: np.random.Generator
) -> Iterator[tuple[Drawing, str]]:
    """Yield drawings with the captions they get."""
    grid = cells(drawings)
    others = defaultdict(list)
    for (role, gender, tone), found in grid.items():
        if role not in planting["roles"]:
            others["", gender, tone] += found
    tones = list(planting["tones"])
    jobs = [
        (role, share_of_women(occupations, source), planting["pictures_per_role"])
        for role, source in planting["roles"].items()
    ]
    jobs.append(("", planting["share_of_women_without_role"], planting["people_without_role"]))
    people = []
    for role, women, pictures in jobs:
        for gender, count in zip(
            ("female", "male"), quotas([women, 1 - women], pictures), strict=True
        ):
            for tone, part in zip(
                tones, quotas(list(planting["tones"].values()), count), strict=True
            ):
                cell = grid[role, gender, tone] if role else others[role, gender, tone]
                people += [cell[i] for i in generator.integers(len(cell), size=part)]
    unnamed = set(
        generator.permutation(len(people))[: round(planting["gender_unnamed"] * len(people))]
    )
    for position, drawing in enumerate(people):
        yield drawing, neutral(drawing.caption) if position in unnamed else drawing.caption
    for drawing in drawings:
        if not drawing.metadata["person"]:
            yield drawing, drawing.caption


def neutral(caption: str) -> str:
    """The caption without its gender word: "woman cook: dark skin tone" -> "cook: dark ..."."""
    words = caption.split(" ")
    kept = [word for word in words if word.rstrip(":") not in ("man", "woman", "men", "women")]
    return " ".join(kept) if len(kept) > 1 else "person"


def write_shards(
    chosen: list[tuple[Drawing, str]], out: Path, style: str, kinds: dict[str, str]
) -> None:
    """Write shards in order; keys and uids are new, the picture's bytes are not touched.

    Drawings whose role has a kind get it as "kind", and "asked" says whether they have one.
    """
    out.mkdir(parents=True, exist_ok=True)
    for first in range(0, len(chosen), SAMPLES_PER_SHARD):
        path = out / f"{first // SAMPLES_PER_SHARD:05d}.tar"
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
            for position, (drawing, caption) in enumerate(
                chosen[first : first + SAMPLES_PER_SHARD], start=first
            ):
                uid = hashlib.sha256(f"planted/{style}/{position}".encode()).hexdigest()[:32]
                metadata = {**drawing.metadata, "drawn_from": drawing.metadata["uid"], "uid": uid}
                if kinds:
                    kind = kinds.get(drawing.metadata["role"])
                    metadata |= {"kind": kind, "asked": kind is not None}
                for extension, content in (
                    ("png", drawing.picture),
                    ("txt", caption.encode()),
                    ("json", json.dumps(metadata).encode()),
                ):
                    member = tarfile.TarInfo(f"{position:09d}.{extension}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("emoji", type=Path, help="folder of the emoji shards")
    parser.add_argument("occupations", type=Path, help="folder of the occupation tables")
    parser.add_argument("out", type=Path, help="folder for the planted shards")
    parser.add_argument("--style", default="noto", help="style to draw from")
    parser.add_argument("--planting", type=Path, default=Path(__file__).with_name("planting.yaml"))
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    planting = yaml.safe_load(given.planting.read_text())
    generator = np.random.default_rng(given.seed)
    drawings = read_drawings(given.emoji, given.style)
    chosen = list(draw(drawings, planting, given.occupations, generator))
    kinds = {role: each["kind"] for role, each in planting["roles"].items() if "kind" in each}
    if style := planting.get("tested_style"):
        pairs = [(drawing, drawing.caption) for drawing in read_drawings(given.emoji, style)]
        held_out = [pair for pair in pairs if pair[0].metadata["role"] in planting["roles"]]
        chosen += [pair for pair in pairs if pair[0].metadata["role"] not in planting["roles"]]
        write_shards(held_out, given.out / "tested", style, kinds)
        print(f"{len(held_out):,} samples in {given.out / 'tested'}")
    chosen = [chosen[i] for i in generator.permutation(len(chosen))]
    write_shards(chosen, given.out, given.style, kinds)
    print(f"{len(chosen):,} samples in {given.out}")


if __name__ == "__main__":
    main()
