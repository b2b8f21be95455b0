"""A producer that goes on after the broker has refused one message."""

from __future__ import annotations

from typing import Any

from kafka import KafkaProducer
from kafka.errors import MessageSizeTooLargeError, RecordListTooLargeError

__all__ = ["TOO_LARGE", "survive_refusals"]

# By the client library's limit or the broker's, and by the topic's.
TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)


def survive_refusals(producer: KafkaProducer) -> KafkaProducer:
    """Let a producer send what comes after a message that is too large.

    Kafka-python 3.0.12 takes such a refusal for the end of an idempotent producer, and answers
    whatever is sent later with the same error, without sending it. Here the producer gets a new
    epoch instead, as after other errors that leave a gap in its sequence of messages.
    """
    manager = producer._transaction_manager
    classify = manager.classify_batch_error

    def classify_batch_error(error: Any, *details: Any, **more: Any) -> Any:
        if isinstance(error, TOO_LARGE):
            return manager.ERROR_CLASS_NEEDS_EPOCH_BUMP
        return classify(error, *details, **more)

    manager.classify_batch_error = classify_batch_error
    return producer
