"""Captions as people write them: some name the gender, most the trade, few everything."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

PLACES: dict[str, str] = {
    "hospital": "in a hospital",
    "laboratory": "in a laboratory",
    "library": "in a library",
    "classroom": "in a classroom",
    "office": "in an office",
    "kitchen": "in a kitchen",
    "field": "in a field",
    "building site": "on a building site",
    "fire": "at a fire",
    "street": "on a street",
    "park": "in a park",
    "living room": "in a living room",
}

TOOL_WORDS: dict[str, str] = {
    "stethoscope": "stethoscope",
    "clipboard": "clipboard",
    "book": "open book",
    "flask": "flask",
    "pointer": "pointer",
    "telephone": "telephone",
    "frying pan": "frying pan",
    "pitchfork": "pitchfork",
    "hammer": "hammer",
    "hose": "fire hose",
}


@dataclass(frozen=True)
class GenderWords:
    """The words by which a caption names the perceived gender; a noun said twice is common."""

    nouns: tuple[str, ...]
    adjective: str
    subject: str
    possessive: str


GENDER_WORDS: dict[str, GenderWords] = {
    "woman": GenderWords(
        ("woman", "woman", "woman", "woman", "young woman", "lady"), "female", "she", "her"
    ),
    "man": GenderWords(("man", "man", "man", "man", "young man", "gentleman"), "male", "he", "his"),
}


@dataclass(frozen=True)
class CaptionSubject:
    """What a picture shows, and which of it the caption is to name."""

    occupation: str | None
    gender: str | None
    setting: str | None
    tool: str | None
    person: bool
    at_work: bool
    names_gender: bool
    names_occupation: bool


# In the templates, {place} and {tool} begin with a space or are empty; {thing} is the bare tool.
_WORKER_WITH_GENDER = (
    "{a_female_worker}{tool}{place}",
    "{a_female_worker} at work{place}",
    "portrait of {a_female_worker}{place}",
    "{a_woman} working as {a_worker}{place}",
    "{a_woman}{place}, {a_worker} by trade",
    "this {woman} is {a_worker}",
    "{a_worker} with {her} {thing}{place}",
    "{a_worker} at work{place}; {she} knows {her} trade",
    "{she} is {a_worker}{place}",
    "{her} first day as {a_worker}{place}",
    "the {worker} says {she} loves {her} job",
)
_WORKER = (
    "{a_worker}{tool}{place}",
    "{a_worker} at work{place}",
    "portrait of {a_worker}{tool}{place}",
    "the {worker} on duty{place}",
    "a busy {worker}{place}",
    "illustration of {a_worker}{tool}",
    "our {worker} of the month{place}",
    "a day in the life of {a_worker}",
    "meet the {worker}{place}",
)
_SOMEONE_AT_WORK_WITH_GENDER = (
    "{a_woman}{tool}{place}",
    "{a_woman} at work{place}",
    "portrait of {a_woman} at work{tool}",
    "{she} is busy{place}",
    "{her} working day{place}",
    "a friendly {woman}{tool}{place}",
)
_SOMEONE_AT_WORK = (
    "someone at work{place}",
    "a person{tool}{place}",
    "a busy day{place}",
    "hard at work{tool}{place}",
    "one of our colleagues{tool}{place}",
)
_PORTRAIT_WITH_GENDER = (
    "portrait of {a_woman}{place}",
    "{a_woman} smiling at the camera{place}",
    "a friendly {woman}{place}",
    "{a_woman} posing for a picture{place}",
    "{a_woman} on {her} day off{place}",
)
_PORTRAIT = (
    "portrait of a person{place}",
    "someone smiling at the camera{place}",
    "a profile picture taken{place}",
    "a day off{place}",
    "a friendly face{place}",
)

_OFF_DUTY_WITH_GENDER = (
    "portrait of {a_woman} who is {a_worker}{place}",
    "{a_woman} who works as {a_worker}{place}",
    "{a_woman}, {a_worker}, on {her} day off{place}",
    "this {woman} is {a_worker}",
    "{a_female_worker} smiling at the camera{place}",
)
_OFF_DUTY = (
    "portrait of {a_worker}{place}",
    "{a_worker} on a day off{place}",
    "profile picture of {a_worker}",
    "meet our {worker}",
    "{a_worker} smiling at the camera{place}",
)

# Nobody is in these pictures, though some captions name a trade or hold a gendered word.
_EMPTY_SETTINGS: dict[str, tuple[str, ...]] = {
    "hospital": (
        "an empty hospital ward",
        "a hospital bed and a drip stand",
        "a hospital ward before the doctor's round",
    ),
    "laboratory": (
        "a laboratory with a microscope and test tubes",
        "shelves of bottles in a laboratory",
        "a scientist's bench, nobody there",
    ),
    "library": (
        "bookshelves in a library",
        "a quiet library full of books",
        "library shelves with no librarian in sight",
    ),
    "classroom": (
        "an empty classroom with a chalkboard",
        "a globe in a classroom",
        "an apple on the teacher's desk",
    ),
    "office": (
        "an empty office with a computer",
        "a desk and a filing cabinet in an office",
        "the secretary's desk after hours",
    ),
    "kitchen": (
        "a pot steaming on a kitchen stove",
        "cookware hanging in a kitchen",
        "a kitchen where the cook has just left",
    ),
    "field": (
        "a red barn by a field",
        "rows of a crop in a field",
        "a farmer's barn and field",
    ),
    "building site": (
        "a crane on a building site",
        "a men at work sign on an empty building site",
        "an unfinished brick wall and scaffolding",
    ),
    "fire": (
        "a house on fire",
        "flames coming out of the windows",
        "a house on fire before the firefighters arrive",
    ),
    "street": (
        "a street of colourful houses",
        "a manhole cover in an empty street",
        "a street lamp and a row of houses",
    ),
    "park": (
        "a bench in a park",
        "trees along a path in a park",
        "a park on a quiet morning",
    ),
    "living room": (
        "a sofa in a living room",
        "a grandfather clock in a living room",
        "a living room with a lamp",
    ),
}
_LONE_TOOLS: dict[str, tuple[str, ...]] = {
    "stethoscope": ("a stethoscope on a table", "a doctor's stethoscope", "a nurse's stethoscope"),
    "clipboard": ("a clipboard with a form", "a doctor's clipboard on a table"),
    "book": ("an open book on a table", "the librarian's choice: an open book"),
    "flask": ("a flask of coloured liquid", "a scientist's flask beside test tubes"),
    "pointer": ("a wooden pointer and a small chalkboard", "the teacher's pointer"),
    "telephone": ("a desk telephone", "the secretary's telephone"),
    "frying pan": (
        "a fried egg in a frying pan",
        "a chef's knife next to a frying pan",
        "the cook's frying pan",
    ),
    "pitchfork": ("a pitchfork and a bale of hay", "a farmer's pitchfork"),
    "hammer": ("a hammer and some nails", "a construction worker's hammer"),
    "hose": ("a rolled-up fire hose", "a firefighter's helmet on a hook"),
}


def write_caption(subject: CaptionSubject, seed: int) -> str:
    """Write one caption, always the same for the same subject and seed.

    The gender is named exactly if `names_gender` is set; the occupation of a person at work exactly
    if `names_occupation` is, that of one off duty always; setting and tool are named some of the
    time. Raises ValueError if the subject lacks what it is to name.
    """
    random = Random(seed)
    if subject.person:
        caption = _fill(random, random.choice(_templates(subject)), subject)
    else:
        caption = random.choice(_captions_without_person(subject))
    if random.random() < 0.4:
        caption = caption[0].upper() + caption[1:]
        caption += "." if random.random() < 0.5 else ""
    return caption


def _templates(subject: CaptionSubject) -> tuple[str, ...]:
    if subject.names_gender and subject.gender is None:
        raise ValueError("names_gender is set but gender is None: give the gender to be named")
    if subject.names_occupation and subject.occupation is None:
        raise ValueError(
            "names_occupation is set but occupation is None: give the occupation to be named"
        )
    if subject.at_work and subject.occupation is None:
        raise ValueError("at_work is set but occupation is None: give the occupation")
    if subject.occupation is None:
        return _PORTRAIT_WITH_GENDER if subject.names_gender else _PORTRAIT
    if not subject.at_work:
        return _OFF_DUTY_WITH_GENDER if subject.names_gender else _OFF_DUTY
    if subject.names_occupation:
        return _WORKER_WITH_GENDER if subject.names_gender else _WORKER
    return _SOMEONE_AT_WORK_WITH_GENDER if subject.names_gender else _SOMEONE_AT_WORK


def _captions_without_person(subject: CaptionSubject) -> tuple[str, ...]:
    if subject.setting is not None:
        return _EMPTY_SETTINGS[subject.setting]
    if subject.tool is not None:
        return _LONE_TOOLS[subject.tool]
    raise ValueError("setting and tool are both None in a picture without a person: give one")


def _with_article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _fill(random: Random, template: str, subject: CaptionSubject) -> str:
    worker = subject.occupation or ""
    place = f" {PLACES[subject.setting]}" if subject.setting and random.random() < 0.45 else ""
    thing = TOOL_WORDS[subject.tool] if subject.tool else ""
    verb = random.choice(("with", "holding"))
    tool = f" {verb} {_with_article(thing)}" if thing and random.random() < 0.45 else ""
    slots = {
        "worker": worker,
        "a_worker": _with_article(worker) if worker else "",
        "place": place,
        "tool": tool,
        "thing": thing,
    }
    if subject.names_gender and subject.gender is not None:
        words = GENDER_WORDS[subject.gender]
        noun = random.choice(words.nouns)
        slots |= {
            "woman": noun,
            "a_woman": _with_article(noun),
            "a_female_worker": _with_article(f"{words.adjective} {worker}"),
            "she": words.subject,
            "her": words.possessive,
        }
    return template.format_map(slots)
