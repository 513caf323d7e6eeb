"""Saved arrays with metadata: one .npz file, whole or not at all, readable with NumPy alone.

The metadata is one JSON string under the key "metadata". Nothing is pickled.
"""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESERVED = ("metadata", "file")  # names that savez and we use ourselves
UNREADABLE = (  # what NumPy, zipfile and json raise on damaged files
    *(OSError, ValueError, EOFError, KeyError, TypeError, NotImplementedError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error),
)
_UMASK = os.umask(0)
os.umask(_UMASK)
DEFAULT_MODE = 0o666 & ~_UMASK  # as of any new file; temporary ones are private


def check_writable(path: str | Path) -> Path:
    """The path of a file that can be written there.

    Raises:
        ValueError: the folder does not exist or cannot be written to, or the path is a folder.
    """
    path = Path(path)
    folder = path.parent
    try:
        is_folder, is_other = path.is_dir(), path.exists() and not path.is_file()
    except OSError as error:  # a name that is too long, a folder that may not be entered
        raise ValueError(f"cannot write {path}: {error.strerror}.") from error
    if not path.name or is_folder:
        raise ValueError(f"cannot write {path}: it is a folder; give the name of a file.")
    if is_other:
        raise ValueError(f"cannot write {path}: it is a device; give the name of a file.")
    if not folder.is_dir():
        raise ValueError(f"cannot write {path}: the folder {folder} does not exist; make it first.")
    if not os.access(folder, os.W_OK | os.X_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise ValueError(f"cannot write {path}: permission denied; choose another place.")
    return path


def save_arrays(
    path: str | Path, arrays: Mapping[str, NDArray], metadata: Mapping[str, Any]
) -> None:
    """Write arrays and metadata to a new file that takes the old one's place when complete.

    Raises:
        ValueError: the file cannot be written, or an array holds Python objects, or has a name
            that is taken.
    """
    path = check_writable(path)
    for name, array in arrays.items():
        if name in RESERVED or (isinstance(array, np.ndarray) and array.dtype.hasobject):
            raise ValueError(
                f"cannot save the array {name!r}: expected numbers or text under a name other "
                f"than {' and '.join(RESERVED)}."
            )
    text = json.dumps(metadata, allow_nan=False)
    try:
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            try:
                content: dict[str, Any] = {**arrays, "metadata": np.array(text)}
                np.savez_compressed(file, **content)
                file.flush()
                os.fsync(file.fileno())
                os.chmod(file.name, DEFAULT_MODE)
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror or error}.") from error


def load_arrays(path: str | Path) -> tuple[dict[str, NDArray], dict[str, Any]]:
    """Arrays and metadata of a file.

    Raises:
        ValueError: no such file, a truncated or foreign file, or one without metadata.
    """
    path = Path(path)
    if not os.path.isfile(path):
        raise ValueError(f"cannot read {path}: there is no such file.")
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("it is no zip archive, as a complete .npz file is")
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        metadata = json.loads(str(arrays.pop("metadata")[()]))
        if not isinstance(metadata, dict):
            raise ValueError("its metadata is not a JSON object")
    except UNREADABLE as error:
        reason = "it has no metadata" if isinstance(error, KeyError) else _first_line(error)
        raise ValueError(
            f"{path} is truncated, or no solution file ({reason}); expected a .npz file "
            "written by this program."
        ) from error
    return arrays, metadata


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
