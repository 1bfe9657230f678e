"""Files that are there completely or not at all, and the folders for them."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from cosim.errors import InputError
from cosim.text_files import reason


def make_folder(path: Path) -> Path:
    """The folder, made with its parents where it is not there; called just before the first file goes into it.

    Raises:
        InputError: It cannot be made, or something else has its name.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise InputError("expected a folder, got a file", place=str(path), hint="choose another folder") from error
    except (OSError, ValueError) as error:
        hint = "choose a folder that can be written"
        raise InputError(f"the folder cannot be made: {reason(error)}", place=str(path), hint=hint) from error
    return path


def replace_file(path: Path, raw: bytes) -> None:
    """Write bytes to a temporary name in the same folder, sync, and rename; on any failure nothing is left.

    Raises:
        InputError: The disk is full, or the folder is missing or not writable.
    """
    temporary = path.with_name(f".{secrets.token_hex(6)}-{path.name}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, ValueError) as error:
        hint = "free some space or choose another folder"
        raise InputError(f"cannot be written: {reason(error)}", place=str(path), hint=hint) from error
    finally:
        with contextlib.suppress(OSError, ValueError):
            temporary.unlink()
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut where the system can; some file systems cannot."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
