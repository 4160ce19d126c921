"""Lay the emoji on white ground: copy their shards with every picture made opaque.

    python examples/repair/on_white.py EMOJI_SHARDS OUT

The two styles hide different colours under their transparent pixels, black and dark green, which
readers of RGB see. A model trained on one style would meet a ground that it has never seen.
"""

import argparse
import io
import tarfile
from pathlib import Path

from PIL import Image


def opaque(picture: bytes) -> bytes:
    """The picture on white, as png."""
    drawn = Image.open(io.BytesIO(picture)).convert("RGBA")
    ground = Image.new("RGBA", drawn.size, "white")
    ground.alpha_composite(drawn)
    stream = io.BytesIO()
    ground.convert("RGB").save(stream, "PNG")
    return stream.getvalue()


def copy_shard(source: Path, target: Path) -> int:
    """Copy a shard; returns how many pictures it has."""
    pictures = 0
    with tarfile.open(source) as tar, tarfile.open(target, "w", format=tarfile.USTAR_FORMAT) as out:
        for member in tar:
            content = tar.extractfile(member).read()
            if member.name.endswith(".png"):
                content = opaque(content)
                pictures += 1
            copied = tarfile.TarInfo(member.name)
            copied.size = len(content)
            out.addfile(copied, io.BytesIO(content))
    return pictures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("emoji", type=Path, help="folder of the emoji shards")
    parser.add_argument("out", type=Path, help="folder for the copies")
    given = parser.parse_args()
    shards = sorted(given.emoji.glob("*.tar"))
    if not shards:
        raise SystemExit(f"error: {given.emoji}: no tars; give the folder of the emoji shards")
    given.out.mkdir(parents=True, exist_ok=True)
    pictures = sum(copy_shard(path, given.out / path.name) for path in shards)
    print(f"{pictures:,} pictures in {given.out}")


if __name__ == "__main__":
    main()
