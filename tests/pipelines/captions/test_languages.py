"""The language of captions: English at a glance, and the model for the rest."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.captions.languages import (
    ENGLISH_WORDS,
    FOREIGN_WORDS,
    SHARED_WORDS,
    _by_model,
    _weigh,
    identify,
)
from pipelines.captions.words import Words

FOREIGN = {
    "es": """
        Una mujer con un vestido rojo en la playa
        El chef prepara la comida en la cocina
        Hombre joven sentado en un banco del parque
        Zapatos de mujer de piel negra
        Enfermera con un paciente en el hospital
        Dos ninos juegan al futbol en la calle
        Camiseta Nike para hombre color negro
        La doctora revisa los resultados
        Perro en el jardin de la casa
        Maestra de escuela con sus alumnos
        Receta de paella valenciana
        Vista aerea de la ciudad de Madrid
        Bolso de mano para mujer
        El presidente del gobierno en Bruselas
    """,
    "de": """
        Eine Frau mit einem roten Kleid am Strand
        Der Chef steht in der Küche und kocht
        Ein Mann sitzt auf einer Bank im Park
        Herren Sneaker in Schwarz von Nike
        Krankenschwester mit Patient im Krankenhaus
        Man sieht den Berg in der Ferne
        Die Art der Nahrung ist wichtig
        Kinder spielen Fussball auf der Strasse
        The North Face Jacke für Herren in Schwarz
        Bild von einem alten Haus in Berlin
        Damen Winterjacke mit Kapuze
        Hochzeit im Garten mit Freunden
        Lehrerin und Schüler im Klassenzimmer
        Blick auf die Stadt vom Turm
    """,
    "fr": """
        Une femme avec une robe rouge sur la plage
        Le chef prépare le repas dans la cuisine
        Homme assis sur un banc dans le parc
        Chaussures pour femme en cuir noir
        Infirmière avec un patient à l'hôpital
        Des enfants jouent au football dans la rue
        L'art de vivre à la française
        Un chien dans le jardin de la maison
        Photo de mariage dans un chateau
        Sac à main femme noir
        La ville de Paris vue du ciel
        Recette de tarte aux pommes
        Table en bois avec chaises
        Portrait d'un homme en costume
    """,
    "it": """
        Una donna con un vestito rosso sulla spiaggia
        Lo chef prepara il pranzo in cucina
        Uomo seduto su una panchina nel parco
        Scarpe da donna in pelle nera
        Infermiera con un paziente in ospedale
        Bambini che giocano a calcio per strada
        La casa in montagna con giardino
        Ragazza a cavallo in spiaggia a Rimini
        Bottiglia di vino rosso in offerta
        Cane nel giardino di casa
        Ritratto di un uomo con barba
        Ricetta della pasta al pomodoro
    """,
    "nl": """
        Een vrouw met een rode jurk op het strand
        De chef bereidt het eten in de keuken
        Man zit op een bank in het park
        Zwarte leren damesschoenen
        Verpleegster met een patiënt in het ziekenhuis
        Kinderen spelen voetbal op straat
        Hond in de tuin van het huis
        Een man is in zijn auto op weg naar huis
        Foto van een oud huis in Amsterdam
        Houten tafel met vier stoelen
        Portret van een jonge vrouw
        Bruiloft in de tuin met vrienden
    """,
    "pt": """
        Uma mulher com um vestido vermelho na praia
        O chefe prepara a comida na cozinha
        Homem sentado num banco do parque
        Sapatos femininos de couro preto
        Enfermeira com um paciente no hospital
        Meninos jogam futebol na rua
        Cachorro no jardim da casa
        Bolsa feminina de couro
        Retrato de um homem com barba
        Vista da cidade de Lisboa ao entardecer
        Receita de bolo de chocolate
        A menina a sorrir para a camara
    """,
    "sv": """
        En kvinna i röd klänning på stranden
        Kocken lagar mat i köket
        En man sitter på en bänk i parken
        Barn leker på gatan framför huset
        Svarta skor för kvinnor
        Hund i trädgården
    """,
    "da": """
        En kvinde i en rød kjole på stranden
        Kokken laver mad i køkkenet
        En mand sidder på en bænk i parken
        Børn leger på gaden foran huset
    """,
    "pl": """
        Kobieta w czerwonej sukience na plaży
        Szef kuchni przygotowuje jedzenie
        Mężczyzna siedzi na ławce w parku
        Dzieci bawią się na ulicy
        Pies w ogrodzie przy domu
    """,
    "tr": """
        Plajda kırmızı elbiseli bir kadın
        Aşçı mutfakta yemek hazırlıyor
        Parkta bir bankta oturan adam
        Her gün yeni bir hikaye
        Çocuklar sokakta oynuyor
    """,  # noqa: RUF001
    "id": """
        Seorang wanita dengan gaun merah di pantai
        Koki sedang menyiapkan makanan di dapur
        Pria duduk di bangku taman
        Anak anak bermain bola di jalan
    """,
    "ru": """
        Женщина в красном платье на пляже
        Повар готовит еду на кухне
        Мужчина сидит на скамейке в парке
    """,
    "ja": """
        海辺の赤いドレスの女性
        台所で料理をするシェフ
    """,
    "hu": """
        A lány a házban ül
        Egy férfi ül a padon a parkban
    """,
    "ro": """
        O femeie cu o rochie rosie pe plaja
        Un barbat sta pe o banca in parc
    """,
    "fi": """
        Nainen punaisessa mekossa rannalla
        Mies istuu penkillä puistossa
    """,
}
BY_LANGUAGE = {
    language: [line.strip() for line in text.strip().splitlines()]
    for language, text in FOREIGN.items()
}
ENGLISH = [
    "a woman in a red dress on the beach",
    "The North Face jacket for men in black",
    "Two children are playing football on the street",
    "a bowl of paella with a glass of sangria",
    "Portrait of Angela Merkel in Berlin, Germany",
    "THE CHEF PREPARES FOOD IN THE KITCHEN",
    "the chef\N{RIGHT SINGLE QUOTATION MARK}s hat \N{COOKING}",
    "Nurse with a patient at the hospital",
    "Nike Air Max shoes for men, black and white",
    "Cristo Redentor statue in Rio de Janeiro with tourists",
]


def test_english_is_english() -> None:
    assert identify(ENGLISH) == ["en"] * len(ENGLISH)


def test_other_languages_are_not_english() -> None:
    """At most one of a hundred is taken for English, and few for a third language."""
    captions = [caption for each in BY_LANGUAGE.values() for caption in each]
    wanted = [language for language, each in BY_LANGUAGE.items() for _ in each]
    found = identify(captions, assumed="en")
    assert len(captions) >= 110
    assert found.count("en") <= 1
    assert sum(a != b and a is not None for a, b in zip(found, wanted, strict=True)) <= 4
    assert sum(a == b for a, b in zip(found, wanted, strict=True)) >= 98
    english = _weigh(Words.of(captions)).plainly
    assert not english.any()


@pytest.mark.parametrize("language", ["es", "de", "fr", "it", "nl", "pt"])
def test_a_sentence_is_recognised(language: str) -> None:
    assert identify(BY_LANGUAGE[language][:1]) == [language]


@pytest.mark.parametrize("file", ["cc3m_validation.txt.gz", "coco_val2017.jsonl.gz"])
def test_real_english_captions_are_english(shared_data: Path, file: str) -> None:
    lines = gzip.decompress((shared_data / "captions" / file).read_bytes()).decode().splitlines()
    captions = [json.loads(line)["caption"] if "jsonl" in file else line for line in lines][::5]
    missed = sum(language != "en" for language in identify(captions, assumed="en"))
    assert missed / len(captions) < 0.01
    english = _weigh(Words.of(captions)).plainly
    assert english.mean() > 0.85  # so that the model is seldom asked
    asked = [caption for caption, plain in zip(captions, english, strict=True) if plain][::10]
    agree = [_by_model(caption) in ("en", None) for caption in asked]
    assert np.mean(agree) > 0.99


@pytest.mark.parametrize("caption", ["nurse", "red chair", "Chef", "man", "art", "doctor"])
def test_short_captions_may_be_assumed(caption: str) -> None:
    assert identify([caption], assumed="en") == ["en"]


@pytest.mark.parametrize(
    ("caption", "wanted"),
    [
        # the model is sure of another language
        *[
            ("die Frau", "de"),
            ("mujer", "es"),
            ("een man", "nl"),
            ("um homem", "pt"),
            ("女性", "ja"),
        ],
        # it is not, but English is not to be assumed
        ("\xe4\xf6\xfc", None),
        *[("", None), ("!?", None), ("\n", None)],
        ("lorem amet kvak zzyx", None),  # four words
    ],
)
def test_short_captions_of_other_languages(caption: str, wanted: str | None) -> None:
    found = identify([caption], assumed="en")
    assert found == [wanted] if wanted is not None else found[0] != "en"


def test_one_english_word_is_enough_for_a_short_caption() -> None:
    """The model takes the first for French and the second for Dutch."""
    assert identify(["the chef", "image of door"]) == ["en", "en"]


def test_nothing_is_assumed_unless_asked_for() -> None:
    assert identify(["Chef", "art"]) == [None, None]
    assert identify(["Chef"], assumed="sv") == ["sv"]


def test_a_language_without_two_letters_is_untold(monkeypatch: pytest.MonkeyPatch) -> None:
    class Sure:
        def detect(self, text: str, *, model: str) -> list[dict[str, object]]:
            assert model == "lite"
            return [{"lang": "ceb", "score": 0.99}]

    monkeypatch.setattr("pipelines.captions.languages._detector", Sure)
    assert identify(["usa ka babaye nga naglingkod"]) == [None]


def test_words_are_of_one_kind() -> None:
    assert not ENGLISH_WORDS & SHARED_WORDS
    assert not (ENGLISH_WORDS | SHARED_WORDS) & FOREIGN_WORDS


def test_one_foreign_word_sends_a_caption_to_the_model() -> None:
    weighed = _weigh(
        Words.of(
            ["the house with the tree", "the house with und the tree", "the caf\xe9 with the tree"]
        )
    )
    assert weighed.plainly.tolist() == [True, False, False]
    assert weighed.words.tolist() == [5, 6, 5]


def test_one_english_word_settles_what_the_model_is_not_sure_of() -> None:
    assert _by_model("a man, the chef, number 4") is None
    assert identify(["a man, the chef, number 4"]) == ["en"]
    assert identify(["a man, con chef, number 4"]) != ["en"]


def test_long_captions_and_newlines() -> None:
    captions = [
        "una mujer\ncon un perro " * 5000,
        "a woman\nwith the dog",
        "ein Mann\r\nund eine Frau",
    ]
    assert identify(captions) == ["es", "en", "de"]


def test_no_captions() -> None:
    assert identify([]) == []
    assert identify(Words.of([])) == []


def test_nothing_is_downloaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In a fresh process without a network, and without a cache to fall back on."""
    program = (
        "import socket\n"
        "def no(*_, **__): raise AssertionError('network')\n"
        "socket.socket.connect = socket.create_connection = socket.getaddrinfo = no\n"
        "from pipelines.captions.languages import identify\n"
        "print(identify(['una mujer con un perro en la playa', 'the woman and the dog']))"
    )
    monkeypatch.setenv("FTLANG_CACHE", str(tmp_path))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "['es', 'en']\n", done.stderr
    assert not list(tmp_path.iterdir())


@settings(deadline=None, max_examples=60)
@given(
    batch=st.lists(
        st.one_of(st.text(max_size=30), st.sampled_from([*ENGLISH, *BY_LANGUAGE["es"]])), max_size=6
    )
)
def test_a_batch_is_its_captions_one_by_one(batch: list[str]) -> None:
    found = identify(batch, assumed="en")
    assert found == [identify([caption], assumed="en")[0] for caption in batch]
    assert found == identify(Words.of(batch), assumed="en")
    assert all(language is None or len(language) == 2 for language in found)
