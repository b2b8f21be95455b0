"""Names are shown clean, and classes are never confused because their names look alike."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.dataset_fixtures import real_data
from training.matfiles import cell_text, load_variable
from training.names import (
    body_type_of,
    clean_make,
    clean_model,
    clean_name,
    full_name,
    split_class_name,
    unique_names,
)


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("Hyundai ", "Hyundai"),
        ("Lamorghini ", "Lamborghini"),
        ("BWM", "BMW"),
        ("Buck", "Buick"),
        ("Chrey", "Chery"),
        ("Zoyte", "Zotye"),
        ("AC Chnitzer", "AC Schnitzer"),
        ("Benz", "Mercedes-Benz"),
        ("Chevy", "Chevrolet"),
        ("SAAB", "Saab"),
        ("LAND-ROVER", "Land Rover"),
        ("Škoda", "Škoda"),
    ],
)
def test_a_make_is_shown_clean(raw: str, shown: str) -> None:
    assert clean_make(raw) == shown


@pytest.mark.parametrize(
    ("make", "model", "shown"),
    [
        ("BWM", "BWM 3 Series", "3 Series"),
        ("Benz", "Benz C Class AMG", "C Class AMG"),
        ("Jaguar", "Gaguar XJ", "XJ"),
        ("GreatWall", "Great Wall C50", "C50"),
        ("Buck", "EXCELLE  GT", "Excelle GT"),
        ("Toyota", "丰田Avalon", "Avalon"),
        ("Opel", "Zafira\u2019", "Zafira"),
        ("MG", "MG3 SW", "3 SW"),
        ("Haima", "Haimaqishi", "Haimaqishi"),
        ("MINI", "MINI", "MINI"),
        ("Ford", "Mendeo Zhisheng", "Mondeo Zhisheng"),
        ("Peugeot", "Peugeot 2008", "2008"),
        ("Toyota", "丰田", "丰田"),
    ],
)
def test_a_model_is_shown_clean_and_without_its_make(make: str, model: str, shown: str) -> None:
    assert clean_model(model, make) == shown


@given(st.text())
def test_cleaning_any_text_gives_a_printable_name_that_stays_as_it_is(raw: str) -> None:
    name = clean_name(raw)
    assert clean_name(name) == name
    assert name == name.strip()
    assert "  " not in name
    assert not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in name)
    clean_make(raw)
    clean_model(raw, raw)


@given(st.text(), st.text())
def test_a_named_model_never_loses_its_whole_name_with_its_make(make: str, model: str) -> None:
    assert bool(clean_model(model, make)) == bool(clean_name(model))


@given(
    st.dictionaries(
        st.integers(1, 20), st.sampled_from(["Saab", "SAAB", "Saab (2)", "Ruiling", ""])
    )
)
def test_names_are_told_apart_whatever_they_are(names: dict[int, str]) -> None:
    unique = unique_names(names)
    assert list(unique) == list(names)
    assert len({name.casefold() for name in unique.values()}) == len(names)


def test_a_name_that_nobody_shares_stays_as_it_is() -> None:
    assert unique_names({3: "Saab", 7: "Audi", 9: "Saab"}) == {
        3: "Saab (3)",
        7: "Audi",
        9: "Saab (9)",
    }


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("Acura TL Sedan 2012", ("Acura", "TL Sedan", 2012)),
        ("AM General Hummer SUV 2000", ("AM General", "Hummer SUV", 2000)),
        ("Aston Martin V8 Vantage Coupe 2012", ("Aston Martin", "V8 Vantage Coupe", 2012)),
        ("Land Rover LR2 SUV 2012", ("Land Rover", "LR2 SUV", 2012)),
        ("Peugeot 2008", ("Peugeot", "2008", None)),
        ("Peugeot 3008", ("Peugeot", "3008", None)),
        ("Audi", ("Audi", "", None)),
        ("", ("", "", None)),
    ],
)
def test_a_class_name_splits_into_make_model_and_year(
    name: str, parts: tuple[str, str, int | None]
) -> None:
    assert split_class_name(name) == parts
    assert full_name(*parts) == name


def test_the_body_type_is_the_last_word_of_the_model() -> None:
    assert body_type_of("TL Sedan") == "sedan"
    assert body_type_of("F-150 Regular Cab") == "pickup"
    assert body_type_of("Integra Type R") == body_type_of("") == ""


def test_the_real_compcars_names_come_out_clean() -> None:
    table = load_variable(
        real_data("compcars_meta", "make_model_names_cls.mat"), "make_model_names"
    )
    names = {
        full_name(clean_make(make), clean_model(model, make))
        for make, model in ((cell_text(a), cell_text(b)) for a, b in table)
    }
    assert len(names) == len(table) == 431
    assert all(name.isascii() and name == name.strip() and name for name in names)
    assert {"BMW 3 Series", "Mercedes-Benz C Class", "Jaguar XJ", "MINI", "MG 3"} <= names
    assert not any("BWM" in name or "Benz Benz" in name for name in names)
