"""Draw the README's picture: the photos of the demo, each with what the shipped model says of it.

python -m docs.draw_demo
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt

from car_classifier.camera import PhotoFolder
from car_classifier.class_map import load_class_map
from car_classifier.demo import MIN_CONFIDENCE, PHOTOS
from car_classifier.images import decode_image
from car_classifier.model import load_classifier
from car_classifier.predictions import predict_top_k

ROOT = Path(__file__).parent.parent
COLUMNS = 5


def main() -> None:
    """Classify the photos and write docs/demo.png."""
    plt.switch_backend("Agg")
    classes = load_class_map(ROOT / "models" / "marcas_coches.json")
    classifier = load_classifier(ROOT / "models" / "clasificador_coches_v4.keras", classes)
    paths = list(PhotoFolder(PHOTOS).round())
    rows = -(-len(paths) // COLUMNS)
    figure, axes = plt.subplots(rows, COLUMNS, figsize=(2.6 * COLUMNS, 2.3 * rows))
    for axis in axes.flat:
        axis.axis("off")
    for axis, path in zip(axes.flat, paths, strict=False):
        image = decode_image(path.read_bytes(), classifier.input_size)
        ((car, confidence),) = predict_top_k(classifier.predict(image[None])[0], classes, 1)
        sure = confidence >= MIN_CONFIDENCE
        axis.imshow(np.asarray(plt.imread(path)))
        axis.set_title(
            f"{car}\n{confidence:.0%}" if sure else f"unknown\n({car}? {confidence:.0%})",
            fontsize=7,
            color="darkgreen" if sure else "dimgray",
        )
    figure.tight_layout()
    figure.savefig(ROOT / "docs" / "demo.png", dpi=100)


if __name__ == "__main__":
    main()
