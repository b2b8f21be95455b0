"""The moving average of the weights: what is judged and shipped, while training goes on beside it.

A weight's average over the last few hundred steps is nearly always better than the weight itself
(Polyak averaging); the optimizer keeps it, see ``use_ema`` in Keras.
"""

from __future__ import annotations

import keras


class LiveWeights(keras.callbacks.Callback):
    """Remembers the weights at the end of an epoch, before ``fit`` overwrites them.

    Every call of ``fit`` ends by putting the averages into the weights' place. A run that calls it
    once an epoch would thus throw most of each epoch's progress away.
    """

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:  # noqa: ARG002 - Keras' names
        """Remember the weights as the last step left them."""
        self._live = [
            keras.ops.convert_to_numpy(variable) for variable in self.model.trainable_variables
        ]

    def on_train_end(self, logs: object = None) -> None:  # noqa: ARG002 - Keras' names
        """Give each weight an array of its own.

        On JAX it shares the average's, which Keras frees after the next prediction.
        """
        for variable in self.model.trainable_variables:
            variable.assign(keras.ops.copy(variable))

    def restore(self) -> None:
        """Put them back, after the averages have been judged."""
        for variable, value in zip(self.model.trainable_variables, self._live, strict=True):
            variable.assign(value)
