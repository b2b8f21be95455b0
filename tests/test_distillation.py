"""Learning from other models: what the loss is, what is learnt, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from training.distillation import TEMPERATURE, Distillation, load_teachers
from training.errors import WeightsError

CLASSES = 3
RNG = np.random.default_rng(0)
VIEWS = RNG.integers(0, 256, (24, 8, 8, 3)).astype(np.uint8)
LABELS = np.eye(CLASSES, dtype=np.float32)[RNG.integers(CLASSES, size=24)]


def small_model(seed: int, side: int | None = 8, classes: int = CLASSES) -> keras.Model:
    """A network that answers by the mean colour."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((side, side, 3))
    x = layers.GlobalAveragePooling2D()(layers.Rescaling(1 / 16, -8.0)(inputs))
    return keras.Model(inputs, layers.Dense(classes, activation="softmax")(x))


def answers(model: keras.Model, images: np.ndarray = VIEWS) -> np.ndarray:
    return np.asarray(model(images.astype(np.float32)), np.float64)


def compiled(student: keras.Model, teachers: list[keras.Model], share: float) -> Distillation:
    trainer = Distillation(student, teachers, share)
    trainer.compile(keras.optimizers.Adam(0.05), "categorical_crossentropy")
    return trainer


def divergence(taught: np.ndarray, learnt: np.ndarray) -> float:
    """Hinton's loss in plain numpy: both softened, times the temperature's square."""

    def soft(probabilities: np.ndarray) -> np.ndarray:
        powers = probabilities ** (1 / TEMPERATURE)
        return powers / powers.sum(axis=1, keepdims=True)

    return float(
        TEMPERATURE**2 * (soft(taught) * np.log(soft(taught) / soft(learnt))).sum(axis=1).mean()
    )


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_loss_is_the_labels_and_the_teachers_in_their_shares(share: float) -> None:
    student, first, second = (small_model(seed) for seed in (1, 2, 3))
    trainer = compiled(student, [first, second], share)
    learnt = answers(student)
    from_labels = -(LABELS * np.log(learnt)).sum(axis=1).mean()
    from_teachers = divergence((answers(first) + answers(second)) / 2, learnt)
    loss = trainer.evaluate(VIEWS, LABELS, batch_size=len(VIEWS), verbose=0)
    assert loss == pytest.approx((1 - share) * from_labels + share * from_teachers, rel=1e-4)


def test_the_student_learns_what_the_teacher_says_against_the_labels() -> None:
    student, teacher = small_model(1), small_model(2)
    said = answers(teacher).argmax(axis=1)
    before = teacher.get_weights()
    labels = np.eye(CLASSES, dtype=np.float32)[(said + 1) % CLASSES]  # never what it says
    compiled(student, [teacher], share=1.0).fit(VIEWS, labels, epochs=150, verbose=0)
    assert (answers(student).argmax(axis=1) == said).mean() >= 0.9
    for left, right in zip(before, teacher.get_weights(), strict=True):
        assert np.array_equal(left, right)


def test_a_teacher_sees_the_view_at_its_own_size() -> None:
    student, teacher = small_model(1, side=None), small_model(2, side=16)
    flat = np.repeat(RNG.integers(96, 160, (24, 1, 1, 3)), 8, axis=1).repeat(8, axis=2)
    larger = flat.repeat(2, axis=1).repeat(2, axis=2)  # one colour: any resizing is exact
    trainer = compiled(student, [teacher], share=1.0)
    loss = trainer.evaluate(flat.astype(np.float32), LABELS, batch_size=24, verbose=0)
    assert loss == pytest.approx(divergence(answers(teacher, larger), answers(student, flat)), 1e-4)


def test_a_certain_teacher_gives_no_infinite_loss() -> None:
    student, teacher = small_model(1), small_model(2)
    teacher.layers[-1].set_weights([np.zeros((3, CLASSES)), np.array([500.0, 0.0, -500.0])])
    student.layers[-1].set_weights([np.zeros((3, CLASSES)), np.array([-500.0, 0.0, 500.0])])
    trainer = compiled(student, [teacher], share=1.0)
    assert np.isfinite(trainer.evaluate(VIEWS, LABELS, verbose=0))
    trainer.fit(VIEWS, LABELS, verbose=0)
    assert all(np.isfinite(weights).all() for weights in student.get_weights())


def other_classes(path: Path) -> None:
    small_model(1, classes=5).save(path)


def nothing(_path: Path) -> None:
    pass


def text(path: Path) -> None:
    path.write_text("not a model")


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (other_classes, "expected a teacher of the manifest's 3 classes, got one of 5"),
        (text, "expected a model to learn from"),
        (nothing, "expected a model to learn from"),
    ],
    ids=["other classes", "text", "absent"],
)
def test_a_teacher_that_cannot_teach_is_named(
    write: Callable[[Path], Any], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "teacher.keras"
    write(path)
    with pytest.raises(WeightsError, match=message) as raised:
        load_teachers([path], CLASSES)
    assert str(path) in str(raised.value)
