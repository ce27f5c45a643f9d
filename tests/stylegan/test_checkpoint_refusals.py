"""Files that are no checkpoints, are damaged or want to run code: refused, with the fix."""

import os
import pickle

import pytest
import torch

import stylegan
from stylegan import files
from stylegan.errors import CheckpointError
from stylegan.rosinality import generator_to_rosinality
from tests.stylegan.snapshots import tiny_generator, write_rosinality


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.pt", b"", r"a\.pt: empty"),
        ("a.pt", b"<!DOCTYPE html><html>Sign in</html>", "a web page, not a checkpoint"),
        ("a.pkl", b"\xef\xbb\xbf\n<HTML><body>", "a web page, not a checkpoint"),
        ("a.pt", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("a.pt", b"\x89PNG\r\n\x1a\n0000", "not a checkpoint"),
        ("a.pkl", b"words about something", "not a checkpoint"),
        ("a.pt", b"PK\x03\x04 and nothing more", "truncated or damaged PyTorch file"),
        ("a.safetensors", b"\xff\x00\x00\x00\x00\x00\x00\x00{", r"truncated \(9 bytes\)"),
        ("a.safetensors", b"\x02\x00\x00\x00\x00\x00\x00\x00{]", "damaged safetensors"),
    ],
)
def test_files_that_are_no_checkpoints(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(CheckpointError, match=message):
        stylegan.load_generator(tmp_path / name)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(CheckpointError, match=r"none\.pkl: no such file"):
        stylegan.load_generator(tmp_path / "none.pkl")
    with pytest.raises(CheckpointError, match="a folder; name the checkpoint file"):
        stylegan.describe(tmp_path)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("share", [0.3, 0.97])
def test_truncated_torch_file(tmp_path, legacy, share):
    path = tmp_path / "g.pt"
    state = tiny_generator().state_dict()
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(CheckpointError, match=r"g\.pt: truncated or damaged PyTorch file"):
        stylegan.load_generator(path)


def test_safetensors_whose_length_looks_like_a_pickle(tmp_path):
    path = tmp_path / "g.safetensors"
    seen = set()
    for pad in range(0, 256, 8):
        stylegan.save_generator(tiny_generator(), path, notes={"pad": "x" * pad})
        seen.add(path.read_bytes()[0])
        assert files.container_of(path) is files.Container.SAFETENSORS
    assert 0x80 in seen


def test_truncated_safetensors_file(tmp_path):
    path = tmp_path / "g.safetensors"
    stylegan.save_generator(tiny_generator(), path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="truncated or damaged safetensors"):
        stylegan.load_generator(path)


class _Payload:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("legacy", [False, True])
def test_torch_file_that_wants_to_run_code(tmp_path, legacy):
    path, mark = tmp_path / "evil.pt", tmp_path / "executed"
    content = {"g_ema": _Payload(f"touch {mark}")}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError, match=r"evil\.pt: refused.*(posix|nt)\.system"):
        stylegan.load_generator(path)
    assert not mark.exists()


def test_protocol_zero_pickle_that_wants_to_run_code(tmp_path):
    path, mark = tmp_path / "evil.pkl", tmp_path / "executed"
    path.write_bytes(pickle.dumps(_Payload(f"touch {mark}"), protocol=0))
    with pytest.raises(CheckpointError, match=r"evil\.pkl: refused.*(posix|nt)\.system"):
        stylegan.load_generator(path)
    assert not mark.exists()


def test_whole_modules_need_code_and_are_refused(tmp_path):
    torch.save(torch.nn.Linear(2, 3), tmp_path / "module.pt")
    with pytest.raises(CheckpointError, match=r"refused.*torch\.nn\.modules\.linear\.Linear"):
        stylegan.load_generator(tmp_path / "module.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"conv1.weight": torch.ones(2), "bn1.bias": torch.ones(2)}, "2 tensors such as 'conv1"),
        ({"state_dict": {"layer1.0.conv1.weight": torch.ones(2)}}, "not a StyleGAN2 generator"),
        ({"note": "hello"}, "holds no tensors"),
        ([1, 2], "holds no tensors"),
        (
            {"synthesis.input.freqs": torch.ones(2)},
            "looks like a StyleGAN3, but holds no synthesis layers",
        ),
        ({"generator": {"mapping.dense0.weight": torch.ones(2)}}, "StyleGAN1 in genforce's"),
        ({"d": {"final_conv.0.weight": torch.ones(2)}}, "a discriminator but no generator"),
    ],
)
def test_checkpoints_of_another_architecture(tmp_path, content, message):
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=rf"other\.pth: .*{message}"):
        stylegan.load_generator(tmp_path / "other.pth")


def _changed(name, tensor):
    state = tiny_generator().state_dict()
    if tensor is None:
        del state[name]
    else:
        state[name] = tensor
    return state


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("mapping.fc0.bias", None, r"lacks 'mapping\.fc0\.bias' \(1 missing"),
        ("synthesis.b8.conv1.weight", None, r"lacks 'synthesis\.b8\.conv1\.weight', so its"),
        ("synthesis.b8.extra.weight", torch.ones(1), "an unknown tensor 'synthesis.b8.extra"),
        ("synthesis.b8.conv0.bias", torch.ones(9), r"'synthesis\.b8\.conv0\.bias' is \[9\]"),
        ("synthesis.b4.conv1.affine.weight", torch.ones(3), "expected 2 dimensions"),
        ("synthesis.b64.const", torch.ones(3), r"blocks of \[4, 8, 16, 64\] px"),
        ("mapping.fc1.bias", torch.ones(10, dtype=torch.int64), "holds torch.int64, not weights"),
    ],
)
def test_damaged_state_dicts_are_described(tmp_path, name, tensor, message):
    torch.save(_changed(name, tensor), tmp_path / "g.pt")
    with pytest.raises(CheckpointError, match=message):
        stylegan.load_generator(tmp_path / "g.pt")


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("conv1.conv.weight", torch.ones(2, 12, 12, 3, 3), "unlike StyleGAN2"),
        ("convs.1.noise.weight", None, r"lacks 'convs\.1\.noise\.weight'"),
        ("convs.1.gate.weight", torch.ones(1), "1 tensors a rosinality StyleGAN2 does not have"),
        ("convs.0.conv.blur.kernel", torch.ones(4, 4), "differs from"),
    ],
)
def test_damaged_rosinality_files_are_described(tmp_path, name, tensor, message):
    state = generator_to_rosinality(tiny_generator().state_dict())
    state = {k: t for k, t in state.items() if k != name}
    if tensor is not None:
        state[name] = tensor
    torch.save({"g_ema": state}, tmp_path / "r.pt")
    with pytest.raises(CheckpointError, match=message):
        stylegan.load_generator(tmp_path / "r.pt")


def test_average_of_another_width_is_refused(tmp_path):
    write_rosinality(tmp_path / "r.pt", latent_avg=torch.ones(512))
    with pytest.raises(CheckpointError, match=r"latent_avg is \[512\], but w has 10 numbers"):
        stylegan.load_generator(tmp_path / "r.pt")


@pytest.mark.parametrize("config", ["{", '{"img_resolution": 16, "size": 3}', "[1]"])
def test_damaged_header(tmp_path, config):
    files.write_tensors(
        tmp_path / "g.safetensors", tiny_generator().state_dict(), {"config": config}
    )
    with pytest.raises(CheckpointError, match="its header does not describe it"):
        stylegan.load_generator(tmp_path / "g.safetensors")
