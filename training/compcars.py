"""CompCars (Yang, Luo, Loy, Tang, CVPR 2015): its web photos and its surveillance photos.

Layout of the web photos, below the root folder:
    data/image/<make_id>/<model_id>/<year>/<name>.jpg    the year may be "unknown"
    data/label/<the same>.txt                            viewpoint, number of boxes, x1 y1 x2 y2
    data/train_test_split/classification/{train,test}.txt
    data/misc/{make_model_name.mat,attributes.txt,car_type.mat}
and of the surveillance photos:
    sv_data/image/<class id>/<name>.jpg, sv_data/{train,test}_surveillance.txt,
    sv_data/sv_make_model_name.mat

Ids are 1-based positions in the .mat files' cells. They are the keys: names are misspelt, padded,
repeated and sometimes absent, so they are cleaned and only shown.
"""

from __future__ import annotations

import re
from pathlib import Path

from training.errors import DamagedFileError, DatasetError
from training.listing import Box, ListedPhoto, Listing, numbered, require
from training.matfiles import cell_number, cell_text, load_texts, load_variable
from training.names import clean_make, clean_model, clean_name, full_name, unique_names

VIEWPOINTS = {-1: "", 1: "front", 2: "rear", 3: "side", 4: "front-side", 5: "rear-side"}

_WEB_LINE = re.compile(r"(\d{1,6})/(\d{1,6})/([^/\\]+)/([^/\\]+\.\w+)", re.ASCII)
_SURVEILLANCE_LINE = re.compile(r"(\d{1,6})/([^/\\]+\.\w+)", re.ASCII)


def read_compcars(root: Path) -> Listing:
    """List the web photos of the classification task, with the split that CompCars ships.

    A class is a model (`class_id` is CompCars' model id); the year is the photo's, not the class's.

    Raises:
        DatasetError: `root` is not CompCars, or one of its files is missing.
        DamagedFileError: one of its files does not hold what it should, with its line.
    """
    if (root / "misc").is_dir() and not (root / "data").is_dir():
        raise DatasetError(f"{root}: this is CompCars' data folder; give the folder that holds it")
    require(root, "data/misc", "data/image", what="CompCars' root folder, which holds data/")
    data = root / "data"
    make_names = load_texts(data / "misc" / "make_model_name.mat", "make_names")
    model_names = load_texts(data / "misc" / "make_model_name.mat", "model_names")
    body_types = _read_body_types(data / "misc")

    listing = Listing()
    lists = data / "train_test_split" / "classification"
    lines = _read_lists(
        {split: lists / f"{split}.txt" for split in ("test", "train")},
        _WEB_LINE,
        "<make_id>/<model_id>/<year>/<name>.jpg",
        listing,
    )
    ids = sorted({(int(fields[0]), int(fields[1])) for fields, _ in lines.values()})
    makes = {make: clean_make(_cell(make_names, make)) or f"make {make}" for make, _ in ids}
    models = {
        model: clean_model(_cell(model_names, model), _cell(make_names, make)) or f"model {model}"
        for make, model in ids
    }
    classes = unique_names({model: full_name(makes[make], models[model]) for make, model in ids})
    shown_makes = unique_names(makes)
    unnamed = sum(1 for _, model in ids if not clean_name(_cell(model_names, model)))
    if unnamed:
        listing.warnings.append(f"{unnamed} models have no name in make_model_name.mat: id shown")

    unlabelled: list[str] = []
    for key, (fields, split) in lines.items():
        make, model, year = int(fields[0]), int(fields[1]), fields[2]
        label = data / "label" / Path(key).with_suffix(".txt")
        try:
            viewpoint, box = _read_label(label)
        except DatasetError:
            # A photo is of use without its box; the names go into the summary.
            viewpoint, box = "", None
            unlabelled.append(key)
        listing.photos.append(
            ListedPhoto(
                path=data / "image" / key,
                key=key,
                split=split,
                class_id=model,
                class_name=classes[model],
                make_id=make,
                make=shown_makes[make],
                model=models[model],
                year=int(year) if re.fullmatch(r"\d{4}", year, re.ASCII) else None,
                body_type=body_types.get(model, ""),
                viewpoint=viewpoint,
                box=box,
            )
        )
    if unlabelled:
        listing.warnings.append(
            f"{len(unlabelled)} photos have no readable label file, thus no box and no viewpoint: "
            f"first {unlabelled[0]}"
        )
    return listing


def read_surveillance(root: Path) -> Listing:
    """List the surveillance photos, all seen from the front, with the split that CompCars ships.

    A class is a row of sv_make_model_name.mat; the body type comes from the web data, where that is
    there too. There are no boxes and no years.

    Raises:
        DatasetError, DamagedFileError: as `read_compcars` does.
    """
    require(root, "sv_data/image", what="CompCars' root folder, which holds sv_data/")
    data = root / "sv_data"
    names_file = data / "sv_make_model_name.mat"
    cells = load_variable(names_file, "sv_make_model_name")
    if cells.ndim != 2 or cells.shape[1] != 3:
        raise DamagedFileError(f"{names_file}: expected N x 3 cells, found {cells.shape}")
    misc = root / "data" / "misc"
    body_types = _read_body_types(misc) if misc.is_dir() else {}

    makes: dict[int, str] = {}
    models: dict[int, str] = {}
    body_of: dict[int, str] = {}
    for number, (make, model, web_id) in enumerate(cells, start=1):
        makes[number] = clean_make(cell_text(make)) or "unknown make"
        models[number] = clean_model(cell_text(model), cell_text(make)) or f"model {number}"
        try:
            body_of[number] = body_types.get(cell_number(web_id), "")
        except ValueError as error:
            raise DamagedFileError(f"{names_file}: row {number}, model id: {error}") from error
    classes = unique_names({n: full_name(makes[n], models[n]) for n in makes})
    make_ids = numbered(makes.values())

    listing = Listing()
    lines = _read_lists(
        {split: data / f"{split}_surveillance.txt" for split in ("test", "train")},
        _SURVEILLANCE_LINE,
        "<class id>/<name>.jpg",
        listing,
    )
    for key, (fields, split) in lines.items():
        number = int(fields[0])
        if number not in classes:
            listing.skip(f"class id beyond the {len(classes)} of {names_file.name}", key)
            continue
        listing.photos.append(
            ListedPhoto(
                path=data / "image" / key,
                key=key,
                split=split,
                class_id=number,
                class_name=classes[number],
                make_id=make_ids[makes[number]],
                make=makes[number],
                model=models[number],
                body_type=body_of[number],
                viewpoint="front",
            )
        )
    return listing


def _cell(names: list[str], number: int) -> str:
    """Return the name with the 1-based `number`, "" if there is none."""
    return names[number - 1] if 1 <= number <= len(names) else ""


def _read_lists(
    lists: dict[str, Path], line_form: re.Pattern[str], expected: str, listing: Listing
) -> dict[str, tuple[tuple[str, ...], str]]:
    """Read the list of each split; return photo -> (the fields of its line, split).

    A photo that two lists name stays in the first, test, so that nothing tested was trained on.
    """
    found: dict[str, tuple[tuple[str, ...], str]] = {}
    for split, path in lists.items():
        for number, line in enumerate(_read_text(path).splitlines(), start=1):
            line = line.strip()
            if not line:
                continue
            match = line_form.fullmatch(line)
            if match is None or ".." in line.split("/"):
                raise DamagedFileError(f"{path}, line {number}: expected {expected}, got {line!r}")
            if line not in found:
                found[line] = (match.groups(), split)
            elif found[line][1] == split:
                listing.skip("listed twice", line)
            else:
                listing.skip("listed in train and in test: kept in test only", line)
    return found


def _read_label(path: Path) -> tuple[str, Box]:
    """Return (viewpoint, box) of a label file, whose box is 1-based and inclusive."""
    lines = _read_text(path).split("\n")
    try:
        viewpoint = VIEWPOINTS[int(lines[0])]
        x1, y1, x2, y2 = (int(number) for number in lines[2].split())
    except (ValueError, KeyError, IndexError) as error:
        raise DamagedFileError(
            f"{path}: expected three lines: viewpoint, 1, x1 y1 x2 y2"
        ) from error
    return viewpoint, (x1 - 1, y1 - 1, x2, y2)


def _read_body_types(misc: Path) -> dict[int, str]:
    """Return model id -> body type from attributes.txt; a model of unknown type (0) is absent.

    Each line is `model_id maximum_speed displacement door_number seat_number type`.
    """
    types = [clean_name(name) for name in load_texts(misc / "car_type.mat", "types")]
    path = misc / "attributes.txt"
    body_types: dict[int, str] = {}
    for number, line in enumerate(_read_text(path).splitlines()[1:], start=2):
        if not line.strip():
            continue
        try:
            fields = line.split()
            model, kind = int(fields[0]), int(fields[5])
        except (ValueError, IndexError) as error:
            raise DamagedFileError(
                f"{path}, line {number}: expected six numbers, got {line.strip()!r}"
            ) from error
        if not 0 <= kind <= len(types):
            raise DamagedFileError(
                f"{path}, line {number}: expected a type of 0 to {len(types)}, got {kind}"
            )
        if kind:
            body_types[model] = types[kind - 1]
    return body_types


def _read_text(path: Path) -> str:
    """Return a text file of CompCars, or raise DatasetError or DamagedFileError that names it."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DamagedFileError(f"{path}: expected UTF-8 text: {error}") from error
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror or error}") from error
