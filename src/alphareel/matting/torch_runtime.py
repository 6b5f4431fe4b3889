"""PyTorch and transformers of the ``pro`` extra: imported on first use, without log output or network access."""

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
    """Whether both can be imported. Imports neither."""
    return all(importlib.util.find_spec(name) is not None for name in ("torch", "transformers"))


def torch() -> Any:
    return importlib.import_module("torch")


def transformers() -> Any:
    """The module, configured to log nothing and to stay offline."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read at the first import
    module = importlib.import_module("transformers")
    module.utils.logging.set_verbosity_error()
    module.utils.logging.disable_progress_bar()
    return module


def set_threads(count: int) -> None:
    """Set the number of threads of every PyTorch network in this process."""
    torch().set_num_threads(count)


def as_tensor(values: Array) -> Any:
    """A tensor that shares memory with the array."""
    return torch().from_numpy(values)


def load_pretrained(model_class: Any, folder: Path) -> Any:
    """Load a folder with a transformers class. Raises WeightsInvalid or OutOfMemory."""
    try:
        model = model_class.from_pretrained(str(folder), local_files_only=True)
    except MemoryError as error:
        raise OutOfMemory(f"{folder.name} does not fit into memory.", hint="Give the job more memory.") from error
    except Exception as error:
        raise WeightsInvalid(
            f"{folder.name} cannot be loaded: {str(error)[:300]}", hint="Remove the weights and pull them again."
        ) from error
    return model.eval() if hasattr(model, "eval") else model


@contextmanager
def translate_errors(name: str) -> Iterator[None]:
    """Run inference without gradients. Raises OutOfMemory or InternalError, which name the network."""
    try:
        with torch().inference_mode():
            yield
    except AlphareelError:
        raise
    except Exception as error:
        if isinstance(error, MemoryError) or "allocate" in str(error).lower():
            raise OutOfMemory(f"{name} ran out of memory.", hint="Give the job more memory.") from error
        raise InternalError(f"{name} failed: {str(error)[:300]}") from error
