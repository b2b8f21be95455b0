"""Names as people should see them, from names as datasets spell them.

Only what is shown is cleaned: classes are keyed by their ids, so two ids never melt into one class
because their names look alike (see `unique_names`).
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Hashable, Mapping
from typing import TypeVar

Id = TypeVar("Id", bound=Hashable)

# Misspelt or oddly written makes, by their case-folded spelling in CompCars.
MAKES = {
    "ac chnitzer": "AC Schnitzer",
    "benz": "Mercedes-Benz",
    "buck": "Buick",
    "bwm": "BMW",
    "chevy": "Chevrolet",
    "chrey": "Chery",
    "dongfengfengdu": "Dongfeng Fengdu",
    "dongfengfengshen": "Dongfeng Fengshen",
    "dongfengfengxing": "Dongfeng Fengxing",
    "fiat": "Fiat",
    "greatwall": "Great Wall",
    "haima(zhengzhou)": "Haima (Zhengzhou)",
    "kia": "Kia",
    "lamorghini": "Lamborghini",
    "land-rover": "Land Rover",
    "mazda": "Mazda",
    "saab": "Saab",
    "wealeak": "WeaLink",
    "zoyte": "Zotye",
}

# Misspelt words of model names, by their case-folded spelling; a word is replaced only as a whole.
MODEL_WORDS = {
    "canyenne": "Cayenne",
    "couple": "coupe",
    "encore": "Encore",
    "excelle": "Excelle",
    "exclle": "Excelle",
    "fshion": "Fashion",
    "gaguar": "Jaguar",
    "lavide": "Lavida",
    "lcruiser": "Land Cruiser",
    "mendeo": "Mondeo",
    "voager": "Voyager",
    "wulinghongguang": "Hongguang",
    "wulingrongguang": "Rongguang",
    "wulingzhiguang": "Zhiguang",
}

# Makes of more than one word, so that "Land Rover LR2 SUV 2012" is no "Land" of model "Rover LR2".
LONG_MAKES = (
    "AC Schnitzer",
    "AM General",
    "Alfa Romeo",
    "Aston Martin",
    "Great Wall",
    "Land Rover",
    "Rolls Royce",
)

BODY_TYPES = {
    "cab": "pickup",
    "convertible": "convertible",
    "coupe": "coupe",
    "hatchback": "hatchback",
    "minivan": "minivan",
    "sedan": "sedan",
    "suv": "SUV",
    "van": "van",
    "wagon": "wagon",
}

_HAN = re.compile("[\u3400-\u9fff\uf900-\ufaff]+")
_LATIN = re.compile("[A-Za-z0-9]")
_STRAY_ENDS = " .,;:_'`\"\u00b4\u2018\u2019\u201c\u201d"
_YEAR = re.compile(r"(19|20)\d\d", re.ASCII)


def clean_name(raw: str) -> str:
    """Return `raw` without control characters, doubled spaces and stray punctuation at its ends.

    Letters beyond ASCII stay, in composed form, but Chinese characters in front of or behind a
    Latin name ("丰田Avalon") only repeat the make and go. The result may be empty.
    """
    text = unicodedata.normalize("NFKC", raw)
    text = "".join(" " if unicodedata.category(c)[0] in "CZ" else c for c in text)
    if _LATIN.search(text):
        text = _HAN.sub(" ", text)
    return unicodedata.normalize("NFKC", " ".join(text.split()).strip(_STRAY_ENDS))


def clean_make(raw: str) -> str:
    """Return a make as it is shown: cleaned, known misspellings put right ("BWM" is "BMW")."""
    name = clean_name(raw)
    return MAKES.get(name.casefold(), name)


def clean_model(raw: str, raw_make: str = "") -> str:
    """Return a model as it is shown, without the make that CompCars repeats in front of it.

    Args:
        raw: the model's name in the dataset, "BWM 3 Series".
        raw_make: its make's name in the dataset, "BWM"; the repeated make is found in this
            spelling and in the cleaned one.
    """
    words = clean_name(raw).split(" ")
    name = " ".join(MODEL_WORDS.get(word.casefold(), word) for word in words)
    for make in (clean_make(raw_make), clean_name(raw_make)):
        rest = _without_make(name, make)
        if rest != name:
            return rest
    return name


def _without_make(name: str, make: str) -> str:
    """Strip `make` off the front of `name` where a word ends or a digit follows ("MG3" is MG 3)."""
    if not make or name[: len(make)].casefold() != make.casefold():
        return name
    rest = name[len(make) :]
    return rest.strip() if rest[:1].isspace() or rest[:1].isdigit() else name


def full_name(make: str, model: str, year: int | None = None) -> str:
    """Return a class's display name, "BMW M3 Coupe 2012"; "MINI" of make MINI is said once."""
    model = "" if model.casefold() == make.casefold() else model
    return " ".join(part for part in (make, model, str(year) if year else "") if part)


def split_class_name(name: str) -> tuple[str, str, int | None]:
    """Return (make, model, year) of a name such as "Acura TL Sedan 2012".

    The last word is the year if it is four digits (1900 to 2099) and a model remains without it;
    the make is the first word, or two where LONG_MAKES knows it. The model may be empty.
    """
    words = name.split()
    year = None
    make_words = 1
    for make in LONG_MAKES:
        parts = make.casefold().split()
        if [word.casefold() for word in words[: len(parts)]] == parts:
            make_words = len(parts)
    if len(words) > make_words + 1 and _YEAR.fullmatch(words[-1]):
        year = int(words.pop())
    return " ".join(words[:make_words]), " ".join(words[make_words:]), year


def body_type_of(model: str) -> str:
    """Return the body type that a model's last word names ("TL Sedan" is "sedan"), or ""."""
    words = model.split()
    return BODY_TYPES.get(words[-1].casefold(), "") if words else ""


def unique_names(names: Mapping[Id, str]) -> dict[Id, str]:
    """Return `names` with every name that several ids share told apart by its id: "Saab (81)"."""
    shared = Counter(name.casefold() for name in names.values())
    taken = set(shared)
    unique: dict[Id, str] = {}
    for key, name in names.items():
        candidate = name
        while shared[name.casefold()] > 1 and candidate.casefold() in taken:
            candidate = f"{name} ({key})" if candidate == name else f"{candidate}'"
        taken.add(candidate.casefold())
        unique[key] = candidate
    return unique
