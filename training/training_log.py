"""The log of a training run: a CSV row an epoch, and its curves as a PNG."""

from __future__ import annotations

import csv
from pathlib import Path

COLUMNS = ("epoch", "size", "loss", "accuracy", "val_accuracy", "seconds")


class TrainingLog:
    """``x.log.csv`` and ``x.curves.png`` beside the model ``x.keras``."""

    def __init__(self, model_path: Path) -> None:
        """Nothing is written yet."""
        self._csv = model_path.with_suffix(".log.csv")
        self._png = model_path.with_suffix(".curves.png")

    def start(self, done: int) -> None:
        """Keep the first ``done`` epochs of a log that is there, as a resumed run does."""
        rows = [row for row in self._rows() if float(row["epoch"]) <= done] if done else []
        self._csv.parent.mkdir(parents=True, exist_ok=True)
        with open(self._csv, "w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)

    def add(self, **row: float) -> None:
        """Append an epoch and print it."""
        with open(self._csv, "a", newline="") as file:
            csv.DictWriter(file, COLUMNS).writerow(
                {name: round(value, 5) for name, value in row.items()}
            )
        print(
            f"epoch {row['epoch']}: trained at {row['size']} px, loss {row['loss']:.3f}, "
            f"accuracy {row['accuracy']:.2%}, val {row['val_accuracy']:.2%}, "
            f"{row['seconds']:.0f} s",
            flush=True,
        )

    def plot(self) -> None:
        """Draw loss and accuracies over the epochs."""
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot as plt

        rows = [{name: float(text) for name, text in row.items()} for row in self._rows()]
        epochs = [row["epoch"] for row in rows]
        figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
        left.plot(epochs, [row["loss"] for row in rows])
        left.set(xlabel="epoch", ylabel="training loss")
        right.plot(epochs, [row["accuracy"] for row in rows], label="training, augmented")
        right.plot(epochs, [row["val_accuracy"] for row in rows], label="validation")
        right.set(xlabel="epoch", ylabel="top-1 accuracy", ylim=(0, 1))
        right.legend()
        for axis in (left, right):
            axis.grid(alpha=0.3)
        figure.tight_layout()
        figure.savefig(self._png, dpi=110)
        plt.close(figure)

    def _rows(self) -> list[dict[str, str]]:
        """The rows that are whole: a killed run's last one may not be."""
        if not self._csv.exists():
            return []
        with open(self._csv, newline="") as file:
            rows = csv.DictReader(file)
            return [row for row in rows if all(row.get(name) for name in COLUMNS)]
