import collections
import os
import pickle
import pickletools
import re

import numpy as np
import pytest
import torch

from stylegan.errors import CheckpointError
from stylegan.safe_pickle import Record, read_pickle
from tests.parity.case import FOLDER
from tests.stylegan.snapshots import EasyDict, Persistent, dump_nvidia, dump_to


class Payload:
    """Pickles as a call of `function` with `args`."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def _write(path, data):
    path.write_bytes(data)
    return path


@pytest.fixture
def trap(tmp_path):
    """A shell command and the file it would leave behind."""
    mark = tmp_path / "executed"
    return f"touch {mark}", mark


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_payload_does_not_run_and_is_named(tmp_path, trap, protocol):
    command, mark = trap
    data = pickle.dumps({"G_ema": Payload(os.system, command)}, protocol=protocol)
    path = _write(tmp_path / "evil.pkl", data)
    with pytest.raises(CheckpointError, match=r"evil\.pkl: refused.*asks for (posix|nt)\.system"):
        read_pickle(path)
    assert not mark.exists()


@pytest.mark.parametrize("function", [eval, exec, getattr, __import__, open, pickle.loads])
def test_builtins_that_lead_to_code_are_refused(tmp_path, function):
    path = _write(tmp_path / "evil.pkl", pickle.dumps(Payload(function, "1")))
    name = f"{function.__module__}.{function.__name__}"
    with pytest.raises(CheckpointError, match=re.escape(name)):
        read_pickle(path)


@pytest.mark.parametrize(
    ("module", "name"), [("torch._utils", "os.system"), ("torch", "serialization.os")]
)
def test_dotted_names_do_not_reach_through_a_known_module(tmp_path, module, name):
    parts = [b"\x8c" + bytes([len(text)]) + text.encode() for text in (module, name)]
    path = _write(tmp_path / "evil.pkl", b"\x80\x04" + b"".join(parts) + b"\x93.")
    with pytest.raises(CheckpointError, match=f"asks for {re.escape(f'{module}.{name}')},"):
        read_pickle(path)


def test_module_source_is_never_run(tmp_path, trap):
    command, mark = trap
    source = f"import os\nos.system({command!r})\n"
    path = dump_to(tmp_path / "net.pkl", {"G_ema": Persistent("Generator", {"a": 1}, source)})
    assert read_pickle(path) == {"G_ema": Record("Generator", {"a": 1})}
    assert not mark.exists()


def test_payload_inside_an_embedded_storage_does_not_run(tmp_path, trap):
    command, mark = trap
    inner = pickle.dumps(Payload(os.system, command), protocol=2)
    load = torch.storage._load_from_bytes
    path = _write(tmp_path / "evil.pkl", pickle.dumps(Payload(load, inner)))
    with pytest.raises(CheckpointError, match=r"evil\.pkl: refused.*asks for"):
        read_pickle(path)
    assert not mark.exists()


def test_known_functions_cannot_be_altered(tmp_path):
    # GLOBAL _rebuild_parameter, then BUILD with (None, {"_function": "x"}): a setattr on it
    state = pickle.dumps((None, {"_function": "x"}), protocol=2)[2:-1]
    data = b"\x80\x02ctorch._utils\n_rebuild_parameter\n" + state + b"b."
    with pytest.raises(CheckpointError, match="attribute '_function' set on a function"):
        read_pickle(_write(tmp_path / "evil.pkl", data))
    tensor = torch.ones(2)
    assert torch.equal(read_pickle(dump_to(tmp_path / "a.pkl", tensor)), tensor)


def test_persistent_ids_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="a persistent id"):
        read_pickle(_write(tmp_path / "evil.pkl", b"\x80\x02X\x01\x00\x00\x00aQ."))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_tensors_come_back_with_shape_stride_and_type(tmp_path, protocol):
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    content = {
        "transposed": base.t(),
        "slice": base[1:3, ::2],
        "scalar": torch.tensor(2.5, dtype=torch.float64),
        "half": torch.ones(3, dtype=torch.float16),
        "ids": torch.arange(5),
        "parameter": torch.nn.Parameter(base.clone()),
    }
    found = read_pickle(_write(tmp_path / "t.pkl", pickle.dumps(content, protocol=protocol)))
    assert found.keys() == content.keys()
    for name, tensor in content.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor.detach())


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_numpy_values_come_back(tmp_path, protocol):
    content = {
        "scalar": np.float64(1.5),
        "count": np.int64(-3),
        "rows": np.arange(6, dtype=np.float32).reshape(2, 3),
        "columns": np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3)),
        "swapped": np.array([1, 258], dtype=">i4"),
        "flags": np.array([True, False]),
    }
    found = read_pickle(_write(tmp_path / "n.pkl", pickle.dumps(content, protocol=protocol)))
    assert found["scalar"] == 1.5
    assert found["count"] == -3
    for name in ("rows", "columns", "swapped", "flags"):
        np.testing.assert_array_equal(found[name], content[name])


def test_numpy_objects_are_refused(tmp_path):
    data = pickle.dumps(np.array([{}], dtype=object))
    with pytest.raises(CheckpointError, match="numpy dtype 'O8'"):
        read_pickle(_write(tmp_path / "o.pkl", data))


@pytest.mark.parametrize("protocol", [2, 4])
def test_plain_values_and_dictionaries_come_back(tmp_path, protocol):
    ordered = collections.OrderedDict(a=1)
    ordered._metadata = {"version": 1}
    content = [
        EasyDict(b=(1, None, "x")),
        ordered,
        {"s": {1, 2}, "z": 1j, "cut": slice(1, 3), "raw": b"\x00\xff"},
        [torch.float16, torch.Size([2, 3])],
    ]
    found = read_pickle(dump_to(tmp_path / "p.pkl", content, protocol))
    assert found == [
        {"b": (1, None, "x")},
        {"a": 1},
        {"s": {1, 2}, "z": 1j, "cut": slice(1, 3), "raw": b"\x00\xff"},
        [torch.float16, (2, 3)],
    ]
    assert type(found[0]) is dict
    assert type(found[1]) is dict


@pytest.mark.parametrize("module", ["dnnlib.tflib.network", "tfutil"])
def test_tensorflow_pickles_are_told_their_converter(tmp_path, module):
    data = b"\x80\x02c" + module.encode() + b"\nNetwork\n)\x81."
    with pytest.raises(CheckpointError, match=r"TensorFlow network pickle.*legacy\.py"):
        read_pickle(_write(tmp_path / "karras.pkl", data))


@pytest.mark.parametrize("share", [0.0005, 0.1, 0.5, 0.99, 0.999999])
def test_truncated_pickle(tmp_path, share):
    data = (FOLDER / "pickles" / "ada_32px_tiny.pkl").read_bytes()
    path = _write(tmp_path / "cut.pkl", data[: max(2, int(share * len(data)))])
    with pytest.raises(CheckpointError, match=r"cut\.pkl: truncated or damaged pickle"):
        read_pickle(path)


def test_damaged_bytes_end_in_a_checkpoint_error_or_in_data(tmp_path):
    """Flip one byte at many places: reading either works or says CheckpointError."""
    data = bytearray(dump_nvidia({"a": Persistent("N", {"w": torch.ones(3), "n": np.float32(1)})}))
    path, failed = tmp_path / "flip.pkl", 0
    for at in range(2, len(data), 3):
        changed = bytearray(data)
        changed[at] ^= 0x55
        path.write_bytes(changed)
        try:
            read_pickle(path)
        except CheckpointError:
            failed += 1
    assert failed > len(data) // 10


def test_endless_nesting_ends(tmp_path):
    deep: list = []
    for _ in range(400):
        deep = [deep]
    with pytest.raises(CheckpointError, match="nested without end"):
        read_pickle(_write(tmp_path / "deep.pkl", pickle.dumps(deep)))


def test_cycles_of_dictionaries_do_not_hang(tmp_path):
    cycle: dict = {"a": 1}
    cycle["self"] = cycle
    found = read_pickle(_write(tmp_path / "cycle.pkl", pickle.dumps(cycle)))
    assert found["self"] is found


@pytest.mark.parametrize(
    ("meta", "message"),
    [({"state": {}}, "without a class name"), ({"class_name": "G"}, "without attributes")],
)
def test_persistent_objects_without_content(tmp_path, meta, message):
    bare = Persistent("G", {})
    bare.meta = meta
    with pytest.raises(CheckpointError, match=message):
        read_pickle(dump_to(tmp_path / "p.pkl", bare))


def test_tensor_on_something_else_than_a_storage(tmp_path):
    rebuild = torch._utils._rebuild_tensor_v2
    path = tmp_path / "t.pkl"
    for args, message in [
        (("x", 0, (1,), (1,), False, {}), "a tensor without a storage"),
        ((torch.ones(1), 0, (1,), (1,), False, {}), "a tensor without a storage"),
    ]:
        path.write_bytes(pickle.dumps(Payload(rebuild, *args)))
        with pytest.raises(CheckpointError, match=message):
            read_pickle(path)


def test_tensor_beyond_its_storage(tmp_path):
    data = pickle.dumps(torch.ones(3), protocol=2)
    ops = [(op.name, arg) for op, arg, _ in pickletools.genops(data)]
    assert ("BININT1", 3) in ops
    grown = data.replace(b"K\x03\x85", b"K\x63\x85")  # size (3,) becomes (99,)
    assert grown != data
    with pytest.raises(CheckpointError, match="damaged"):
        read_pickle(_write(tmp_path / "t.pkl", grown))


def test_missing_file(tmp_path):
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_pickle(tmp_path / "none.pkl")
