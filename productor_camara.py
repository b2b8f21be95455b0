"""The simulated camera: sends the photos of a folder to Kafka, one every few seconds."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from car_classifier.broker import connect, make_producer
from car_classifier.camera import PhotoFolder, read_photo
from car_classifier.console import (
    add_broker_options,
    broker_settings,
    checked,
    environment_default,
    forgiving_output,
    quiet_kafka_log,
)
from car_classifier.errors import CarClassifierError, PhotoFileError
from car_classifier.messages import CarPhoto
from car_classifier.predictions import printable
from car_classifier.publishing import PhotoPublisher
from car_classifier.shutdown import StopSignal

PHOTOS = Path(__file__).parent / "data" / "imagenes_test"


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; environment variables are the defaults of their options."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_broker_options(parser)
    add = parser.add_argument
    # fmt: off
    add("--images", type=Path, default=environment_default("CAMERA_IMAGES", PHOTOS),
        metavar="FOLDER", help="folder of photos [CAMERA_IMAGES; data/imagenes_test]")
    add("--camera-id", default=environment_default("CAMERA_ID", "cam01"), metavar="NAME",
        help="name of this camera [CAMERA_ID; %(default)s]")
    add("--interval", type=checked(float, minimum=0), metavar="SECONDS",
        default=environment_default("CAMERA_INTERVAL", 5.0),
        help="pause between photos; 0 sends as fast as the broker takes them "
        "[CAMERA_INTERVAL; %(default)s]")
    add("--once", action="store_true", help="send each photo once, then end")
    add("--shuffle", action="store_true", help="send in random order instead of by name")
    add("--max-side", type=checked(int, minimum=16), metavar="PIXELS",
        default=environment_default("CAMERA_MAX_SIDE", None),
        help="shrink photos whose longest side is larger [CAMERA_MAX_SIDE; off]")
    # fmt: on
    return parser.parse_args(arguments)


def send_photos(options: argparse.Namespace, stopped: StopSignal) -> int:
    """Send photos until the end or a signal; return the exit status."""
    settings = broker_settings(options)
    folder = PhotoFolder(options.images, options.shuffle)
    producer = connect(lambda: make_producer(settings), settings, stopped)
    if producer is None:
        return 0
    print(f"Producer started. Sending images every {options.interval:g} seconds...", flush=True)
    # What cannot be sent is said once, not in every round.
    publisher = PhotoPublisher(
        producer, settings, stopped, lambda photo: folder.skip(options.images / photo.image_name)
    )
    unsendable = 0
    pause = 0.0
    try:
        while not stopped():
            sent_before = publisher.sent
            for path in folder.round():
                stopped.sleep(pause)
                if stopped():
                    break
                if not os.path.lexists(path):  # removed during the pause
                    continue
                try:
                    image = read_photo(path, options.max_side)
                except PhotoFileError as error:
                    folder.skip(path)
                    unsendable += 1
                    print(f"Not sent: {printable(str(error), 300)}", file=sys.stderr, flush=True)
                    continue
                publisher.send(CarPhoto(time.time(), options.camera_id, path.name, image))
                pause = options.interval
                if options.interval:
                    publisher.settle()
            publisher.settle()
            if options.once:
                break
            if publisher.sent == sent_before:  # an emptied folder: look again, but not all the time
                stopped.sleep(max(options.interval, 1.0))
    finally:  # also when the broker refuses us: what it has is counted
        publisher.close()
        failed = publisher.failed + unsendable
        print(f"Producer stopped. {publisher.sent} sent, {failed} failed.", flush=True)
    return 1 if options.once and failed else 0


def main() -> int:
    """Run the command line; return the exit status."""
    quiet_kafka_log()
    forgiving_output()
    try:
        return send_photos(parse_options(), StopSignal())
    except CarClassifierError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever read our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


if __name__ == "__main__":
    sys.exit(main())
