"""The results topic: each prediction as JSON, for programs on other machines."""

from __future__ import annotations

import json

from car_classifier.classifying import Answers
from car_classifier.delivery import KeepWaiting
from car_classifier.model import ModelIdentity
from car_classifier.outbox import Outbox, OutgoingMessage
from car_classifier.predictions import Prediction

__all__ = ["RESULTS_TOPIC", "ResultsTopic"]

RESULTS_TOPIC = "taller_camara_predicciones"


class ResultsTopic:
    """A sink that sends each prediction, keyed by camera as the photos are.

    A prediction may come twice after a crash; (topic, partition, offset) tells a repeated one.
    """

    def __init__(self, outbox: Outbox, topic: str, model: ModelIdentity) -> None:
        self._outbox = outbox
        self._topic = topic
        self._model = {"model_file": model.file, "model_sha256": model.sha256}

    def deliver(self, batch: Answers, keep_waiting: KeepWaiting) -> bool:
        """Send a batch's predictions; see `car_classifier.delivery.Sink`."""
        messages = [self._message(one) for one in batch.answers if isinstance(one, Prediction)]
        return self._outbox.send(messages, keep_waiting)

    def close(self) -> None:
        """Nothing to let go: the outbox is its owner's to close."""

    def _message(self, prediction: Prediction) -> OutgoingMessage:
        times = {
            "captured": prediction.photo.timestamp,
            "received": prediction.received,
            "predicted": prediction.predicted,
        }
        value = json.dumps({**prediction.as_dict(), **self._model, **times}).encode()
        # A camera's name may hold half of a surrogate pair, which JSON can carry and UTF-8 cannot.
        key = prediction.photo.camera_id.encode(errors="backslashreplace")
        return OutgoingMessage(self._topic, key, value, [])
