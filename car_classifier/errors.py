"""The errors this project raises on purpose. Each message says what was expected and what came."""

from __future__ import annotations

from enum import Enum


class CarClassifierError(Exception):
    """Base of every error whose message is meant for the person at the keyboard."""


class SettingsError(CarClassifierError):
    """A setting or an installation that cannot work: a wrong value, a missing file or package."""


class BrokerError(CarClassifierError):
    """The broker cannot be reached, did not start or did not take a message."""


class DatabaseError(CarClassifierError):
    """The database refuses results, and trying again would not help."""


class ModelError(CarClassifierError):
    """A model file that is missing, damaged or of another kind than the service needs."""


class ClassMapError(CarClassifierError):
    """A class map that is missing, damaged, or made for another model."""


class PhotoFileError(CarClassifierError):
    """A photo on the camera's side that cannot be sent."""


class Reason(str, Enum):
    """Why a message is rejected: a small closed set, for people and programs that count."""

    NOT_JSON = "not_json"
    NOT_AN_OBJECT = "not_an_object"
    MISSING_FIELD = "missing_field"
    BAD_FIELD = "bad_field"
    BAD_BASE64 = "bad_base64"
    NOT_AN_IMAGE = "not_an_image"
    DAMAGED_IMAGE = "damaged_image"
    IMAGE_TOO_LARGE = "image_too_large"
    OUT_OF_MEMORY = "out_of_memory"
    MODEL_FAILED = "model_failed"


class MessageError(CarClassifierError):
    """A message that no prediction can be made from.

    Attributes:
        reason: one of the closed set.
        detail: what was expected and what came.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason.value}: {detail}")
        self.reason = reason
        self.detail = detail
