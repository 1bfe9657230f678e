"""Finds ngspice: the shared library and the program, and says what to install where they are missing."""

from __future__ import annotations

import ctypes.util
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from cosim.errors import EngineMissingError

MINIMUM_VERSION = 36
"""BSIM4 with `delvto` and the options of our decks; checked from ngspice 36 on."""

_HINT = (
    "Debian and Ubuntu: sudo apt-get install ngspice libngspice0; Homebrew: brew install ngspice libngspice; "
    "conda: conda install -c conda-forge ngspice ngspice-lib"
)
_NAMES = ("libngspice.so.0", "libngspice.so", "libngspice.dylib", "libngspice.0.dylib")
_FOLDERS = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib", "/usr/lib64", "/usr/local/lib",
            "/opt/homebrew/lib", "/opt/local/lib")  # fmt: skip


def find_library() -> Path:
    """The ngspice shared library.

    Looks at NGSPICE_LIBRARY_PATH, the active conda or virtual environment, `ctypes.util.find_library` and
    the usual folders of Debian, Homebrew and MacPorts.

    Raises:
        EngineMissingError: There is none, with what to install.
    """
    named = os.environ.get("NGSPICE_LIBRARY_PATH")
    if named:
        if Path(named).is_file():
            return Path(named)
        raise EngineMissingError(f"NGSPICE_LIBRARY_PATH names {named}, which is no file", hint=_HINT)
    folders = [Path(prefix) / "lib" for prefix in (os.environ.get("CONDA_PREFIX"), sys.prefix) if prefix]
    folders += [Path(folder) for folder in _FOLDERS]
    for folder in folders:
        for name in _NAMES:
            if (folder / name).is_file():
                return folder / name
    # The dynamic linker's own answer is a bare name, which dlopen resolves.
    found = ctypes.util.find_library("ngspice")
    if found:
        return Path(found)
    raise EngineMissingError("the ngspice shared library is missing", hint=_HINT)


def find_program() -> Path:
    """The `ngspice` program on the PATH.

    Raises:
        EngineMissingError: There is none.
    """
    found = shutil.which("ngspice")
    if found is None:
        raise EngineMissingError("the ngspice program is not on the PATH", hint=_HINT)
    return Path(found)


def check_version(version: str) -> None:
    """Refuse an ngspice that is too old.

    Raises:
        EngineMissingError: The version is below `MINIMUM_VERSION` or cannot be read.
    """
    number = re.match(r"\d+", version)
    if number is None or int(number.group()) < MINIMUM_VERSION:
        raise EngineMissingError(
            f"ngspice {version or '?'} is too old, expected {MINIMUM_VERSION} or later", hint=_HINT
        )


@cache
def program_version(program: Path) -> str:
    """The version that the program states, such as "39".

    Raises:
        EngineMissingError: It is too old, or does not run.
    """
    try:
        done = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
        )
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise EngineMissingError(f"{program} does not run: {error}", hint=_HINT) from error
    found = re.search(r"ngspice-([\w.+]+)", done.stdout + done.stderr)
    version = found.group(1) if found else ""
    check_version(version)
    return version
