"""The shop of every SDK that is compiled: built once for a test run, from the registries.

Lives here: where the toolchains are, what builds and what runs a program.
Does not: what it must answer (tests/real/test_sdks.py). The programs are in the folders beside
this file; nothing is built there.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from tests.real.launched import Program, free_port

SOURCES: Final = Path(__file__).resolve().parent
BUILD_S: Final = 900


@dataclass(frozen=True)
class Toolchain:
    """How a program is built in a copy of its folder, and how it is started: `{}` is the copy."""

    tools: Sequence[str]
    build: Sequence[str]
    run: Sequence[str]


TOOLCHAINS: Final = {
    "go": Toolchain(["go"], ["go", "build", "-o", "shop", "."], ["{}/shop"]),
    "rust": Toolchain(["cargo"], ["cargo", "build", "--quiet"], ["{}/target/debug/shop"]),
    "java": Toolchain(
        ["mvn", "java"], ["mvn", "--quiet", "--batch-mode", "package"],
        ["java", "-jar", "{}/target/shop.jar"],
    ),
}  # fmt: skip


def _directory(language: str) -> Path:
    return Path(tempfile.gettempdir()) / f"restated-sdks-{os.getuid()}" / language


@cache
def _unbuilt(language: str) -> str:
    """Why there is no program; empty when there is one."""
    toolchain = TOOLCHAINS[language]
    if missing := [tool for tool in toolchain.tools if shutil.which(tool) is None]:
        return f"no {missing[0]}"
    directory = _directory(language)
    shutil.copytree(SOURCES / language, directory, dirs_exist_ok=True)
    done = subprocess.run(
        toolchain.build, cwd=directory, capture_output=True, text=True, timeout=BUILD_S, check=False
    )
    output = done.stdout + done.stderr
    return f"{toolchain.build[0]} failed: {output[-2_000:]}" if done.returncode else ""


def shop(language: str, variables: Mapping[str, str] | None = None) -> Program:
    """The running program; the test is skipped, with the reason, where it cannot be built."""
    if reason := _unbuilt(language):
        pytest.skip(f"no program for the {language} SDK: {reason}")
    command = [word.format(_directory(language)) for word in TOOLCHAINS[language].run]
    port = free_port()
    return Program(port, command, {"PORT": str(port)} | dict(variables or {}))
