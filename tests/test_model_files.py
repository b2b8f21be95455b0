"""Model files that somebody made to do harm, or that were damaged: refused, with the reason."""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from car_classifier.class_map import CarClass
from car_classifier.errors import ModelError
from car_classifier.model import load_classifier
from tests.models import colour_model
from tests.scripts import ROOT

# Keras on its way to NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

CLASSES = [CarClass("Ferrari"), CarClass("Jaguar"), CarClass("Bugatti")]
Files = dict[str, bytes]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """The files in the archive of a model that is all right."""
    path = tmp_path_factory.mktemp("model") / "good.keras"
    colour_model().save(path)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(path: Path, files: Files, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load_classifier(path, CLASSES)
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_a_packed_model_is_taken(good: Files, tmp_path: Path) -> None:
    assert load_classifier(packed(tmp_path / "m.keras", good), CLASSES).classes == CLASSES
    packed_again = packed(tmp_path / "again.keras", good, zipfile.ZIP_DEFLATED)
    assert load_classifier(packed_again, CLASSES).classes == CLASSES


@pytest.mark.parametrize(
    "name",
    ["../../evil.py", "/tmp/evil.py", "assets/../../evil", "assets/words.txt", "model.weights.npz"],
)
def test_an_archive_with_anything_but_a_model_is_refused(
    good: Files, tmp_path: Path, name: str
) -> None:
    line = refusal(packed(tmp_path / "m.keras", good | {name: b"evil"}))

    assert f"it also holds {name!r}" in line
    assert not list(tmp_path.parent.rglob("evil*"))


@pytest.mark.parametrize("name", ["config.json", "metadata.json", "model.weights.h5"])
def test_an_archive_that_swells_is_refused_before_it_is_unpacked(
    good: Files, tmp_path: Path, name: str
) -> None:
    bomb = good | {name: bytes(100 * 2**20)}

    line = refusal(packed(tmp_path / "m.keras", bomb, zipfile.ZIP_DEFLATED))

    assert re.search(rf"{name} swells from [\d,]+ bytes to 104,857,600: expected at most 10", line)


@pytest.mark.parametrize("name", ["config.json", "metadata.json", "model.weights.h5"])
def test_an_archive_without_one_of_its_files_is_refused(
    good: Files, tmp_path: Path, name: str
) -> None:
    rest = {other: content for other, content in good.items() if other != name}

    assert f"no {name} in the archive" in refusal(packed(tmp_path / "m.keras", rest))


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_an_archive_with_a_file_twice_is_refused(good: Files, tmp_path: Path) -> None:
    path = packed(tmp_path / "m.keras", good)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("config.json", b"{}")

    assert "expected each file once" in refusal(path)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.99])
def test_a_part_of_an_archive_is_refused(good: Files, tmp_path: Path, share: float) -> None:
    path = packed(tmp_path / "m.keras", good)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])

    assert "expected a .keras file, which is a zip archive" in refusal(path)


def layer(config: dict[str, Any], class_name: str) -> dict[str, Any]:
    return next(one for one in config["config"]["layers"] if one["class_name"] == class_name)


def calls_the_system(config: dict[str, Any], mark: Path) -> None:
    """Python's own functions instead of a layer."""
    layer(config, "Dense").update(
        module="os", class_name="system", registered_name=None, config={"command": f"touch {mark}"}
    )


def fetches_a_file(config: dict[str, Any], mark: Path) -> None:
    """A function of Keras that writes files, as an activation."""
    layer(config, "Dense")["config"]["activation"] = {
        "module": "keras.utils",
        "class_name": "function",
        "config": "get_file",
        "registered_name": "get_file",
    }
    layer(config, "Dense")["config"]["name"] = str(mark)


def is_a_lambda(config: dict[str, Any], mark: Path) -> None:
    """Bytecode in base64, as Keras stores a lambda; that it is none does not come into it."""
    layer(config, "Dense").update(
        module="keras.layers",
        class_name="Lambda",
        registered_name=None,
        config={
            "name": str(mark),
            "function": {
                "class_name": "__lambda__",
                "config": {"code": "4wEAAAA=\n", "defaults": None, "closure": None},
            },
        },
    )


def switches_safe_mode_off(config: dict[str, Any], mark: Path) -> None:
    """The switch itself is a function of Keras; the lambda comes after it."""
    layer(config, "Rescaling").update(
        module="keras.config",
        class_name="function",
        registered_name="enable_unsafe_deserialization",
        config="enable_unsafe_deserialization",
    )
    is_a_lambda(config, mark)


def is_a_program_of_tensorflow(config: dict[str, Any], mark: Path) -> None:
    """A SavedModel somewhere on the disk: a graph that may read and write files."""
    layer(config, "Dense").update(
        module="keras.layers",
        class_name="TFSMLayer",
        registered_name=None,
        config={"filepath": str(mark.parent), "call_endpoint": "serve"},
    )


@pytest.mark.parametrize(
    "attack",
    [
        calls_the_system,
        fetches_a_file,
        is_a_lambda,
        switches_safe_mode_off,
        is_a_program_of_tensorflow,
    ],
)
def test_a_model_that_would_run_code_is_refused_and_runs_none(
    good: Files, tmp_path: Path, attack: Callable[[dict[str, Any], Path], None]
) -> None:
    config = json.loads(good["config.json"])
    mark = tmp_path / "mark"
    attack(config, mark)

    refusal(packed(tmp_path / "m.keras", good | {"config.json": json.dumps(config).encode()}))

    assert not mark.exists()


def test_nothing_is_unpickled_anywhere() -> None:
    sources = [
        path
        for folder in ("car_classifier", "training", "benchmarks", "dashboard", ".")
        for path in (ROOT / folder).glob("*.py")
    ]
    assert len(sources) > 40
    unpickling = re.compile(
        r"\b(import|from) +(pickle|joblib|dill|shelve|marshal|cloudpickle)\b|allow_pickle=True"
        r"|\byaml\.(load|unsafe_load)\(|\btorch\.load\(|(?<![.\w])(eval|exec)\("
    )
    found = [path.name for path in sources if unpickling.search(path.read_text(encoding="utf-8"))]
    assert found == []
    # NumPy's own default is the same, but a default may change.
    assert all(
        "allow_pickle=False" in line
        for path in sources
        for line in path.read_text(encoding="utf-8").splitlines()
        if "np.load(" in line
    )
