"""Stanford Cars (Krause, Stark, Deng, Fei-Fei, 3dRR-13, 2013): 196 classes of make, model and year.

Read from the set's own devkit: cars_meta.mat (class names), cars_train_annos.mat and, where it is
there, cars_test_annos_withlabels.mat. They lie in the root folder or its devkit/; the photos in
cars_train/ and cars_test/.
"""

from __future__ import annotations

from pathlib import Path

from training.errors import DamagedFileError, DatasetError
from training.listing import ListedPhoto, Listing, numbered, require
from training.matfiles import cell_number, cell_text, load_texts, load_variable
from training.names import body_type_of, clean_name, split_class_name, unique_names

_BOX_FIELDS = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")


def read_cars196(root: Path, images: Path | None = None, *, cropped: bool = False) -> Listing:
    """List the photos that the devkit annotates.

    With the labelled test annotations the photos carry the set's own split; without them they
    carry none, and figures measured on a split of the training half are not the benchmark's.

    Args:
        root: the folder that holds the devkit.
        images: the folder of the training photos; by default cars_train/ or images/ in the root.
        cropped: the photos are already cut to their boxes, so the boxes are left out.

    Raises:
        DatasetError: the root, the devkit or the folder of photos is missing.
        DamagedFileError: a .mat file does not hold what it should, with the annotation's number.
    """
    what = "Stanford Cars' root folder, which holds devkit/ or its .mat files"
    require(root, what=what)
    devkit = root / "devkit" if (root / "devkit").is_dir() else root
    require(devkit, "cars_meta.mat", "cars_train_annos.mat", what=what)
    raw_names = load_texts(devkit / "cars_meta.mat", "class_names")
    names = unique_names(dict(enumerate((clean_name(name) for name in raw_names), start=1)))
    make_ids = numbered(split_class_name(name)[0] for name in names.values())

    listing = Listing()
    train_photos = images or _photo_folder(root, "cars_train", "images")
    labelled_test = [
        folder / "cars_test_annos_withlabels.mat"
        for folder in (devkit, root)
        if (folder / "cars_test_annos_withlabels.mat").is_file()
    ]
    halves = [(devkit / "cars_train_annos.mat", train_photos, "train" if labelled_test else "")]
    if labelled_test:
        halves.append((labelled_test[0], _photo_folder(root, "cars_test"), "test"))
    else:
        listing.warnings.append(
            "no labelled test annotations: test is taken from the training photos, and figures on "
            "it are not those of the Stanford Cars benchmark"
        )
    for file, folder, split in halves:
        _read_annotations(file, folder, split, names, make_ids, listing, cropped)
    return listing


def _read_annotations(
    path: Path,
    folder: Path,
    split: str,
    names: dict[int, str],
    make_ids: dict[str, int],
    listing: Listing,
    cropped: bool,
) -> None:
    """Add the photos of one annotation file, a 1 x N struct array, to `listing`."""
    annotations = load_variable(path, "annotations").ravel()
    absent = [
        field
        for field in (*_BOX_FIELDS, "class", "fname")
        if field not in (annotations.dtype.names or ())
    ]
    if absent:
        raise DamagedFileError(f"{path}: expected the fields {', '.join(absent)} in annotations")
    for number, annotation in enumerate(annotations, start=1):
        try:
            x1, y1, x2, y2 = (cell_number(annotation[field]) for field in _BOX_FIELDS)
            class_id = cell_number(annotation["class"])
            name = names[class_id]
        except ValueError as error:
            raise DamagedFileError(f"{path}, annotation {number}: {error}") from error
        except KeyError as error:
            raise DamagedFileError(
                f"{path}, annotation {number}: expected a class of 1 to {len(names)}, got {error}"
            ) from error
        file_name = cell_text(annotation["fname"])
        if not file_name or Path(file_name).name != file_name:
            raise DamagedFileError(
                f"{path}, annotation {number}: expected a photo's file name, got {file_name!r}"
            )
        make, model, year = split_class_name(name)
        listing.photos.append(
            ListedPhoto(
                path=folder / file_name,
                key=f"{split or 'train'}/{file_name}",
                split=split,
                class_id=class_id,
                class_name=name,
                make_id=make_ids[make],
                make=make,
                model=model,
                year=year,
                body_type=body_type_of(model),
                # MATLAB's boxes are 1-based and inclusive.
                box=None if cropped else (x1 - 1, y1 - 1, x2, y2),
            )
        )


def _photo_folder(root: Path, *candidates: str) -> Path:
    for name in candidates:
        if (root / name).is_dir():
            return root / name
    raise DatasetError(
        f"{root}: expected the photos in {' or '.join(candidates)}"
        + ("; name another folder with --images" if "cars_train" in candidates else "")
    )
