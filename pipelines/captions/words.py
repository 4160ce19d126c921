"""The words of captions: a whole batch is folded and split at once."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

# A possessive is a word of its own: "the woman's dress" names a woman, and a catalogue can still
# ignore the phrase "women's watch".
WORD = re.compile(r"'[sS](?![^\W_])|[^\W_]+")
LINE = "|"  # stands behind the last word of each caption; a sign, so it is never a word
CURLY_APOSTROPHE = "\N{RIGHT SINGLE QUOTATION MARK}"
OTHER_SIGNS = re.compile(r"[^\w\x00-\x7f]+")
POSSESSIVE = b"\x01"
PIECE = 512  # captions; of 8192, each takes up to twice the time


def _table() -> bytes:
    """What becomes of each byte: letters small, digits kept, ASCII signs blank.

    Apostrophes and newlines stay, for `_blanked`; so do the bytes of letters beyond ASCII.
    """
    kept = {*map(ord, "'\n"), *range(128, 256)}
    return bytes(
        byte if byte in kept else ord(chr(byte).lower()) if chr(byte).isalnum() else ord(" ")
        for byte in range(256)
    )


TABLE = _table()


def fold(text: str) -> str:
    """NFKC-normalised and case-folded, with straight apostrophes."""
    return unicodedata.normalize("NFKC", text).casefold().replace(CURLY_APOSTROPHE, "'")


def _blanked(lines: Iterable[str]) -> bytes:
    """Words of folded lines between blanks, with `LINE` behind each line.

    What `WORD` finds, several times faster.
    """
    text = ("\n".join(lines) + "\n").encode().translate(TABLE).replace(b"\n", b" | ")
    if b"'" in text:
        text = text.replace(b"'", b"  '").replace(b" 's ", b" \x01 ")
        text = text.replace(b"'", b" ").replace(POSSESSIVE, b"'s")
    return text


@dataclass(frozen=True, eq=False)
class Words:
    """The words of n captions, NFKC-normalised and case-folded; hyphens and underscores separate.

    Attributes
    ----------
    captions : as they were given
    text : UTF-8, words of all captions in order, one or more blanks between, `LINE` behind each
    ascii : (n,) bool, where no word has a letter beyond ASCII
    """

    captions: Sequence[str]
    text: bytes
    ascii: np.ndarray

    def __len__(self) -> int:
        return len(self.captions)

    @cached_property
    def words(self) -> list[str]:
        """The words of all captions in order, with `LINE` behind the last of each."""
        return self.text.decode().split()

    @classmethod
    def of(cls, captions: Sequence[str]) -> "Words":
        """Fold and split. A newline within a caption separates words as a blank does."""
        lines = captions
        text = "\n".join(captions)
        if text.count("\n") > len(captions) - 1:
            lines = [caption.replace("\n", " ") for caption in captions]
        plain = np.ones(len(captions), dtype=bool)
        if not text.isascii():
            lines = [line if line.isascii() else OTHER_SIGNS.sub(" ", fold(line)) for line in lines]
            plain = np.array([line.isascii() for line in lines], dtype=bool)
        return cls(captions, _blanked(lines) if captions else b"", plain)


def in_pieces(captions: Sequence[str]) -> Iterator[tuple[int, Words]]:
    """Yield the number of the first caption, and the words, of pieces that a cache has room for."""
    for first in range(0, len(captions), PIECE):
        yield first, Words.of(captions[first : first + PIECE])


def word_set(text: str) -> frozenset[str]:
    """Words that blanks separate."""
    return frozenset(text.split())


def tokens(text: str) -> list[str]:
    """The words of one text."""
    return Words.of([text]).words[:-1]
