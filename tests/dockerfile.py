"""Reads the Dockerfile, and does what it says without Docker: in a folder, with a clean Python."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.scripts import ROOT

DOCKERFILE = ROOT / "Dockerfile"


@dataclass
class Stage:
    """One `FROM` and what follows it; a stage begins with the steps of the one it is made from."""

    name: str
    image: str  # the outermost one
    steps: list[tuple[str, str]] = field(default_factory=list)  # instruction, arguments

    def last(self, instruction: str) -> str:
        """Return the arguments that count in the end."""
        return next(rest for name, rest in reversed(self.steps) if name == instruction)

    @property
    def environment(self) -> dict[str, str]:
        """What `ENV` sets."""
        words = [word for name, rest in self.steps if name == "ENV" for word in shlex.split(rest)]
        return dict(word.split("=", 1) for word in words)


def stages(text: str | None = None) -> dict[str, Stage]:
    """Return the stages by name."""
    found: dict[str, Stage] = {}
    current: Stage | None = None
    for instruction, rest in _instructions(text or DOCKERFILE.read_text()):
        if instruction == "FROM":
            image, _, name = rest.split()
            before = found.get(image)
            current = Stage(name, before.image if before else image)
            current.steps = list(before.steps) if before else []
            found[name] = current
        else:
            assert current
            current.steps.append((instruction, rest))
    return found


def build(stage: Stage, folder: Path) -> Path:
    """Take the steps of a stage in a new folder; return its Python.

    `COPY` takes only what .dockerignore lets through. `useradd` is not run: this is no container.

    Raises:
        AssertionError: a step fails, or is none that this knows.
    """
    python = folder / "python"
    venv.create(python, with_pip=True)
    environment = {
        **{name: os.environ[name] for name in os.environ if not name.startswith("PIP_NO_CACHE")},
        "PATH": f"{python}/bin{os.pathsep}{os.environ['PATH']}",
    }
    users = {"root"}
    workdir = folder
    for instruction, rest in stage.steps:
        if instruction == "WORKDIR":
            workdir = folder / rest.lstrip("/")
            workdir.mkdir(parents=True, exist_ok=True)
        elif instruction == "COPY":
            _copy(rest, workdir)
        elif instruction == "RUN" and rest.startswith("useradd "):
            users.add(rest.split()[-1])
        elif instruction == "RUN":
            done = subprocess.run(
                rest, shell=True, cwd=workdir, env=environment, capture_output=True, text=True
            )
            assert done.returncode == 0, f"{rest}\n{done.stdout}{done.stderr}"
        elif instruction == "USER":
            assert rest in users, f"nobody has made the user {rest}"
        else:
            assert instruction in ("ENV", "EXPOSE", "CMD"), instruction
    return python / "bin" / "python"


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps a file or folder of the project from the builder."""
    answer = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!")
        parents = [path, *(str(parent) for parent in Path(path).parents if str(parent) != ".")]
        if pattern.startswith("**/"):
            matches = any(fnmatch.fnmatch(Path(part).name, pattern[3:]) for part in parents)
        else:
            matches = any(fnmatch.fnmatch(part, pattern) for part in parents)
        if matches:
            answer = not line.startswith("!")
    return answer


def supports_this_python() -> bool:
    """Whether the packages in the image are for the Python that runs the tests."""
    return sys.version_info >= (3, 11)


def _copy(arguments: str, workdir: Path) -> None:
    *sources, target = arguments.split()
    for source in sources:
        assert (ROOT / source).exists(), f"nothing to copy: {source}"
        files = sorted((ROOT / source).rglob("*")) if source.endswith("/") else [ROOT / source]
        kept = [file for file in files if file.is_file() and not ignored(_relative(file))]
        assert kept, f".dockerignore leaves nothing of {source}"
        for file in kept:
            inside = file.relative_to(ROOT / source) if source.endswith("/") else file.name
            to = workdir / target / inside
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, to)


def _relative(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def _instructions(text: str) -> Iterator[tuple[str, str]]:
    code = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    for line in code.splitlines():
        if line.strip():
            instruction, rest = line.split(maxsplit=1)
            yield instruction, rest


def command(stage: Stage) -> list[str]:
    """Return what the image runs if it is not told otherwise."""
    words: list[str] = json.loads(stage.last("CMD"))
    return words
