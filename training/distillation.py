"""Learn from other models as well as from labels: what the teachers say of the very same view.

A teacher's answer says more than a label: which other cars this view could be of, and how sure one
can be of it. Both see the same augmented view, for many epochs (Hinton, Vinyals, Dean:
Distilling the Knowledge in a Neural Network, 2015; Beyer et al.: Knowledge distillation: A good
teacher is patient and consistent, CVPR 2022).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
from keras import layers, ops

from training.errors import WeightsError

TEMPERATURE = 2.0  # softens both answers, so that what is unlikely is learnt from as well
LEAST_PROBABILITY = 1e-7


class Distillation(keras.Model):
    """Trains ``student``; it is the student's weights that change, never the teachers'."""

    def __init__(self, student: keras.Model, teachers: Sequence[keras.Model], share: float) -> None:
        """Wrap the student for ``compile`` and ``fit``.

        Args:
            student: RGB 0-255 (N, H, W, 3) in, probabilities (N, classes) out.
            teachers: like the student, with the same classes in the same order; a view is resized
                to what each of them takes.
            share: of the teachers in the loss, 0..1; the labels have the rest.
        """
        super().__init__(name="distillation")
        self.student = student
        self.teachers = list(teachers)
        self.share = share
        for teacher in self.teachers:
            teacher.trainable = False
        self.built = True  # they are; Keras cannot know
        self._resizers = [layers.Resizing(*teacher.input_shape[1:3]) for teacher in self.teachers]

    def call(self, images: Any, training: bool | None = None) -> Any:
        """The student's probabilities."""
        return self.student(images, training=training)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """The labels' loss and the divergence from the teachers' mean answer, in their shares."""
        from_labels = super().compute_loss(x, y, y_pred, sample_weight, training)
        answers = [
            teacher(x if x.shape[1:] == teacher.input_shape[1:] else resize(x), training=False)
            for teacher, resize in zip(self.teachers, self._resizers, strict=True)
        ]
        taught = soften(sum(answers) / len(answers))
        learnt = soften(y_pred)
        divergence = ops.mean(ops.sum(taught * (ops.log(taught) - ops.log(learnt)), axis=-1))
        # Softened gradients are smaller by the square of the temperature (Hinton et al., 2.1).
        return (1 - self.share) * from_labels + self.share * TEMPERATURE**2 * divergence


def soften(probabilities: Any) -> Any:
    """Probabilities (N, classes) at `TEMPERATURE` instead of 1; none is quite 0."""
    logits = ops.log(ops.maximum(probabilities, LEAST_PROBABILITY))
    return ops.maximum(ops.softmax(logits / TEMPERATURE, axis=-1), LEAST_PROBABILITY)


def load_teachers(paths: Sequence[Path], classes: int) -> list[keras.Model]:
    """Load ``.keras`` models that answer for so many classes.

    Raises:
        WeightsError: one cannot be read, or has another number of classes.
    """
    teachers = []
    for path in paths:
        try:
            teacher = keras.models.load_model(path, compile=False)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise WeightsError(f"{path}: expected a model to learn from: {error}") from error
        if teacher.output_shape[-1] != classes:
            raise WeightsError(
                f"{path}: expected a teacher of the manifest's {classes} classes, got one of "
                f"{teacher.output_shape[-1]}"
            )
        teachers.append(teacher)
    return teachers
