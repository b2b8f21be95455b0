r"""Fine-tune a backbone on the photos of a manifest, and save a model that the service can load.

Train the shipped model (a GPU needs minutes, two processor cores some hours):

    python -m training.train --manifest cars.csv --backbone resnet50v2 --weights imagenet \
        --image-size 224 --train-sizes 128 160 192 --epochs 30 --out models/cars.keras

Go on after a crash, a power cut or Ctrl-C, with the last finished epoch:

    python -m training.train ...the same options... --resume

Improve an existing model with more epochs, here at a larger size:

    python -m training.train --manifest cars.csv --backbone resnet50v2 --weights models/old.keras \
        --head-epochs 0 --epochs 10 --train-sizes 192 --learning-rate 1e-4 --out models/new.keras

Learn from other models' answers as well as from labels, here on a GPU with 16 processor cores:

    python -m training.train --manifest cars.csv --backbone resnet50v2 --weights models/old.keras \
        --teachers models/old.keras models/other.keras --head-epochs 0 --epochs 14 --views 5 \
        --batch-size 128 --mix 0.8 --processes 15 --out models/new.keras

TensorFlow computes on a GPU where its package for that is installed; JAX does as well, with
KERAS_BACKEND=jax in the environment.

Two phases: first only what has no pre-trained weights (the head) is trained, then the backbone as
well. Beside the model come its class map, a log (CSV) and the curves (PNG).
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import keras
import numpy as np

from car_classifier.console import checked
from car_classifier.errors import CarClassifierError
from training.aspect import ASPECTS
from training.averaging import LiveWeights
from training.backbones import BACKBONES, build_classifier, train_backbone, train_head
from training.batches import BatchMaker, EpochPlan, PhotoCache, TrainingBatches, predict
from training.calibration import bake_temperature, fit_temperature
from training.checkpoints import Checkpoints, RunIdentity
from training.dataset import read_manifest
from training.distillation import Distillation, load_teachers
from training.errors import TrainingError
from training.precision import accelerators, set_precision
from training.pretrained import load_weights
from training.saving import save_classifier
from training.training_log import TrainingLog

HEAD_RATE = 1e-3  # peak learning rate of the first phase
MIX_FREE_EPOCHS = 0.15  # the last share of the epochs sees whole photos only, as the service does


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    # What to train on, what to start from, where to put it.
    add("--manifest", type=Path, required=True, help="CSV made by training.manifest")
    add("--level", choices=("model", "make"), default="model", help="what a class is")
    add("--backbone", choices=BACKBONES, default="resnet50v2")
    add(
        "--weights",
        default="imagenet",
        metavar="imagenet|none|FILE",
        help="Keras' own download, random, or a .keras, .weights.h5 or .npz file",
    )
    add("--out", type=Path, required=True, help="the .keras file to write")
    add("--classes", type=Path, help="class map to write (default: x.classes.json beside x.keras)")
    # How long and how large.
    add("--image-size", type=int, default=224, help="side in pixels that the saved model takes")
    add(
        "--train-sizes",
        type=int,
        nargs="+",
        metavar="SIDE",
        help="sides to train at, in turn, for equal shares of the epochs; small ones are fast, and "
        "a model answers best at a side somewhat above the last (default: the image size)",
    )
    add("--head-epochs", type=int, default=1, help="epochs of the first phase")
    add("--epochs", type=int, default=20, help="epochs of the second phase")
    add(
        "--views",
        type=checked(int, minimum=1),
        default=1,
        help="how often an epoch sees each photo; more where an epoch takes a GPU seconds, since "
        "each ends with a check on val and a checkpoint",
    )
    add("--batch-size", type=int, default=32)
    add(
        "--frozen",
        nargs="*",
        default=["conv1", "conv2", "stem"],
        metavar="PREFIX",
        help="layers whose names begin so keep their pre-trained weights",
    )
    # How.
    add("--learning-rate", type=float, default=5e-4, help="peak of the second phase")
    add("--weight-decay", type=float, default=1e-3)
    add("--label-smoothing", type=float, default=0.1)
    add("--dropout", type=float, default=0.3)
    add(
        "--aspect",
        choices=ASPECTS,
        default="squash",
        help="how photos become squares: squashed, as the service does it, or padded, to compare "
        "with training.evaluate --aspect letterbox",
    )
    add("--mix", type=float, default=0.3, help="share of the batches with mixup or CutMix")
    add(
        "--teachers",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help=".keras models of the same classes, whose mean answer is learnt as well as the labels",
    )
    add(
        "--teachers-share",
        type=checked(float, minimum=0, maximum=1),
        default=0.7,
        help="how much of the loss is the teachers', 0 to 1",
    )
    add("--ema", type=float, default=0.998, help="momentum of the weights' moving average")
    add(
        "--precision",
        choices=("auto", "float32", "bfloat16"),
        default="auto",
        help="auto: bfloat16 where processor or GPU compute in it, but not for depthwise backbones",
    )
    add("--seed", type=int, default=0)
    add(
        "--processes",
        type=checked(int, minimum=0),
        default=0,
        help="that make the views, one for each core of a machine with a GPU; 0: threads do it",
    )
    add("--cache-gib", type=float, default=4.0, help="memory for decoded photos")
    # Going on.
    add("--checkpoints", type=Path, help="folder (default: beside the model)")
    add("--resume", action="store_true", help="go on from the last finished epoch")
    options = parser.parse_args(arguments)
    if options.head_epochs + options.epochs < 1:
        parser.error("expected at least one epoch in --head-epochs and --epochs together")
    if options.out.suffix != ".keras":
        parser.error(f"expected a file that ends in .keras in --out, got {options.out}")
    return options


def compile_phase(model: keras.Model, options: argparse.Namespace, steps: int, rate: float) -> None:
    """Give the model a fresh optimizer for a phase of so many steps: warm-up, then cosine."""
    warmup = min(steps // 10, 200)
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=rate / 20,
        warmup_target=rate,
        warmup_steps=warmup,
        decay_steps=max(1, steps - warmup),
        alpha=0.01,
    )
    optimizer = keras.optimizers.AdamW(
        schedule,
        weight_decay=options.weight_decay,
        clipnorm=1.0,
        use_ema=True,
        ema_momentum=options.ema,
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=options.label_smoothing)
    # XLA is slower than oneDNN, which TensorFlow has on processors; JAX has nothing else.
    xla = bool(accelerators()) or keras.backend.backend() == "jax"
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=xla)
    optimizer.build(model.trainable_variables)


def train(options: argparse.Namespace) -> None:
    """Train, validate after each epoch, save the best model with its calibrated confidence.

    Raises:
        CarClassifierError: the input cannot be trained on; the message says why.
        OSError: something cannot be written; an older model is then what it was.
    """
    # Data: photos of all sizes; decoded ones are kept no larger than training can use.
    manifest = read_manifest(options.manifest, level=options.level)
    for warning in manifest.check_for_training():
        print(f"warning: {warning}", file=sys.stderr)
    sizes = options.train_sizes or [options.image_size]
    longest_side = int(1.5 * max(*sizes, options.image_size))
    photos = PhotoCache(manifest.split("train"), longest_side, options.cache_gib)
    judges = PhotoCache(manifest.split("val"), longest_side, options.cache_gib)
    val_labels = np.array([photo.label for photo in judges.photos])
    classes = len(manifest.classes)
    steps_per_epoch = options.views * len(photos) // options.batch_size
    if steps_per_epoch == 0:
        raise TrainingError(
            f"{options.manifest}: expected at least one batch of {options.batch_size} photos to "
            f"train on, got {len(photos)}"
        )
    epochs = options.head_epochs + options.epochs
    for cache in (photos, judges):
        cache.fill()
    # Before anything touches a GPU, whose driver would not survive in a copy of this process.
    make_batch = BatchMaker(photos, classes, options.processes)

    # Model: open in height and width, so that it can be trained at several.
    backbone = BACKBONES[options.backbone]
    set_precision(options.precision, backbone.depthwise)
    keras.utils.set_random_seed(options.seed)
    run = RunIdentity(options.backbone, [car.name for car in manifest.classes])
    folder = options.checkpoints or options.out.with_suffix(".checkpoints")
    checkpoints = Checkpoints(folder, run)
    checkpoint = checkpoints.load() if options.resume else None
    imagenet = checkpoint is None and options.weights == "imagenet"
    model = build_classifier(backbone, None, classes, options.dropout, imagenet)
    if checkpoint:
        checkpoint.restore_model(model)
        untrained = checkpoint.untrained
    elif imagenet:
        untrained = frozenset(["classes"])
    elif options.weights == "none":
        untrained = frozenset(layer.name for layer in model.layers)
    else:
        untrained = frozenset(load_weights(model, Path(options.weights)))
    # What is fitted: the model, or the model with its teachers around it.
    teachers = load_teachers(options.teachers, classes)
    trainer = Distillation(model, teachers, options.teachers_share) if teachers else model
    done = checkpoint.done if checkpoint else 0
    print(checkpoints.prospect(done, options.resume), file=sys.stderr)
    log = TrainingLog(options.out)
    log.start(done)

    for epoch in range(done, epochs):
        if epoch in (done, options.head_epochs):  # a phase begins, or goes on after a stop
            if epoch < options.head_epochs:
                train_head(model, untrained)
                compile_phase(trainer, options, options.head_epochs * steps_per_epoch, HEAD_RATE)
            else:
                train_backbone(model, backbone, tuple(options.frozen), untrained)
                steps = options.epochs * steps_per_epoch
                compile_phase(trainer, options, steps, options.learning_rate)
            if checkpoint and epoch != options.head_epochs:
                checkpoint.restore_optimizer(trainer.optimizer)
        progress = max(0, epoch - options.head_epochs) / max(1, options.epochs)
        size = sizes[int(progress * len(sizes))]
        mix_share = options.mix if progress < 1 - MIX_FREE_EPOCHS else 0.0
        plan = EpochPlan(
            size,
            options.batch_size,
            mix_share,
            (options.seed, epoch),
            options.aspect,
            options.views,
        )
        started = time.monotonic()
        live = LiveWeights()
        history = trainer.fit(
            TrainingBatches(make_batch, plan, len(photos)),
            initial_epoch=epoch,
            epochs=epoch + 1,
            shuffle=False,
            callbacks=[live],
            verbose=1 if sys.stdout.isatty() else 2,
        )
        # Now the model has the averaged weights: these are judged and kept, the live ones trained.
        probabilities = predict(model, judges, options.image_size, aspect=options.aspect)
        accuracy = float(np.mean(probabilities.argmax(axis=1) == val_labels))
        checkpoints.keep_if_best(model, accuracy)
        live.restore()
        log.add(
            epoch=epoch + 1,
            size=size,
            loss=history.history["loss"][0],
            accuracy=history.history["accuracy"][0],
            val_accuracy=accuracy,
            seconds=time.monotonic() - started,
        )
        checkpoints.save(model, trainer.optimizer, epoch + 1, untrained)

    # The file: the best weights at the fixed size, its confidence corrected on val.
    keras.mixed_precision.set_global_policy("float32")
    final = build_classifier(backbone, options.image_size, classes, options.dropout)
    checkpoints.load_best(final)
    probabilities = predict(final, judges, options.image_size, aspect=options.aspect)
    temperature = fit_temperature(probabilities, val_labels)
    bake_temperature(final.get_layer("classes"), temperature)
    classes_path = options.classes or options.out.with_suffix(".classes.json")
    save_classifier(final, manifest.classes, options.out, classes_path)
    log.plot()
    print(f"{options.out}: {checkpoints.best:.2%} on val, temperature {temperature:.3f}")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    options = parse_options(arguments)
    try:
        train(options)
    except (CarClassifierError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: go on with --resume", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
