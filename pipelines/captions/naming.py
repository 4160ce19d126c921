"""Who is only called so: "Tom Baker" is no baker.

The rule, for a term that the catalogue lists among its `surnames`. It does not count where it is

1. directly after an honorific, however the caption is written: "Mr. Baker", "mrs baker";
2. capitalised, directly after a given name that the catalogue lists: "Tom Baker", "TOM BAKER";
3. capitalised next to another capitalised word, in a caption where some other word that is no
   function word is not: "Ada Baker smiles", "tea in Baker Street". Captions in Title Case or ALL
   CAPS, where nothing can be told from capitals, are not judged so, nor is "The Baker". Terms that
   are titles ("Judge Judy speaks") only look at the word before them.

"Next to" means with blanks or a hyphen between, or after an initial ("J. Baker").

A given name counts where it is capitalised, or where the whole caption has no capital.
"""

import re
import unicodedata
from collections.abc import Set
from dataclasses import dataclass

from pipelines.captions.phrases import Proper
from pipelines.captions.words import CURLY_APOSTROPHE, WORD, word_set

HONORIFICS = word_set("mr mrs ms miss mx dr prof professor sir dame madam madame mister")
TITLES = word_set(
    """
    abbot admiral archbishop baron bishop captain cardinal chancellor chef coach colonel
    commander constable count deacon dean doctor duke earl emperor general governor judge
    justice king lieutenant lord major marshal marshall mayor minister nurse officer pastor pope
    president priest prince princess queen rabbi reverend senator sergeant sheriff
    """
)
FUNCTION_WORDS = word_set(
    """
    a an the and or but nor so yet as at by for from in into of off on onto out over per than to
    under up upon via vs with without about above across after against along among around before
    behind below beneath beside besides between beyond down during inside like near next outside
    past since through throughout toward towards until within is are was were be been being am
    has have had do does did this that these those my your his her its our their he she it we
    they you i him them us who whose which what when where how why not no
    """
)
BETWEEN = re.compile(r"[\s-]+")
AFTER_INITIAL = re.compile(r"\.[\s-]*")
AFTER_HONORIFIC = re.compile(r"\.?\s*")


@dataclass(frozen=True)
class CasedWord:
    """A word as the caption writes it, and the signs between it and the word before."""

    text: str
    signs: str

    @property
    def capitalised(self) -> bool:
        return self.text[0].isupper()

    @property
    def function_word(self) -> bool:
        return self.text.casefold() in FUNCTION_WORDS or not self.text.isalpha()


def cased_words(caption: str) -> list[CasedWord]:
    """The words of a caption in the order of `Words`, as they are written.

    A word that case folding splits stands as often as it has parts, so that positions agree.
    """
    text = unicodedata.normalize("NFKC", caption).replace(CURLY_APOSTROPHE, "'")
    words: list[CasedWord] = []
    end = 0
    for found in WORD.finditer(text):
        word = CasedWord(found[0], text[end : found.start()])
        parts = 1 if text.isascii() else len(WORD.findall(found[0].casefold()))
        words += [word] * parts
        end = found.end()
    return words


def counts(words: list[CasedWord], at: int, proper: Proper, given: Set[str]) -> bool:
    """Whether the word at a position means what the catalogue says of it, by the rule above.

    Parameters
    ----------
    words : of the caption
    at : position of a surname or given name
    given : given names that the catalogue lists, case-folded
    """
    if proper == Proper.GIVEN_NAME:
        return words[at].capitalised or all(word.text == word.text.lower() for word in words)
    return not _names_somebody(words, at, given)


def _names_somebody(words: list[CasedWord], at: int, given: Set[str]) -> bool:
    word = words[at]
    before = words[at - 1] if at else None
    after = words[at + 1] if at + 1 < len(words) else None
    if before and before.text.casefold() in HONORIFICS and AFTER_HONORIFIC.fullmatch(word.signs):
        return True
    if not word.capitalised:
        return False
    initial = before and len(before.text) == 1 and AFTER_INITIAL.fullmatch(word.signs)
    if before and not (before.capitalised and (initial or BETWEEN.fullmatch(word.signs))):
        before = None
    if before and before.text.casefold() in given:
        return True
    if all(other.capitalised for other in words if not other.function_word):
        return False
    if before and (initial or not before.function_word):
        return True
    if after is None or after.function_word or word.text.casefold() in TITLES:
        return False
    return after.capitalised and BETWEEN.fullmatch(after.signs) is not None
