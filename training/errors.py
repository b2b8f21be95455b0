"""The errors of data preparation and training: each names the file, line and what was expected."""

from __future__ import annotations

from collections.abc import Sequence

from car_classifier.errors import CarClassifierError


class TrainingError(CarClassifierError):
    """Base of what goes wrong between a dataset on disk and a trained model."""


class DatasetError(TrainingError):
    """A dataset's folder lacks what its layout promises, or nothing in it is usable."""


class DamagedFileError(DatasetError):
    """A dataset's file exists and does not hold what it should."""


class ManifestError(TrainingError):
    """A manifest cannot be read or written."""


class MissingColumnsError(ManifestError):
    """A manifest's header lacks a column that is needed."""


class BadRowError(ManifestError):
    """Rows of a manifest hold a value that means nothing, or contradict each other."""


class UnknownSplitError(ManifestError):
    """Rows of a manifest name a split that is none of train, val and test."""


class MissingPhotosError(ManifestError):
    """A manifest lists photos that are not on disk."""


class UnseenClassError(ManifestError):
    """Classes are evaluated (val, test) that have no photo in train."""


class EmptySplitError(ManifestError):
    """A split that is asked for has no photo."""


class UnreadablePhotoError(TrainingError):
    """A photo is on disk and is no picture, or only half of one."""


class WeightsError(TrainingError):
    """Pre-trained weights that cannot be fetched or read, or that fit no layer of the model."""


class CheckpointError(TrainingError):
    """A checkpoint that is damaged, or of another run than the one that is to go on."""


class ClassMismatchError(TrainingError):
    """A manifest has classes that the model does not tell apart."""


class ExportError(TrainingError):
    """A model that answers too differently after its export."""


def name_some(items: Sequence[str], limit: int = 3) -> str:
    """Return the first `limit` items and how many more there are, for a message."""
    shown = ", ".join(items[:limit])
    return f"{shown} and {len(items) - limit} more" if len(items) > limit else shown
