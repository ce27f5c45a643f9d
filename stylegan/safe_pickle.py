"""Read a network pickle as data: an unpickler that knows only what tensors need.

A pickle is a small program that may call whatever it names. Here every name is looked up in
the table below; all others end the reading. The networks of NVIDIA's trainers, which carry the
source text of their own classes, come back as inert `Record`s; that text is never run.
"""

import io
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from stylegan.errors import CheckpointError

_MAX_DEPTH = 200
_NUMBER = re.compile(r"[<>|=]?([biufc]\d{1,2}|\?)")
_DTYPES = (
    "float16",
    "bfloat16",
    "float32",
    "float64",
    "bool",
    "uint8",
    "int8",
    "int16",
    "int32",
    "int64",
)


class Record(NamedTuple):
    """A network object as data: the name of its class and its attributes by name."""

    class_name: str
    state: dict[str, Any]


class _RefusedError(Exception):
    """The pickle asks for something outside the table; the text names it."""


class _Call:
    """A callable that a pickle may use but not alter."""

    __slots__ = ("_function",)
    _function: Callable[..., Any]

    def __init__(self, function: Callable[..., Any]) -> None:
        object.__setattr__(self, "_function", function)

    def __setattr__(self, name: str, value: object) -> None:
        raise _RefusedError(f"attribute {name!r} set on a function")

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)


class _Dict(dict[Any, Any]):
    """Stands for OrderedDict and EasyDict while the pickle is read."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        """Leave attributes out (state dicts carry `_metadata` there)."""


class _Leaf:
    """A finished value that the rest of the pickle cannot reach into."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __setstate__(self, state: object) -> None:
        """Leave attributes of tensors out (hooks, for example)."""


class _Network(_Leaf):
    """A Record in the making."""

    __slots__ = ()


class _Storage(_Leaf):
    """The flat tensor [numel] over one storage."""

    __slots__ = ()


class _Dtype(_Leaf):
    """A numpy number type; `value` is its code, such as "f8"."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        """Take the byte order."""
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
            raise _RefusedError("a numpy dtype of an unknown kind")
        self.value = state[1] + self.value.lstrip("<>|=")


class _Array(_Leaf):
    """A numpy array, empty until its state arrives."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        """Take (version, shape, dtype, Fortran order, bytes)."""
        if not isinstance(state, tuple) or len(state) != 5:
            raise _RefusedError("a numpy array of an unknown layout")
        _, shape, dtype, fortran, raw = state
        self.value = _array(raw, dtype, shape, "F" if fortran else "C")


def _array(raw: object, dtype: object, shape: object, order: str) -> np.ndarray[Any, Any]:
    if not isinstance(raw, bytes | bytearray) or not isinstance(dtype, _Dtype):
        raise _RefusedError("a numpy array of something else than numbers")
    flat = np.frombuffer(bytes(raw), np.dtype(dtype.value))
    return np.array(flat.reshape(shape, order="F" if order == "F" else "C"))  # type: ignore[call-overload]  # shape is whatever the file says; numpy checks it


def _make_dtype(code: object, *_: object) -> _Dtype:
    if not isinstance(code, str) or not _NUMBER.fullmatch(code):
        raise _RefusedError(f"numpy dtype {code!r}")
    return _Dtype(code)


def _make_scalar(dtype: object, raw: object = b"") -> _Leaf:
    return _Leaf(_array(raw, dtype, (), "C").item())


def _from_buffer(raw: object, dtype: object, shape: object, order: str) -> _Leaf:
    return _Leaf(_array(raw, dtype, shape, order))


def _empty_array(*_: object) -> _Array:
    return _Array(None)


def _load_storage(raw: object) -> _Storage:
    """Read a storage embedded as a torch file of its own, with weights_only."""
    if not isinstance(raw, bytes | bytearray):
        raise _RefusedError("a storage that is not bytes")
    try:
        inner = torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as err:
        found = re.search(r"GLOBAL ([\w.]+)", str(err))
        raise _RefusedError(
            found[1] if found else "an embedded storage that cannot be read"
        ) from err
    if isinstance(inner, torch.UntypedStorage):
        return _Storage(torch.empty(0, dtype=torch.uint8).set_(inner))
    if isinstance(inner, torch.storage.TypedStorage):
        return _Storage(torch.empty(0, dtype=inner.dtype).set_(inner._untyped_storage))
    raise _RefusedError(f"an embedded {type(inner).__name__} in place of a storage")


def _make_tensor(storage: object, offset: int, size: object, stride: object, *_: object) -> _Leaf:
    if not isinstance(storage, _Storage):
        raise _RefusedError("a tensor without a storage")
    if not isinstance(size, tuple) or not isinstance(stride, tuple):
        raise _RefusedError("a tensor without a shape")
    return _Leaf(storage.value.as_strided(size, stride, offset))


def _make_parameter(data: object, *_: object) -> _Leaf:
    if not isinstance(data, _Leaf) or not isinstance(data.value, Tensor):
        raise _RefusedError("a parameter that is not a tensor")
    return data


def _make_network(meta: object) -> _Network:
    """Keep class name and attributes of a persistent object; its `module_src` stays text."""
    if not isinstance(meta, dict) or not isinstance(meta.get("class_name"), str):
        raise _RefusedError("a persistent object without a class name")
    state = meta.get("state")
    if not isinstance(state, dict):
        raise _RefusedError("a persistent object without attributes")
    return _Network((meta["class_name"], state))


def _encode(text: object, encoding: object = "latin1") -> bytes:
    """Undo how protocol 2 writes bytes."""
    if not isinstance(text, str) or encoding != "latin1":
        raise _RefusedError(f"_codecs.encode with {encoding!r}")
    return text.encode("latin1")


def _table() -> dict[tuple[str, str], Any]:
    known: dict[tuple[str, str], Any] = {
        ("collections", "OrderedDict"): _Dict,
        ("dnnlib.util", "EasyDict"): _Dict,
        ("dnnlib", "EasyDict"): _Dict,
        ("torch_utils.persistence", "_reconstruct_persistent_obj"): _Call(_make_network),
        ("torch._utils", "_rebuild_tensor"): _Call(_make_tensor),
        ("torch._utils", "_rebuild_tensor_v2"): _Call(_make_tensor),
        ("torch._utils", "_rebuild_parameter"): _Call(_make_parameter),
        ("torch.storage", "_load_from_bytes"): _Call(_load_storage),
        ("torch", "Size"): _Call(tuple),
        ("torch", "device"): _Call(lambda *args: ":".join(map(str, args))),
        ("numpy", "dtype"): _Call(_make_dtype),
        ("numpy", "ndarray"): _Call(_empty_array),
        ("_codecs", "encode"): _Call(_encode),
    }
    for package in ("numpy.core", "numpy._core"):
        known[f"{package}.multiarray", "_reconstruct"] = _Call(_empty_array)
        known[f"{package}.multiarray", "scalar"] = _Call(_make_scalar)
        known[f"{package}.numeric", "_frombuffer"] = _Call(_from_buffer)
    for name in _DTYPES:
        known["torch", name] = getattr(torch, name)
    for builtin in (set, frozenset, slice, complex, bytearray, range):
        known["builtins", builtin.__name__] = _Call(builtin)
        known["__builtin__", builtin.__name__] = _Call(builtin)
    return known


_KNOWN = _table()


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Look the global up in the table; nothing is ever imported."""
        if (module, name) in _KNOWN:
            return _KNOWN[module, name]
        raise _RefusedError(f"{module}.{name}")

    def persistent_load(self, pid: object) -> Any:
        """Refuse: storages outside the stream belong to torch files, which torch reads."""
        raise _RefusedError("a persistent id")


def _resolve(value: Any, done: dict[int, Any], depth: int = 0) -> Any:
    """Turn the stand-ins into plain dicts, tensors, arrays and Records, all the way down."""
    if depth > _MAX_DEPTH:
        raise _RefusedError("objects nested without end")
    if isinstance(value, _Network):
        class_name, state = value.value
        return Record(class_name, _resolve(state, done, depth + 1))
    if isinstance(value, _Leaf):
        return value.value
    if isinstance(value, dict):
        if id(value) not in done:
            plain = done[id(value)] = {}
            for key, item in value.items():
                plain[key] = _resolve(item, done, depth + 1)
        return done[id(value)]
    if isinstance(value, list | tuple):
        return type(value)([_resolve(item, done, depth + 1) for item in value])
    return value


def read_pickle(path: Path) -> Any:
    """Return the content of a pickle as plain values, tensors, numpy arrays and `Record`s.

    Raises:
        CheckpointError: the file is truncated, is no pickle, or names anything but what tensors
            need; nothing of it is run.
    """
    try:
        with path.open("rb") as file:
            return _resolve(_Unpickler(file).load(), {})
    except _RefusedError as err:
        raise _refusal(path, str(err)) from err
    except OSError as err:
        raise CheckpointError(f"{path}: cannot be read ({err.strerror})") from err
    except Exception as err:  # a damaged stream can fail in any opcode
        raise CheckpointError(
            f"{path}: truncated or damaged pickle ({type(err).__name__}: {err}); "
            "download or copy the file again"
        ) from err


def _refusal(path: Path, what: str) -> CheckpointError:
    if what.startswith(("dnnlib.tflib", "tfutil", "tensorflow")):
        return CheckpointError(
            f"{path}: a TensorFlow network pickle ({what}); convert it once with legacy.py of "
            "NVIDIA's stylegan3 repository (python legacy.py --source=OLD.pkl --dest=NEW.pkl) "
            "and open the new file"
        )
    return CheckpointError(
        f"{path}: refused, because the pickle asks for {what}, which no network weights need; "
        "nothing was run. Get the file from its authors or convert it to .safetensors"
    )
