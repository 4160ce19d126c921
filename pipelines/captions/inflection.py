"""Plurals of English terms, by the library `inflect`, held back where it is known to err."""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from pipelines.captions.words import word_set

# inflect makes "gentlemans", but "germen"; "grandchilds"; and takes a specimen for several.
NO_MAN = re.compile(r"(hu|ger|ro|nor|otto|sha|talis|cai)man$")
ONE_MEN = re.compile(r"(speci|abdo|regi|cycla|sta|acu|^o)men$")
# Endings of irregular plurals, and of words that have a classical plural too: only of these is
# inflect asked, as each question takes 50 us and a large catalogue has thousands of words.
IRREGULAR = re.compile(r"(en|people|folk|[aix]|ae|ice|eet|eeth|eese|sheep|fish|deer)$")
CLASSICAL = re.compile(r"(person|[afo]|[iu]s|um|on|[ei]x|en)$")
# inflect makes "they" of "she", which says nothing of gender, and "themselves" of "herself".
PRONOUNS = word_set(
    """
    i me my mine myself you your yours yourself he him his himself she her hers herself it its
    itself we us our ours they them their theirs one this that these those who whom
    """
)
PREPOSITIONS = word_set("at in of on to with without for from by")


@cache
def _engines() -> tuple[Any, Any]:
    """inflect with modern plurals (people, cactuses) and with classical ones (persons, cacti).

    Importing inflect takes two seconds, so it is done where the first plural is asked for.
    """
    import inflect

    modern, classical = inflect.engine(), inflect.engine()
    classical.classical(all=True)
    return modern, classical


@cache
def plurals(word: str) -> tuple[str, ...]:
    """Plurals of a small-case English word; none of pronouns and of what is a plural already.

    A word that has no plural may give one that never occurs ("clotheses"), which does no harm. One
    that does occur is not made: no "mens" of "men".
    """
    if not word.isalpha() or word in PRONOUNS:
        return ()
    if word.endswith("man"):
        return (f"{word}s" if NO_MAN.search(word) else f"{word[:-3]}men",)
    if word.endswith(("child", "children")):
        return (f"{word}ren",) if word.endswith("child") else ()
    modern, classical = _engines()
    if IRREGULAR.search(word) and not ONE_MEN.search(word):
        singular = modern.singular_noun(word)
        if singular and word in (modern.plural_noun(singular), classical.plural_noun(singular)):
            return ()
    made = [modern.plural_noun(word)]
    if CLASSICAL.search(word):
        made.append(classical.plural_noun(word))
    if word.endswith("o"):
        made.append(f"{word}s")  # "banjos", of which inflect knows only "banjoes"
    return tuple(dict.fromkeys(str(each) for each in made if each and each != word))


def inflections(words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Yield the plurals of a phrase: of its last word, and of a head before a preposition.

    "police officers"; "mothers in law".
    """
    heads = {len(words) - 1}
    heads |= {at - 1 for at in range(1, len(words) - 1) if words[at] in PREPOSITIONS}
    for at in sorted(heads):
        for plural in plurals(words[at]):
            yield (*words[:at], plural, *words[at + 1 :])
