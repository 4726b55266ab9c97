"""The cache of builds and results: folders named by the hash of what went into them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import platformdirs


def directory() -> Path:
    """Where builds and results are kept between runs: APICAL_CACHE, else the user's cache directory."""
    return Path(os.environ.get("APICAL_CACHE") or platformdirs.user_cache_dir("apical"))


def made(kind: str, key_parts: tuple[str, ...], make: Callable[[Path], None]) -> Path:
    """Folder in the cache, made by `make`, which works in a temporary folder and leaves what stays in its ``keep``."""
    key = hashlib.sha256("\0".join(key_parts).encode()).hexdigest()[:24]
    final = directory() / kind / key
    if final.is_dir():
        return final
    final.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{key}.", dir=final.parent))
    try:
        (work / "keep").mkdir()
        make(work)
        with contextlib.suppress(OSError):  # another process may have made it meanwhile
            (work / "keep").replace(final)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return final
