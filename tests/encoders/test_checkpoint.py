"""Files of encoders: ours there and back, public ones, and everything that is neither."""

import argparse
import os
import pickle

import pytest
import torch
from safetensors.torch import save_file

from encoders import EncoderConfig, build_encoder, load_encoder, save_encoder
from stylegan.errors import CheckpointError

AVERAGE = torch.linspace(-2, 2, 12)
AVERAGES = AVERAGE.expand(8, 12)


def make(kind="gradual", trunk="ir_se50", size=32, seed=0):
    config = EncoderConfig(
        kind=kind, trunk=trunk, in_channels=5, num_ws=8, w_dim=12, input_size=size, width=4
    )
    encoder = build_encoder(config, AVERAGE, seed=seed)
    for module in encoder.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.add_(0.1)
            module.running_var.mul_(1.7)
    return encoder.eval()


def public(encoder, *, latent_avg=AVERAGES, opts=None, decoder=True):
    """Lay the encoder out as pSp's training does."""
    state = {f"encoder.{k}": v for k, v in encoder.net.state_dict().items()}
    if decoder:
        state |= {f"decoder.convs.{i}.conv.weight": torch.zeros(1) for i in range(6)}
        state |= {"decoder.input.input": torch.zeros(1)}
    checkpoint = {"state_dict": state, "opts": {"start_from_latent_avg": True} | (opts or {})}
    if latent_avg is not None:
        checkpoint["latent_avg"] = latent_avg.clone()
    return checkpoint


def same_codes(a, b, size=32, *, exact=True, **tolerance):
    """Check that two encoders agree: bit for bit in their weights if `exact`, and in codes."""
    for (name, x), y in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
        assert not exact or torch.equal(x, y), name
    x = torch.rand(2, 5, size, size)
    with torch.no_grad():
        torch.testing.assert_close(a(x), b(x), **tolerance)


@pytest.mark.parametrize("kind", ["gradual", "backbone_w", "backbone_wplus"])
@pytest.mark.parametrize("trunk", ["light", "ir_se50"])
def test_ours_there_and_back(kind, trunk, tmp_path):
    encoder = make(kind, trunk)
    save_encoder(encoder, tmp_path / "encoder.safetensors")
    loaded = load_encoder(tmp_path / "encoder.safetensors")
    assert loaded.config == encoder.config
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())
    same_codes(loaded, encoder)
    assert os.listdir(tmp_path) == ["encoder.safetensors"]  # noqa: PTH208


def test_half_is_half_as_large_and_nearly_equal(tmp_path):
    encoder = make(trunk="light")
    save_encoder(encoder, tmp_path / "full.safetensors")
    save_encoder(encoder, tmp_path / "half.safetensors", half=True)
    sizes = [(tmp_path / f"{n}.safetensors").stat().st_size for n in ("full", "half")]
    assert sizes[1] < 0.7 * sizes[0]
    loaded = load_encoder(tmp_path / "half.safetensors")
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    assert torch.equal(loaded.latent_avg, encoder.latent_avg)
    same_codes(loaded, encoder, exact=False, rtol=1e-2, atol=2e-2)


def test_running_statistics_stay_float32_in_half(tmp_path):
    encoder = make()
    encoder.net.body[0].res_layer[0].running_var.fill_(1e6)
    save_encoder(encoder, tmp_path / "half.safetensors", half=True)
    loaded = load_encoder(tmp_path / "half.safetensors")
    assert loaded.net.body[0].res_layer[0].running_var[0] == 1e6


def test_a_folder_gives_its_newest_encoder(tmp_path):
    for i, name in enumerate(["a", "b", "c"]):
        (tmp_path / name).mkdir()
        file = tmp_path / name / "encoder.safetensors"
        save_encoder(make(trunk="light", seed=i), file)
        os.utime(file, (1000 + i % 2, 1000 + i % 2))
    same_codes(load_encoder(tmp_path), make(trunk="light", seed=1))


def test_a_folder_without_an_encoder(tmp_path):
    with pytest.raises(CheckpointError, match=r"no encoder\.safetensors in this folder"):
        load_encoder(tmp_path)


@pytest.mark.parametrize("kind", ["gradual", "backbone_w", "backbone_wplus"])
@pytest.mark.parametrize("as_namespace", [True, False])
def test_public_checkpoints_are_inferred(kind, as_namespace, tmp_path):
    size = 32 if kind == "gradual" else 256
    encoder = make(kind, size=size)
    checkpoint = public(encoder, latent_avg=AVERAGE[None])
    if as_namespace:
        checkpoint["opts"] = argparse.Namespace(**checkpoint["opts"])
    torch.save(checkpoint, tmp_path / "psp.pt")
    loaded = load_encoder(tmp_path / "psp.pt")
    assert loaded.config.to_dict() == encoder.config.to_dict()
    same_codes(loaded, encoder, size)


def test_counters_of_batches_may_be_missing(tmp_path):
    encoder = make()
    checkpoint = public(encoder)
    state = checkpoint["state_dict"]
    checkpoint["state_dict"] = {k: v for k, v in state.items() if "num_batches" not in k}
    torch.save(checkpoint, tmp_path / "psp.pt")
    same_codes(load_encoder(tmp_path / "psp.pt"), encoder)


def test_old_style_files_open(tmp_path):
    encoder = make()
    torch.save(public(encoder), tmp_path / "psp.pt", _use_new_zipfile_serialization=False)
    same_codes(load_encoder(tmp_path / "psp.pt"), encoder)


@pytest.mark.parametrize("given", ["average", "options"])
def test_number_of_codes_without_a_decoder(given, tmp_path):
    checkpoint = public(
        make("backbone_w", size=256),
        latent_avg=AVERAGE.expand(8, 12) if given == "average" else AVERAGE[None],
        opts={"style_num": 8} if given == "options" else None,
        decoder=False,
    )
    torch.save(checkpoint, tmp_path / "psp.pt")
    assert load_encoder(tmp_path / "psp.pt").num_ws == 8


def test_number_of_codes_unknown(tmp_path):
    checkpoint = public(make("backbone_w", size=256), latent_avg=AVERAGE[None], decoder=False)
    torch.save(checkpoint, tmp_path / "psp.pt")
    with pytest.raises(CheckpointError, match="nothing in it tells the number of codes"):
        load_encoder(tmp_path / "psp.pt")


def test_no_average_is_added_when_training_used_none(tmp_path):
    checkpoint = public(make(), opts={"start_from_latent_avg": False})
    torch.save(checkpoint, tmp_path / "psp.pt")
    assert load_encoder(tmp_path / "psp.pt").latent_avg.abs().max() == 0


def test_a_missing_average_is_named_with_the_fix(tmp_path):
    torch.save(public(make(), latent_avg=None), tmp_path / "psp.pt")
    with pytest.raises(CheckpointError, match=r"'latent_avg' is missing.*G\.mapping\.w_avg"):
        load_encoder(tmp_path / "psp.pt")


def test_an_average_of_another_prior(tmp_path):
    torch.save(public(make(), latent_avg=torch.zeros(7, 12)), tmp_path / "psp.pt")
    with pytest.raises(CheckpointError, match=r"latent average \[7, 12\] does not fit"):
        load_encoder(tmp_path / "psp.pt")


class _Runs:
    def __reduce__(self):
        return os.system, ("touch ran",)


def test_a_pickle_that_runs_code_is_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": _Runs()}, tmp_path / "bad.pt")
    with pytest.raises(CheckpointError, match=r"refused, because it holds (posix|nt)\.system"):
        load_encoder(tmp_path / "bad.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(_Runs()))
    with pytest.raises(CheckpointError, match="a pickle, as StyleGANs of NVIDIA come in"):
        load_encoder(tmp_path / "plain.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\n <!DOCTYPE html><html><body>Sign in</body></html>", "a web page, not a checkpoint"),
        (b"", "empty"),
        (b"once upon a time there was a prior", "not a checkpoint"),
        (b"PK\x03\x04 not really", "truncated or damaged"),
    ],
)
def test_files_that_are_no_checkpoint(content, message, tmp_path):
    (tmp_path / "psp.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        load_encoder(tmp_path / "psp.pt")


def test_a_missing_file(tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        load_encoder(tmp_path / "nothing.pt")


@pytest.mark.parametrize("name", ["encoder.safetensors", "psp.pt"])
def test_truncated_files(name, tmp_path):
    path = tmp_path / name
    if name == "psp.pt":
        torch.save(public(make()), path)
    else:
        save_encoder(make(trunk="light"), path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match="truncated"):
        load_encoder(path)


def test_a_generator_is_told_apart(tmp_path):
    torch.save({"g_ema": {"input.input": torch.zeros(1, 8, 4, 4)}}, tmp_path / "g.pt")
    with pytest.raises(CheckpointError, match=r"StyleGAN2 generator .* give it as the prior"):
        load_encoder(tmp_path / "g.pt")
    save_file(
        {"x": torch.zeros(2)}, tmp_path / "g.safetensors", metadata={"kind": "stylegan2-generator"}
    )
    with pytest.raises(CheckpointError, match="holds stylegan2-generator, not an encoder"):
        load_encoder(tmp_path / "g.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("encoder.body.3.res_layer.1.weight"), "lacks net.body.3.res_layer.1.we"),
        (lambda s: s.update({"encoder.body.99.x": torch.zeros(1)}), "has no place for net.body.99"),
        (
            lambda s: s.update({"encoder.latlayer1.bias": torch.zeros(3)}),
            "resizes net.latlayer1.bias",
        ),
        (lambda s: s.pop("encoder.input_layer.0.weight"), "no encoder in it"),
    ],
)
def test_another_architecture(change, message, tmp_path):
    checkpoint = public(make())
    change(checkpoint["state_dict"])
    torch.save(checkpoint, tmp_path / "psp.pt")
    with pytest.raises(CheckpointError, match=message):
        load_encoder(tmp_path / "psp.pt")


def test_other_objects(tmp_path):
    torch.save([torch.zeros(1)], tmp_path / "list.pt")
    with pytest.raises(CheckpointError, match="holds a list, not a table"):
        load_encoder(tmp_path / "list.pt")
    torch.save({"state_dict": 3}, tmp_path / "three.pt")
    with pytest.raises(CheckpointError, match="'state_dict' is no table"):
        load_encoder(tmp_path / "three.pt")


def test_a_description_that_cannot_be_used(tmp_path):
    path = tmp_path / "encoder.safetensors"
    meta = {"kind": "mask-encoder", "config": '{"kind": "other"}'}
    save_file({"x": torch.zeros(2)}, path, metadata=meta)
    with pytest.raises(CheckpointError, match="its description cannot be used"):
        load_encoder(path)


def test_a_failing_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "encoder.safetensors"
    save_encoder(make(trunk="light"), path)
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"could not be written .No space left"):
        save_encoder(make(trunk="light", seed=1), path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["encoder.safetensors"]
