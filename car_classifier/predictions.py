"""What the model says about a photo, as a line for people and as JSON for programs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from car_classifier.class_map import CarClass
from car_classifier.messages import CarPhoto

__all__ = ["Prediction", "Source", "predict_top_k", "printable"]

_LONGEST_SHOWN = 100  # letters of a name; a terminal line stays a line


@dataclass(frozen=True)
class Source:
    """Where on Kafka a message came from; names it once and for all."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{printable(self.topic)}[{self.partition}]@{self.offset}"


@dataclass(frozen=True)
class Prediction:
    """The answer for one photo."""

    photo: CarPhoto
    source: Source
    top_k: list[tuple[CarClass, float]]  # best first, confidence 0..1
    certain: bool  # whether the best one reaches the asked-for confidence
    received: float  # seconds since 1970, when its message came off Kafka
    predicted: float  # seconds since 1970, when the model had answered
    thumbnail: bytes | None = None  # a small JPEG of the photo, if asked for

    @property
    def latency_ms(self) -> float:
        """From the photo's timestamp to the answer."""
        return (self.predicted - self.photo.timestamp) * 1000

    def as_line(self) -> str:
        """One line for people, safe to print whatever the camera called itself."""
        best, confidence = self.top_k[0]
        if self.certain:
            answer = f"Make: {best.make}" + (f", Model: {best.model}" if best.model else "")
        else:
            answer = f"Make: unknown (best guess: {best})"
        name = f"{printable(self.photo.camera_id)} {printable(self.photo.image_name)}"
        return f"{name} -> {printable(answer)}, Confidence: {confidence:.2%}"

    def as_json(self) -> str:
        """One JSON object, of `as_dict`."""
        return json.dumps(self.as_dict())

    def as_dict(self) -> dict[str, Any]:
        """What goes into JSON; make, model and year are None where the confidence is too low."""
        best, confidence = self.top_k[0]
        return {
            "camera_id": self.photo.camera_id,
            "image_name": self.photo.image_name,
            "timestamp": self.photo.timestamp,
            **(_names(best) if self.certain else dict.fromkeys(("make", "model", "year"))),
            "confidence": round(confidence, 6),
            "top_k": [{**_names(car), "confidence": round(share, 6)} for car, share in self.top_k],
            "latency_ms": round(self.latency_ms, 1),
            "topic": self.source.topic,
            "partition": self.source.partition,
            "offset": self.source.offset,
        }


def _names(car: CarClass) -> dict[str, str | int | None]:
    return {"make": car.make, "model": car.model or None, "year": car.year}


def predict_top_k(
    probabilities: NDArray[np.float32], classes: list[CarClass], k: int
) -> list[tuple[CarClass, float]]:
    """The k most likely classes of float32 (classes,), best first, with their confidence 0..1."""
    best = np.argsort(-probabilities, kind="stable")[:k]
    return [(classes[index], float(probabilities[index])) for index in best]


def printable(text: str, longest: int = _LONGEST_SHOWN) -> str:
    """Show text from strangers safely: no control characters or line breaks, not too long."""
    if len(text) > longest:
        text = text[: longest - 1] + "…"
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
