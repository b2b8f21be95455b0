"""The README's pictures of the dashboard, in real Chromium.

The demo's photos go through broker and consumer, and the model that is shipped answers. What the
charts show of the hour before is made up.
"""

from __future__ import annotations

import io
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.stored_answers import fill
from car_classifier.engine import make_engine
from tests.chromium import Browser, running_dashboard
from tests.kafka_services import Embedded
from tests.scripts import CONSUMER, PRODUCER, ROOT, Program

# `make pictures` sets it to the folder where the README's pictures are.
PICTURES = os.environ.get("PICTURES")

PHOTOS = sorted((ROOT / "data" / "imagenes_test").glob("*.jpg"))
CAMERAS = ["gate-north", "gate-south", "ramp", "workshop", "yard"]
WIDTH, HEIGHT = 1400, 1560
LARGEST = 250_000  # bytes of a picture
NO_DITHER = Image.Dither.NONE


@pytest.fixture(scope="module")
def address(embedded: Embedded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page of a service that has answered the demo's photos."""
    folder = tmp_path_factory.mktemp("pictures")
    embedded.create_topic(topic := "pictures")
    url = f"sqlite:///{folder}/results.db"
    environment = embedded.environment(
        KAFKA_TOPIC=topic, KAFKA_GROUP_ID=topic, DATABASE_URL=url, MIN_CONFIDENCE="0.5"
    )
    for number, photo in enumerate(PHOTOS):
        camera = folder / CAMERAS[number % len(CAMERAS)]
        camera.mkdir(exist_ok=True)
        shutil.copy(photo, camera)
    with Program([CONSUMER, "--max-messages", str(len(PHOTOS))], environment) as consumer:
        consumer.wait_for_line("Consumer listening")
        fill(make_engine(url), 2500, time.time() - 3600, time.time(), CAMERAS)
        for camera_id in CAMERAS:
            options = ["--images", folder / camera_id, "--camera-id", camera_id]
            with Program([PRODUCER, *options, "--interval", "0", "--once"], environment) as camera:
                assert camera.end() == 0, camera
        assert consumer.end() == 0, consumer
    with running_dashboard(environment) as address:
        yield address


@pytest.mark.pictures
def test_the_page_is_photographed_for_the_readme_in_light_and_in_dark(
    chromium: Browser, address: str, tmp_path: Path
) -> None:
    brightness = {}
    for scheme in ("light", "dark"):
        chromium.look(WIDTH, HEIGHT, scheme)
        chromium.driver.get(address)
        chromium.wait_for(
            lambda: (
                len(chromium.all(".car img")) == len(CAMERAS)
                and len(chromium.all("[data-testid=stVegaLiteChart] svg")) == 3
                and any("photos waiting" in tile for tile in chromium.texts(".tile"))
                and chromium.all("[data-testid=stDataFrame] td")
            )
        )
        picture = Image.open(io.BytesIO(chromium.driver.get_screenshot_as_png())).convert("RGB")
        # This way the few pixels of a rare colour, such as red, keep it.
        small = picture.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=1, dither=NO_DITHER)
        file = (ROOT / PICTURES if PICTURES else tmp_path) / f"dashboard-{scheme}.png"
        small.save(file, optimize=True)

        assert picture.size == (WIDTH, HEIGHT)
        assert file.stat().st_size < LARGEST
        brightness[scheme] = picture.convert("L").resize((1, 1)).getpixel((0, 0))
    assert brightness["light"] > 200
    assert brightness["dark"] < 80
