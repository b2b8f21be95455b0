"""The dashboard in real Chromium, on what camera, broker and consumer really do."""

from __future__ import annotations

import contextlib
import csv
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from kafka import KafkaProducer
from PIL import Image
from selenium.webdriver.common.keys import Keys

from tests.chromium import Browser, running_dashboard
from tests.kafka_services import Embedded
from tests.models import COLOURS, environment_of, write_light_colour_model
from tests.photos import encoded
from tests.scripts import CONSUMER, PRODUCER, SECONDS, Program

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
HOSTILE_CAMERA = "<img src=x onerror='window.hacked=1'>"
HOSTILE_MAKE = "<script>window.hacked=1</script>"
HOSTILE_MODEL = "<b>**bold**</b> [link](javascript:window.hacked=1)"


@pytest.fixture(scope="module")
def stage(embedded: Embedded, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of all programs: a topic, a database that is not there yet, a model."""
    folder = tmp_path_factory.mktemp("dashboard")
    topic = f"dashboard-{folder.parent.name}-{folder.name}"
    embedded.create_topic(topic)
    model, classes = write_light_colour_model(folder)
    cars = list(COLOURS.values())
    cars[2] = {"make": HOSTILE_MAKE, "model": HOSTILE_MODEL}  # what blue is taken for
    classes.write_text(json.dumps(dict(enumerate(cars))))
    return embedded.environment(
        KAFKA_TOPIC=topic,
        KAFKA_GROUP_ID=topic,
        DATABASE_URL=f"sqlite:///{folder}/results.db",
        MIN_CONFIDENCE="0.5",
        **environment_of(model, classes, "openvino"),
    )


@pytest.fixture(scope="module")
def address(stage: dict[str, str]) -> Iterator[str]:
    with running_dashboard(stage) as address:
        yield address


@pytest.fixture(scope="module")
def page(chromium: Browser, address: str) -> Browser:
    """The page, opened before there is a database and never loaded again."""
    chromium.look(1400, 2600, "light")
    chromium.driver.get_log("performance")  # its start page's
    chromium.driver.get(address)
    chromium.wait_for(lambda: "No results yet" in chromium.texts(".head .state"))
    chromium.driver.execute_script("window.opened = 'once'")
    return chromium


@pytest.fixture(scope="module")
def consumer(stage: dict[str, str], page: Browser) -> Iterator[Program]:
    """A consumer that keeps results where the page, which is open already, looks for them."""
    assert never_loaded_again(page)
    with Program([CONSUMER], stage) as consumer:
        consumer.wait_for_line("Consumer listening")
        yield consumer


def photograph(
    stage: dict[str, str], folder: Path, camera: str, name: str, rgb: tuple[int, int, int]
) -> None:
    """Send a photo of one colour, as a camera does."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(encoded(Image.new("RGB", (64, 48), rgb)))
    camera_options = ["--images", folder, "--camera-id", camera, "--interval", "0", "--once"]
    with Program([PRODUCER, *camera_options], stage) as producer:
        assert producer.end() == 0, producer


def cell(page: Browser, text: str) -> bool:
    """Whether a table has such a cell; it is drawn, with its text beside it for screen readers."""
    return page.driver.execute_script(
        "return [...document.querySelectorAll('[data-testid=stDataFrame] td')]"
        ".some(cell => cell.textContent === arguments[0])",
        text,
    )


def tile(page: Browser, name: str) -> str:
    """The number of a tile."""
    return next(text.split("\n")[1] for text in page.texts(".tile") if text.split("\n")[0] == name)


def never_loaded_again(page: Browser) -> bool:
    return page.driver.execute_script("return window.opened") == "once"


def test_the_page_says_how_to_start_while_there_is_no_database(
    page: Browser, stage: dict[str, str]
) -> None:
    code = page.wait_for(lambda: page.texts("[data-testid=stCode]"))
    assert f"consumidor_clasificador.py --database {stage['DATABASE_URL']}" in code[0]
    assert not Path(stage["DATABASE_URL"].removeprefix("sqlite:///")).exists()


@pytest.mark.usefixtures("consumer")
def test_a_new_car_appears_by_itself(page: Browser, stage: dict[str, str], tmp_path: Path) -> None:
    photograph(stage, tmp_path / "one", "gate", "a.jpg", RED)
    page.wait_for(lambda: "Ferrari 458 Italia 2012" in page.texts(".car .answer"))
    assert tile(page, "Photos") == "1"

    photograph(stage, tmp_path / "two", "gate", "b.jpg", GREEN)
    page.wait_for(lambda: page.texts(".car .answer") == ["Jaguar E-Type"])
    page.wait_for(lambda: tile(page, "Photos") == "2")
    page.wait_for(lambda: cell(page, "Ferrari 458 Italia 2012") and cell(page, "Jaguar E-Type"))

    assert never_loaded_again(page)
    assert len(page.texts(".car .bar")) == 3
    assert page.driver.execute_script(
        "const [photo] = document.querySelectorAll('.car img'); return photo.naturalWidth"
    )
    page.wait_for(lambda: tile(page, "Consumer lag") == "0")
    assert any("Live, last answer" in state for state in page.texts(".head .state"))


@pytest.mark.usefixtures("consumer")
def test_names_are_shown_as_the_text_they_are(
    page: Browser, stage: dict[str, str], tmp_path: Path
) -> None:
    photograph(stage, tmp_path / "photos", HOSTILE_CAMERA, "<u>c.jpg", BLUE)

    car = f"{HOSTILE_MAKE} {HOSTILE_MODEL}"
    page.wait_for(lambda: car in page.texts(".car .answer"))
    assert HOSTILE_CAMERA in page.texts(".car .from span:first-child")
    page.wait_for(lambda: HOSTILE_MAKE in page.texts(".bars .what"))
    page.wait_for(lambda: cell(page, car) and cell(page, HOSTILE_CAMERA))
    assert page.driver.execute_script("return window.hacked") is None
    assert not page.all(".car b, .car a, .bars b, .bars a, .stHtml script")


@pytest.mark.usefixtures("consumer")
def test_a_rejected_message_is_listed_with_its_reason(page: Browser, stage: dict[str, str]) -> None:
    servers = stage["KAFKA_BOOTSTRAP_SERVERS"]
    with KafkaProducer(bootstrap_servers=servers) as producer:
        producer.send(stage["KAFKA_TOPIC"], b"no photo", key=b"gate").get(timeout=SECONDS)

    page.wait_for(lambda: tile(page, "Rejected") not in ("0.0%", "\u2013"))
    page.press("[data-testid=stTab]", "Rejected")
    page.wait_for(lambda: cell(page, "not_json"))
    page.press("[data-testid=stTab]", "Answers")


@pytest.mark.usefixtures("consumer")
def test_the_table_is_searched_and_exported_without_formulas(
    page: Browser, stage: dict[str, str], tmp_path: Path
) -> None:
    photograph(stage, tmp_path / "photos", "=1+1", "=2+2.jpg", GREEN)
    page.wait_for(lambda: cell(page, "=1+1"))

    search = page.wait_for(lambda: page.all("[data-testid=stTextInput] input"))[0]
    search.send_keys("jaguar =2", Keys.ENTER)
    page.wait_for(lambda: cell(page, "=1+1") and not cell(page, "gate"))
    page.press("[data-testid=stDownloadButton] button", "Export CSV")

    file = page.wait_for(lambda: next(page.downloads.glob("*.csv"), None))
    [row] = csv.DictReader(file.read_text(encoding="utf-8-sig").splitlines())
    assert (row["camera_id"], row["image_name"]) == ("'=1+1", "'=2+2.jpg")
    assert (row["make"], row["model"]) == ("Jaguar", "E-Type")
    assert abs(float(row["confidence"])) <= 1
    assert search.get_attribute("value") == "jaguar =2"  # outlasts what draws itself anew
    search.send_keys(Keys.CONTROL, "a")
    search.send_keys(Keys.DELETE, Keys.ENTER)
    page.wait_for(lambda: cell(page, "gate"))


@pytest.mark.usefixtures("consumer")
def test_nothing_flickers_while_the_page_draws_itself_anew(page: Browser) -> None:
    page.wait_for(lambda: len(page.all("[data-testid=stVegaLiteChart] svg")) >= 3)
    page.driver.execute_script(
        "window.kept = [...document.querySelectorAll("
        "'.car, [data-testid=stVegaLiteChart] svg, [data-testid=stDataFrame] canvas')];"
    )
    state = page.texts(".head .state")
    page.wait_for(lambda: page.texts(".head .state") != state)  # it has been drawn anew
    time.sleep(3)  # and again

    assert page.driver.execute_script("return kept.length >= 6 && kept.every(e => e.isConnected)")
    assert never_loaded_again(page)


def test_the_page_is_for_this_machine_only_and_asks_nobody_else(
    page: Browser, address: str
) -> None:
    port = int(address.rsplit(":", 1)[1])
    # All of 127.0.0.0/8 is this machine: a server that listens everywhere answers here, too.
    with pytest.raises(ConnectionRefusedError), contextlib.closing(socket.socket()) as other:
        other.connect(("127.0.0.2", port))

    asked = set()
    for entry in page.driver.get_log("performance"):
        event = json.loads(entry["message"])["message"]
        if event["method"] == "Network.requestWillBeSent":
            url = urlsplit(event["params"]["request"]["url"])
            asked.add((url.scheme, url.netloc))
    assert {place for place in asked if place[0].startswith(("http", "ws"))} == {
        ("http", address.removeprefix("http://"))
    }


def test_on_a_phone_nothing_is_wider_than_the_screen(page: Browser) -> None:
    page.look(390, 800, "dark", phone=True)
    page.wait_for(lambda: page.driver.execute_script("return innerWidth") == 390)
    wide = page.driver.execute_script(
        "return [...document.querySelectorAll('.tile, .car, .bars, .stHtml, .stVegaLiteChart')]"
        ".filter(e => e.getBoundingClientRect().right > innerWidth).map(e => e.className)"
    )
    assert wide == []
    assert page.driver.execute_script(
        "const dark = getComputedStyle(document.querySelector('.stApp')).backgroundColor;"
        "return Math.max(...dark.match(/[0-9]+/g).slice(0, 3)) < 60"
    )
