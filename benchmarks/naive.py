"""The loop that everyone writes: one message, one `model.predict`, one print. The reference.

Nothing here is slow on purpose, and nothing is tuned. Its progress bar is off and its class names
are at hand, as in the better ones.

    python -m benchmarks.naive localhost:9092 TOPIC model.keras classes.json
"""

import base64
import io
import json
import sys

import numpy as np
from kafka import KafkaConsumer
from PIL import Image
from tensorflow.keras.models import load_model


def main() -> None:
    """Classify photos for ever."""
    bootstrap_servers, topic, model_path, classes_path = sys.argv[1:]
    model = load_model(model_path, compile=False)
    height, width = model.input_shape[1:3]
    with open(classes_path, encoding="utf-8") as class_file:
        classes = json.load(class_file)
    consumer = KafkaConsumer(
        topic,
        bootstrap_servers=bootstrap_servers,
        group_id="naive",
        auto_offset_reset="earliest",
        session_timeout_ms=6000,  # the embedded broker holds a group's start for half of it
    )
    print("Consumer listening...", file=sys.stderr, flush=True)
    for record in consumer:
        message = json.loads(record.value)
        file = io.BytesIO(base64.b64decode(message["image_data"]))
        image = Image.open(file).convert("RGB").resize((width, height))
        batch = np.expand_dims(np.array(image), axis=0)
        prediction = model.predict(batch, verbose=0)
        best = int(np.argmax(prediction[0]))
        print(
            f"{message['image_name']} -> {classes[str(best)]}, "
            f"Confidence: {prediction[0][best]:.2%}",
            flush=True,
        )


if __name__ == "__main__":
    main()
