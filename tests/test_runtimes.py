"""Whatever runs the model, the answers are the same; and what is missing is said."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from car_classifier import runtimes
from car_classifier.class_map import CarClass, load_class_map
from car_classifier.errors import ModelError, SettingsError
from car_classifier.images import decode_image
from car_classifier.model import load_classifier
from car_classifier.runtimes import RUNTIMES, load_runtime
from tests.models import HEIGHT, WIDTH, conv_model
from tests.scripts import ROOT, clean_environment
from training.export import int8_model

# Keras on its way to NumPy 2, and TensorFlow on its way to LiteRT.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated:UserWarning"),
]

SHIPPED = [ROOT / "models" / f"clasificador_coches_{name}.keras" for name in ("v4", "ligero")]
SHIPPED_CLASSES = ROOT / "models" / "marcas_coches.json"
CLASSES = [CarClass(make) for make in ("Audi", "BMW", "Ferrari", "Jaguar", "Volvo")]
INSTALL = r"not installed .*pip install -r requirements/accelerator\.txt"
EXPORT = "python -m training.export makes it"


def photos(count: int) -> NDArray[np.uint8]:
    """Photos of one colour each, more or less: different answers, and all of them far from 0."""
    random = np.random.default_rng(5)
    colours = random.integers(0, 256, (count, 1, 1, 3))
    noise = random.integers(-60, 60, (count, HEIGHT, WIDTH, 3))
    return (colours + noise).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in both forms; the path is the ``.keras`` file's."""
    path = tmp_path_factory.mktemp("model") / "conv.v4.keras"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        keras_model = conv_model()
        keras_model.save(path)
        path.with_suffix(".tflite").write_bytes(int8_model(keras_model, photos(50)))
    return path


@pytest.fixture
def keras_only(model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(model, tmp_path))


@pytest.fixture
def hide(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make a package look as if it were not installed."""
    find_spec = runtimes.importlib.util.find_spec

    def hide_package(name: str) -> None:
        monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.setattr(
            runtimes.importlib.util,
            "find_spec",
            lambda wanted, *rest: None if wanted == name else find_spec(wanted, *rest),
        )

    return hide_package


needs_openvino = pytest.mark.skipif(
    runtimes.importlib.util.find_spec("openvino") is None,
    reason="openvino is not installed (requirements/accelerator.txt)",
)
int8_runtimes = pytest.mark.parametrize(
    "runtime", ["litert", pytest.param("openvino", marks=needs_openvino)]
)


@int8_runtimes
@pytest.mark.parametrize("count", [1, 3, 8, 11])
def test_every_runtime_answers_the_same(model: Path, runtime: str, count: int) -> None:
    images = photos(count)
    expected = load_classifier(model, CLASSES, "keras").predict(images)
    if count > 1:
        assert len(set(expected.argmax(axis=1).tolist())) > 1  # or it would prove little

    given = load_classifier(model, CLASSES, runtime).predict(images)

    assert (given.shape, given.dtype) == ((count, 5), np.float32)
    assert np.abs(given - expected).max() < 0.05


@pytest.fixture(scope="module", params=SHIPPED, ids=lambda path: path.stem)
def answers_to_real_photos(
    request: pytest.FixtureRequest,
) -> tuple[Path, NDArray[np.uint8], NDArray[np.float32]]:
    """A shipped model, the demo's photos as it gets them, and what its `.keras` file answers."""
    classifier = load_classifier(request.param, load_class_map(SHIPPED_CLASSES), "keras")
    files = sorted((ROOT / "data" / "imagenes_test").glob("*.jpg"))
    images = np.stack([decode_image(file.read_bytes(), classifier.input_size) for file in files])
    return request.param, images, classifier.predict(images)


@int8_runtimes
def test_a_shipped_model_answers_real_photos_the_same_whatever_runs_it(
    answers_to_real_photos: tuple[Path, NDArray[np.uint8], NDArray[np.float32]], runtime: str
) -> None:
    shipped, images, expected = answers_to_real_photos

    given = load_classifier(shipped, load_class_map(SHIPPED_CLASSES), runtime).predict(images)

    assert len(images) == 10
    same = given.argmax(axis=1) == expected.argmax(axis=1)
    certain = expected.max(axis=1) >= 0.6
    # A car that the model does not know may look as much like one class as like another.
    assert np.maximum(expected, given).max(axis=1)[~same].max(initial=0) < 0.6
    assert certain.any()
    assert same[certain].all()
    assert same.sum() >= 8
    # 8 bits move a confidence, most of all for cars that the model does not know; of at most 2.
    assert np.abs(given - expected).sum(axis=1).mean() < 0.5


@int8_runtimes
def test_two_batches_at_a_time_are_answered_as_one_after_the_other(
    model: Path, runtime: str
) -> None:
    classifier = load_classifier(model, CLASSES, runtime)
    batches = [photos(11)[start:] for start in range(8)]
    expected = [classifier.predict(batch) for batch in batches]

    with ThreadPoolExecutor(4) as callers:
        given = list(callers.map(classifier.predict, batches * 5))

    for answer, right in zip(given, expected * 5, strict=True):
        assert answer == pytest.approx(right, abs=1e-3)


@int8_runtimes
def test_a_photo_is_answered_the_same_alone_and_in_a_batch(model: Path, runtime: str) -> None:
    classifier = load_classifier(model, CLASSES, runtime)
    images = photos(11)

    alone = np.concatenate([classifier.predict(image[None]) for image in images])

    assert alone == pytest.approx(classifier.predict(images), abs=1e-3)


@int8_runtimes
def test_an_int8_file_may_be_the_model_itself(model: Path, runtime: str) -> None:
    loaded = load_runtime(runtime, model.with_suffix(".tflite"))

    assert loaded.name == runtime
    assert loaded.path == model.with_suffix(".tflite")
    assert loaded.input_shape == (None, HEIGHT, WIDTH, 3)
    assert loaded.output_shape == (None, 5)


@int8_runtimes
def test_an_int8_file_alone_is_enough(model: Path, tmp_path: Path, runtime: str) -> None:
    (tmp_path / "conv.tflite").write_bytes(model.with_suffix(".tflite").read_bytes())

    assert load_runtime(runtime, tmp_path / "conv.keras").name == runtime


@needs_openvino
def test_auto_takes_the_fastest_and_says_nothing(
    model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert load_classifier(model, CLASSES, "auto").runtime.name == next(iter(RUNTIMES))
    assert capfd.readouterr() == ("", "")


def test_auto_without_the_accelerator_takes_the_next_and_says_what_is_missing(
    model: Path, capfd: pytest.CaptureFixture[str], hide: Callable[[str], None]
) -> None:
    hide("openvino")

    assert load_runtime("auto", model).name == "litert"
    out, err = capfd.readouterr()
    assert out == ""
    assert err == (
        "Using the runtime litert; a faster one is there to be had: "
        "openvino is not installed (pip install -r requirements/accelerator.txt)\n"
    )


def test_auto_without_an_int8_file_takes_keras_and_says_how_to_make_one(
    keras_only: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert load_runtime("auto", keras_only).name == "keras"
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("Using the runtime keras; a faster one is there to be had: ")
    assert f"litert needs {keras_only.with_suffix('.tflite')} ({EXPORT})" in line


@pytest.mark.parametrize("suffix", [".keras", ".tflite"])
def test_auto_without_any_file_is_an_error(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(ModelError, match=rf"no model at .*nothing\{suffix}: .*\(--model\)"):
        load_runtime("auto", tmp_path / f"nothing{suffix}")


@pytest.mark.parametrize(
    ("runtime", "package"), [("openvino", "openvino"), ("keras", "keras"), ("litert", "tensorflow")]
)
def test_a_runtime_that_is_not_installed_says_what_to_install(
    model: Path, hide: Callable[[str], None], runtime: str, package: str
) -> None:
    if package == "tensorflow":
        hide("ai_edge_litert")
    hide(package)

    with pytest.raises(SettingsError, match=f"the runtime {runtime} is {INSTALL}"):
        load_runtime(runtime, model)


def test_an_unknown_runtime_is_refused(model: Path) -> None:
    with pytest.raises(SettingsError, match="expected auto, openvino, litert, keras, got 'onnx'"):
        load_runtime("onnx", model)


@int8_runtimes
def test_a_missing_int8_file_is_refused_and_its_maker_named(
    keras_only: Path, tmp_path: Path, runtime: str
) -> None:
    with pytest.raises(ModelError, match=rf"no model at .*conv\.v4\.tflite.*\({EXPORT}\)"):
        load_runtime(runtime, keras_only)
    with pytest.raises(ModelError, match=r"no model at .*nothing\.tflite.*\(--model\)"):
        load_runtime(runtime, tmp_path / "nothing.tflite")


@int8_runtimes
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_an_int8_file_cut_short_is_refused(
    model: Path, tmp_path: Path, runtime: str, share: float, capfd: pytest.CaptureFixture[str]
) -> None:
    data = model.with_suffix(".tflite").read_bytes()
    path = tmp_path / "cut.tflite"
    path.write_bytes(data[: int(len(data) * share)])

    with pytest.raises(ModelError, match="expected a LiteRT model") as caught:
        load_runtime(runtime, path)

    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert capfd.readouterr() == ("", "")


@int8_runtimes
def test_something_else_is_refused(model: Path, tmp_path: Path, runtime: str) -> None:
    path = tmp_path / "renamed.tflite"
    path.write_bytes(model.read_bytes())

    with pytest.raises(ModelError, match="expected a LiteRT model"):
        load_runtime(runtime, path)


LOAD_AND_ANSWER = """
    import sys
    from pathlib import Path
    import numpy as np
    import consumidor_clasificador
    from car_classifier.class_map import CarClass
    from car_classifier.model import load_classifier

    runtime, model = sys.argv[1:]
    classifier = load_classifier(Path(model), [CarClass("BMW")] * 5, runtime)
    assert classifier.predict(np.zeros((9, 16, 24, 3), np.uint8)).shape == (9, 5)
    print(classifier.runtime.name, "tensorflow" in sys.modules, "keras" in sys.modules)
"""
# Stands in for the package, which has no release for every machine that runs the tests.
AI_EDGE_LITERT = """
    import numpy as np

    class Interpreter:
        def __init__(self, model_path, num_threads):
            assert open(model_path, "rb").read(8)[4:] == b"TFL3"
            self._shape = np.array([1, 16, 24, 3])

        def get_input_details(self):
            return [{"index": 0, "shape": self._shape, "dtype": np.float32}]

        def get_output_details(self):
            return [{"index": 1, "shape": np.array([self._shape[0], 5])}]

        def resize_tensor_input(self, index, shape):
            self._shape = np.array(shape)

        def allocate_tensors(self):
            pass

        def set_tensor(self, index, value):
            assert value.shape == tuple(self._shape) and value.dtype == np.float32

        def invoke(self):
            pass

        def get_tensor(self, index):
            return np.full((self._shape[0], 5), 0.2, np.float32)
"""


@int8_runtimes
def test_the_faster_runtimes_start_without_tensorflow(
    model: Path, tmp_path: Path, runtime: str
) -> None:
    package = tmp_path / "ai_edge_litert"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "interpreter.py").write_text(textwrap.dedent(AI_EDGE_LITERT))

    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(LOAD_AND_ANSWER), runtime, model],
        cwd=ROOT,
        env=clean_environment(PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}"),
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == f"{runtime} False False\n"


LOOK_AT_NUMPY = """
    import sys, threading
    from pathlib import Path
    import openvino
    from car_classifier.runtimes import OpenVinoRuntime

    runtime = OpenVinoRuntime(Path(sys.argv[1]))
    sys.setswitchinterval(1e-6)
    together = threading.Barrier(4)

    def look():  # as the first photo of each thread makes it do
        together.wait()
        openvino.Type.u8.to_dtype()

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""


def test_openvino_is_ready_for_threads_once_it_is_loaded(model: Path) -> None:
    """Without care, two in five starts hang here: the library takes a lock that it holds."""
    for _ in range(3):
        subprocess.run(
            [sys.executable, "-c", textwrap.dedent(LOOK_AT_NUMPY), model.with_suffix(".tflite")],
            cwd=ROOT,
            env=clean_environment(),
            check=True,
            timeout=60,
        )
