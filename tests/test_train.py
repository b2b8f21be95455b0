"""Retraining from the README's commands, on a data set so small that it takes seconds."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from car_classifier.class_map import load_class_map
from car_classifier.model import load_classifier
from tests.tiny_cars import COLOURS, train_tiny, write_cars
from training import evaluate, manifest
from training.batches import BatchMaker, EpochPlan, PhotoCache, TrainingBatches
from training.checkpoints import Checkpoints
from training.dataset import read_manifest

PROJECT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def cars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifest of three easy classes: 39 photos to train on, 9 to validate, 12 to test."""
    root = tmp_path_factory.mktemp("cars")
    write_cars(root / "photos")
    out = root / "cars.csv"
    shares = ("--val-fraction", "0.2", "--test-fraction", "0.2")
    assert (
        manifest.main(["folder", "--root", str(root / "photos"), "--out", str(out), *shares]) == 0
    )
    return out


def words(cars: Path, out: Path, *more: str) -> list[str]:
    return ["--manifest", str(cars), "--out", str(out), *more]


def log_of(model: Path) -> list[dict[str, float]]:
    with open(model.with_suffix(".log.csv"), newline="") as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def test_a_folder_of_photos_becomes_a_model_that_the_service_loads_and_that_is_right(
    cars: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "models" / "cars.keras"
    assert train_tiny(words(cars, out, "--epochs", "9", "--train-sizes", "24", "32")) == 0
    capsys.readouterr()

    classes_file = out.with_suffix(".classes.json")
    options = ["--model", str(out), "--classes", str(classes_file), "--manifest", str(cars)]
    assert evaluate.main([*options, "--out", str(tmp_path / "report")]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    measured = json.loads(line)
    assert (measured["n"], measured["image_size"]) == (12, 32)
    assert measured["top1"] >= 0.9

    classes = load_class_map(classes_file)
    assert [str(car) for car in classes] == list(COLOURS)
    assert classes[2].make == "Land Rover"
    assert load_classifier(out, classes).input_size == (32, 32)
    assert [row["size"] for row in log_of(out)] == [24] * 6 + [32] * 4
    assert (tmp_path / "models" / "cars.curves.png").stat().st_size > 1000
    assert (tmp_path / "report" / "report.md").is_file()


def test_what_an_epoch_learns_is_not_thrown_away_for_the_average(
    cars: Path, tmp_path: Path
) -> None:
    out = tmp_path / "m.keras"
    # An average so slow that a run which went on from it would stand still.
    options = words(cars, out, "--head-epochs", "0", "--epochs", "6", "--ema", "0.9999")
    assert train_tiny(options) == 0
    losses = [row["loss"] for row in log_of(out)]
    assert losses[-1] < 0.75 * losses[0]


class Stopped(BaseException):
    """Stands for a power cut."""


def stop_after(monkeypatch: pytest.MonkeyPatch, epoch: int) -> None:
    """Let the run stop where the checkpoint of this epoch has just been written."""
    save = Checkpoints.save

    def save_and_stop(
        self: Checkpoints, model: object, optimizer: object, done: int, names: frozenset[str]
    ) -> None:
        save(self, model, optimizer, done, names)
        if done == epoch:
            raise Stopped

    monkeypatch.setattr(Checkpoints, "save", save_and_stop)


@pytest.fixture(scope="module")
def unbroken(cars: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two and two epochs that nobody stopped."""
    out = tmp_path_factory.mktemp("unbroken") / "m.keras"
    assert train_tiny(words(cars, out, "--head-epochs", "2", "--epochs", "2")) == 0
    return out


@pytest.mark.parametrize("epoch", [1, 2, 3], ids=["in the head", "between", "in the backbone"])
def test_a_resumed_run_ends_as_an_unbroken_one(
    cars: Path, unbroken: Path, tmp_path: Path, epoch: int, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "m.keras"
    options = words(cars, out, "--head-epochs", "2", "--epochs", "2")
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, epoch)
        with pytest.raises(Stopped):
            train_tiny(options)
    assert train_tiny([*options, "--resume"]) == 0
    assert f"going on after epoch {epoch}" in capsys.readouterr().err

    assert [row["epoch"] for row in log_of(out)] == [1, 2, 3, 4]
    expected = [row["loss"] for row in log_of(unbroken)]
    assert [row["loss"] for row in log_of(out)] == pytest.approx(expected, rel=0.01)


def test_a_killed_run_goes_on_after_its_last_finished_epoch(cars: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.keras"
    command = [sys.executable, "-m", "tests.tiny_cars"]
    # Small batches: enough of them that the kill comes in the middle of an epoch.
    options = words(cars, out, "--batch-size", "2", "--head-epochs", "1")
    with open(tmp_path / "err.txt", "wb") as err:
        run = subprocess.Popen([*command, *options, "--epochs", "500"], cwd=PROJECT, stderr=err)
        try:
            deadline = time.monotonic() + 120
            while not list(tmp_path.glob("m.checkpoints/epoch-000[2-9].npz")):
                assert run.poll() is None, (tmp_path / "err.txt").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)
        finally:
            run.send_signal(signal.SIGKILL)
            run.wait()
    assert not out.exists()
    (checkpoint,) = tmp_path.glob("m.checkpoints/epoch-*.npz")
    done = int(re.findall(r"\d+", checkpoint.name)[0])

    again = subprocess.run(
        [*command, *options, "--epochs", str(done), "--resume"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert again.returncode == 0, again.stderr
    assert f"going on after epoch {done}\n" in again.stderr
    assert [row["epoch"] for row in log_of(out)] == list(range(1, done + 2))
    load_classifier(out, load_class_map(out.with_suffix(".classes.json")))


def test_resuming_without_a_checkpoint_starts_anew_and_says_so(
    cars: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "m.keras"
    options = words(cars, out, "--head-epochs", "1", "--epochs", "0")  # the head alone, as well
    assert train_tiny([*options, "--resume"]) == 0
    assert "no checkpoint to go on with, starting anew" in capsys.readouterr().err
    assert out.is_file()

    assert train_tiny(options) == 0
    assert "checkpoint of epoch 1 that is there will be overwritten" in capsys.readouterr().err


def test_a_checkpoint_of_other_classes_is_refused_and_the_old_model_stays(
    cars: Path, unbroken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = cars.with_name("other.csv")
    other.write_text(cars.read_text().replace(",BMW X5 SUV 2007\n", ",BMW X3 SUV 2007\n"))
    options = words(other, tmp_path / "m.keras", "--resume")
    before = unbroken.read_bytes()
    checkpoints = str(unbroken.with_suffix(".checkpoints"))
    assert train_tiny([*options, "--checkpoints", checkpoints]) == 2
    assert "class 1 is 'BMW X3 SUV 2007' in the manifest" in capsys.readouterr().err
    assert unbroken.read_bytes() == before


def test_training_improves_an_existing_model(
    cars: Path, unbroken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "better.keras"
    options = words(cars, out, "--weights", str(unbroken), "--head-epochs", "1", "--epochs", "1")
    assert train_tiny(options) == 0
    assert log_of(out)[0]["loss"] < log_of(unbroken)[0]["loss"]
    assert "better.keras: " in capsys.readouterr().out


def test_an_unreadable_photo_is_named_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = write_cars(tmp_path / "photos", 10)
    shares = ("--val-fraction", "0.2", "--test-fraction", "0.2")
    table = tmp_path / "cars.csv"
    manifest.main(["folder", "--root", str(photos), "--out", str(table), *shares])
    damaged = read_manifest(table).split("train")[3].image
    damaged.write_bytes(damaged.read_bytes()[:300])
    assert train_tiny(words(table, tmp_path / "m.keras")) == 2
    assert f"{damaged}: not a readable photo" in capsys.readouterr().err
    assert not (tmp_path / "m.checkpoints").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--batch-size", "64"], "expected at least one batch of 64 photos to train on, got 39"),
        (["--weights", "none.npz"], "none.npz: expected pre-trained weights"),
        (["--manifest", "none.csv"], "none.csv: no such manifest"),
        (["--teachers", "none.keras"], "none.keras: expected a model to learn from"),
    ],
)
def test_what_cannot_be_trained_is_said_and_no_stack_trace(
    cars: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    assert train_tiny(words(cars, tmp_path / "m.keras", *more)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error


@pytest.mark.parametrize(
    "more",
    [
        ["--head-epochs", "0", "--epochs", "0"],
        ["--out", "model.h5"],
        ["--backbone", "vgg"],
        ["--views", "0"],
        ["--processes", "-1"],
        ["--teachers-share", "1.1"],
    ],
)
def test_options_that_cannot_work_are_refused(cars: Path, tmp_path: Path, more: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        train_tiny(words(cars, tmp_path / "m.keras", *more))


def test_a_full_disk_leaves_the_model_that_was_there(
    cars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "m.keras"
    out.write_bytes(b"the old model")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert train_tiny(words(cars, out, "--epochs", "0")) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert out.read_bytes() == b"the old model"


def test_an_epochs_batches_are_the_same_every_time_and_hold_each_photo_once(cars: Path) -> None:
    photos = PhotoCache(read_manifest(cars).split("train"), 48, gibibytes=0.001)
    photos.fill()

    def epoch(number: int) -> TrainingBatches:
        plan = EpochPlan(24, 12, 0.0, (5, number))
        return TrainingBatches(BatchMaker(photos, 3), plan, len(photos))

    first, again, second = epoch(1), epoch(1), epoch(2)
    assert len(first) == 3
    for index in range(3):
        images, labels = first[index]
        assert images.shape == (12, 24, 24, 3)
        assert (images.dtype, labels.dtype) == (np.uint8, np.float32)
        assert np.array_equal(images, again[index][0])
        assert not np.array_equal(images, second[index][0])
    total = sum(first[index][1].sum(axis=0) for index in range(3))
    counts = np.bincount([photo.label for photo in photos.photos])
    assert (total <= counts).all()
    assert total.sum() == 36


def test_an_epoch_of_several_views_sees_each_photo_so_often(cars: Path) -> None:
    photos = PhotoCache(read_manifest(cars).split("train"), 48, gibibytes=0.001)
    plan = EpochPlan(24, 13, 0.0, (5, 1), views=3)
    batches = TrainingBatches(BatchMaker(photos, 3), plan, len(photos))
    assert len(batches) == 9  # of 13: all 39 photos, three times
    labels = sum(batches[index][1].sum(axis=0) for index in range(9))
    counts = np.bincount([photo.label for photo in photos.photos])
    assert (labels == 3 * counts).all()
    order = plan.order(39)
    assert (np.bincount(order) == 3).all()
    assert not np.array_equal(order[:39], order[39:78])


def test_processes_make_the_batches_that_threads_make(cars: Path) -> None:
    photos = PhotoCache(read_manifest(cars).split("train"), 48, gibibytes=0.001)
    photos.fill()
    plan = EpochPlan(24, 12, 1.0, (5, 1), views=2)
    here, apart = (
        TrainingBatches(BatchMaker(photos, 3, processes), plan, len(photos)) for processes in (0, 2)
    )
    for index in range(6):
        for one, other in zip(here[index], apart[index], strict=True):
            assert np.array_equal(one, other)


def test_a_model_is_trained_on_jax_as_well_and_the_service_loads_it(
    cars: Path, tmp_path: Path
) -> None:
    teacher, out = tmp_path / "teacher.keras", tmp_path / "m.keras"
    assert train_tiny(words(cars, teacher, "--epochs", "9")) == 0
    # The labels count for nothing: the loss is how far the answers are from the teacher's.
    options = words(cars, out, "--teachers", str(teacher), "--teachers-share", "1")
    command = [sys.executable, "-m", "tests.tiny_cars", *options, "--epochs", "6"]
    environment = os.environ | {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    run = subprocess.run(
        [*command, "--views", "2", "--processes", "2"],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    losses = [row["loss"] for row in log_of(out)]
    assert len(losses) == 7
    assert losses[-1] < losses[0] / 4
    classes = load_class_map(out.with_suffix(".classes.json"))
    assert load_classifier(out, classes).input_size == (32, 32)
