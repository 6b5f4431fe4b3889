"""PyTorch and transformers, which only the extra ``pro`` brings: imported when first used, silent, never online."""

import importlib
import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alphareel.domain.errors import AlphareelError, InternalError, OutOfMemory, WeightsInvalid
from alphareel.matting.runtime import Array


def is_installed() -> bool:
    """Whether both can be imported; imports neither."""
    return all(importlib.util.find_spec(name) is not None for name in ("torch", "transformers"))


def torch() -> Any:
    """The module."""
    return importlib.import_module("torch")


def transformers() -> Any:
    """The module, told to be silent and to stay off the network."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before the first import, which is when it is read
    module = importlib.import_module("transformers")
    module.utils.logging.set_verbosity_error()
    module.utils.logging.disable_progress_bar()
    return module


def set_threads(count: int) -> None:
    """Threads of every network in this process."""
    torch().set_num_threads(count)


def as_tensor(values: Array) -> Any:
    """The same numbers, in the same memory."""
    return torch().from_numpy(values)


def load_pretrained(kind: Any, folder: Path) -> Any:
    """What ``kind`` (a class of transformers) finds in this folder. Raises WeightsInvalid, OutOfMemory."""
    try:
        made = kind.from_pretrained(str(folder), local_files_only=True)
    except MemoryError as error:
        raise OutOfMemory(f"There is no room for {folder.name}.", hint="Give the job more memory.") from error
    except Exception as error:
        raise WeightsInvalid(
            f"{folder.name} cannot be loaded: {str(error)[:300]}", hint="Remove and pull the weights again."
        ) from error
    return made.eval() if hasattr(made, "eval") else made


@contextmanager
def ours(name: str) -> Iterator[None]:
    """Inference without gradients, whose failures become errors of ours."""
    try:
        with torch().inference_mode():
            yield
    except AlphareelError:
        raise
    except Exception as error:
        if isinstance(error, MemoryError) or "allocate" in str(error).lower():
            raise OutOfMemory(f"{name} ran out of memory.", hint="Give the job more memory.") from error
        raise InternalError(f"{name} failed: {str(error)[:300]}") from error
