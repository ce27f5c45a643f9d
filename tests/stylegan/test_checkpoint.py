import argparse
import errno
import json
import logging

import pytest
import torch

import stylegan
from stylegan import Generator, files
from stylegan.checkpoint import estimate_w_avg
from stylegan.errors import CheckpointError, ConfigError
from stylegan.rosinality import discriminator_to_rosinality, generator_to_rosinality
from tests.parity.case import FOLDER
from tests.stylegan.snapshots import (
    WIDTHS,
    dump_to,
    persistent,
    tiny_discriminator,
    tiny_generator,
    write_rosinality,
)

PICKLE = FOLDER / "pickles" / "ada_32px_tiny.pkl"


def _same(a, b):
    """Compare two networks: configuration, and every tensor bit for bit."""
    assert a.config == b.config
    ours, theirs = a.state_dict(), b.state_dict()
    assert list(ours) == list(theirs)
    return all(torch.equal(ours[k], theirs[k]) for k in ours)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"architecture": "resnet", "conv_clamp": 256.0},
        {"architecture": "orig", "img_channels": 1},
        {"c_dim": 3, "mapping_layers": 1},
        {"resample_filter": (1, 2, 1)},
        {"img_resolution": 8, "channels": {4: 5, 8: 3}},
    ],
)
def test_save_and_load_give_the_same_network(tmp_path, changes):
    G = tiny_generator(**changes)
    stylegan.save_generator(G, tmp_path / "new" / "g.safetensors")
    found = stylegan.load_generator(tmp_path / "new" / "g.safetensors")
    assert _same(G, found)
    assert not found.training
    assert not any(p.requires_grad for p in found.parameters())
    assert {p.dtype for p in found.parameters()} == {torch.float32}
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["g.safetensors"]


def test_half_is_small_and_loads_as_float32(tmp_path):
    G = tiny_generator()
    stylegan.save_generator(G, tmp_path / "full.safetensors")
    stylegan.save_generator(G, tmp_path / "half.safetensors", half=True)
    found = stylegan.load_generator(tmp_path / "half.safetensors")
    assert {t.dtype for t in found.state_dict().values()} == {torch.float32}
    assert torch.equal(found.mapping.w_avg, G.mapping.w_avg)
    want, got = G.synthesis.b8.conv0.weight, found.synthesis.b8.conv0.weight
    assert torch.equal(got, want.half().float())
    assert not torch.equal(got, want)
    sizes = [(tmp_path / f"{n}.safetensors").stat().st_size for n in ("full", "half")]
    assert sizes[1] < 0.75 * sizes[0]
    assert stylegan.describe(tmp_path / "half.safetensors")["dtype"] == "float16"


def test_half_refuses_weights_beyond_its_range(tmp_path):
    G = tiny_generator()
    G.mapping.fc1.weight[0, 0] = 1e6
    with pytest.raises(CheckpointError, match=r"mapping\.fc1\.weight.*float16 cannot hold"):
        stylegan.save_generator(G, tmp_path / "g.safetensors", half=True)
    assert list(tmp_path.iterdir()) == []


def test_loading_leaves_the_global_generator_alone(tmp_path):
    stylegan.save_generator(tiny_generator(), tmp_path / "g.safetensors")
    before = torch.get_rng_state()
    stylegan.load_generator(tmp_path / "g.safetensors")
    stylegan.load_generator(PICKLE)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("half", [False, True])
def test_disk_full_leaves_nothing_half_written(tmp_path, monkeypatch, half):
    path = tmp_path / "g.safetensors"
    stylegan.save_generator(tiny_generator(), path)
    old = path.read_bytes()

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"g\.safetensors: could not be written \(No space"):
        stylegan.save_generator(tiny_generator(w_dim=12), path, half=half)
    with pytest.raises(CheckpointError, match=r"new\.pt: could not be written"):
        stylegan.convert(path, tmp_path / "new.pt", to="nvidia-state")
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_rosinality_file_and_back_bit_for_bit(tmp_path):
    G, average = (
        write_rosinality(tmp_path / "r.pt", latent_avg=torch.arange(10.0)),
        torch.arange(10),
    )
    found = stylegan.load_generator(tmp_path / "r.pt")
    assert torch.equal(found.mapping.w_avg, average.float())
    found.mapping.w_avg.copy_(G.mapping.w_avg)
    assert _same(G, found)
    stylegan.convert(tmp_path / "r.pt", tmp_path / "back.pt", to="rosinality")
    before = torch.load(tmp_path / "r.pt", weights_only=True)
    after = torch.load(tmp_path / "back.pt", weights_only=True)
    assert before.keys() == after.keys()
    assert torch.equal(before["latent_avg"], after["latent_avg"])
    assert before["g_ema"].keys() == after["g_ema"].keys()
    for name, tensor in before["g_ema"].items():
        assert tensor.shape == after["g_ema"][name].shape
        assert torch.equal(tensor, after["g_ema"][name]), name


def test_rosinality_training_checkpoint_keeps_its_networks_apart(tmp_path):
    D, other = tiny_discriminator(), tiny_generator(mapping_layers=3)
    other.synthesis.b4.const.zero_()
    G = write_rosinality(
        tmp_path / "r.pt",
        g={f"module.{k}": t for k, t in generator_to_rosinality(other.state_dict()).items()},
        d=discriminator_to_rosinality(D.state_dict()),
        g_optim={"state": {}, "param_groups": [{"lr": 0.002}]},
        args=argparse.Namespace(size=16, path="faces.lmdb"),
        iter=1200,
    )
    found = stylegan.load_snapshot(tmp_path / "r.pt")
    assert found.D is not None
    assert _same(D, found.D)
    assert torch.equal(found.G_ema.synthesis.b4.const, G.synthesis.b4.const)
    assert found.G is not None
    assert not found.G.synthesis.b4.const.any()
    facts = stylegan.describe(tmp_path / "r.pt")
    assert (facts["has_g"], facts["has_d"], facts["has_w_avg"]) == (True, True, False)
    assert facts["iter"] == "1200"


def test_missing_average_is_the_mean_of_a_fixed_stream(tmp_path):
    G = write_rosinality(tmp_path / "r.pt")
    found = stylegan.load_generator(tmp_path / "r.pt")
    again = stylegan.load_generator(tmp_path / "r.pt")
    assert torch.equal(found.mapping.w_avg, again.mapping.w_avg)
    z = torch.randn(20_000, G.z_dim, generator=torch.Generator().manual_seed(1))
    w = G.mapping(z)[:, 0]
    error = (found.mapping.w_avg - w.mean(dim=0)).abs() / w.std(dim=0)
    assert error.max() < 0.06  # five deviations of a mean of 10,000


def test_average_of_a_conditional_generator_covers_its_classes():
    G = tiny_generator(c_dim=3)
    c = torch.eye(3).repeat(4000, 1)
    z = torch.randn(12_000, G.z_dim, generator=torch.Generator().manual_seed(1))
    w = G.mapping(z, c)[:, 0]
    assert ((estimate_w_avg(G) - w.mean(dim=0)).abs() / w.std(dim=0)).max() < 0.06


@pytest.mark.parametrize("prefix", ["", "module."])
def test_bare_rosinality_state_dict(tmp_path, prefix):
    G = tiny_generator()
    state = {prefix + k: t for k, t in generator_to_rosinality(G.state_dict()).items()}
    torch.save(state, tmp_path / "bare.pt", _use_new_zipfile_serialization=False)
    found = stylegan.load_generator(tmp_path / "bare.pt")
    found.mapping.w_avg.copy_(G.mapping.w_avg)
    assert _same(G, found)


def test_rosinality_file_without_stored_noise_gets_fixed_noise(tmp_path):
    state = generator_to_rosinality(tiny_generator().state_dict())
    old = {k: t for k, t in state.items() if not k.startswith("noises.")}
    torch.save({"g_ema": old}, tmp_path / "old.pt")
    one, two = (stylegan.load_generator(tmp_path / "old.pt") for _ in range(2))
    assert torch.equal(one.synthesis.b16.conv1.noise_const, two.synthesis.b16.conv1.noise_const)
    assert 0.5 < one.synthesis.b16.conv1.noise_const.std() < 1.5


@pytest.mark.parametrize("rows", [1, 6])
def test_psp_decoder(tmp_path, rows):
    G = tiny_generator()
    decoder = generator_to_rosinality(G.state_dict())
    content = {
        "state_dict": {
            "encoder.input_layer.0.weight": torch.ones(64, 19, 3, 3),
            **{f"decoder.{k}": t for k, t in decoder.items()},
        },
        "opts": {"label_nc": 19, "device": "cuda:0"},
        "latent_avg": G.mapping.w_avg.repeat(rows, 1),
    }
    torch.save(content, tmp_path / "psp.pt")
    assert _same(G, stylegan.load_generator(tmp_path / "psp.pt"))
    assert stylegan.describe(tmp_path / "psp.pt")["format"] == "pSp decoder"


def _nvidia_parts(**changes):
    G, D = tiny_generator(**changes), tiny_discriminator(mbstd_group_size=2, conv_clamp=256)
    other = tiny_generator(**changes)
    other.synthesis.b4.const.zero_()
    return G, D, other


@pytest.mark.parametrize("shape", ["dict", "tuple", "alone"])
@pytest.mark.parametrize("protocol", [3, 4])
def test_nvidia_pickle_in_all_its_forms(tmp_path, shape, protocol):
    G, D, other = _nvidia_parts(conv_clamp=256)
    ema, plain, judge = persistent(G), persistent(other), persistent(D)
    judge.meta["state"]["_modules"]["b4"].meta["state"]["_modules"]["mbstd"] = persistent(
        torch.nn.Identity(), group_size=2
    )
    content = {
        "dict": {"G": plain, "D": judge, "G_ema": ema, "augment_pipe": None, "cur_nimg": 5000},
        "tuple": (plain, judge, ema),
        "alone": ema,
    }[shape]
    found = stylegan.load_snapshot(dump_to(tmp_path / "n.pkl", content, protocol))
    assert _same(G, found.G_ema)
    if shape == "alone":
        assert found.G is None
        assert found.D is None
    else:
        assert found.G is not None
        assert found.D is not None
        assert _same(other, found.G)
        assert _same(D, found.D)


def test_nvidia_pickle_with_one_generator_only(tmp_path):
    G, D, _ = _nvidia_parts()
    path = dump_to(tmp_path / "n.pkl", {"G": persistent(G), "D": None, "G_ema": None})
    assert _same(G, stylegan.load_generator(path))
    path = dump_to(tmp_path / "d.pkl", {"G": None, "D": persistent(D), "G_ema": None})
    with pytest.raises(CheckpointError, match=r"d\.pkl: holds a discriminator but no generator"):
        stylegan.load_generator(path)


def test_mapping_of_another_learning_rate_maps_alike(tmp_path):
    G = tiny_generator()
    net = persistent(G)
    mapping = net.meta["state"]["_modules"]["mapping"].meta["state"]
    for i in range(3):  # as lr_multiplier 0.04 stores them
        layer = mapping["_modules"][f"fc{i}"].meta["state"]
        layer["bias_gain"] = 0.04
        layer["_parameters"] = {k: p / 4 for k, p in layer["_parameters"].items()}
    found = stylegan.load_generator(dump_to(tmp_path / "n.pkl", net))
    z = torch.linspace(-2, 2, 28).reshape(4, 7)
    torch.testing.assert_close(found.mapping(z), G.mapping(z))


def test_layers_without_noise_load_as_silent(tmp_path):
    net = persistent(tiny_generator())
    layer = net.meta["state"]["_modules"]["synthesis"].meta["state"]["_modules"]["b8"]
    conv = layer.meta["state"]["_modules"]["conv1"].meta["state"]
    conv["_parameters"] = {k: p for k, p in conv["_parameters"].items() if k != "noise_strength"}
    conv["_buffers"] = {k: p for k, p in conv["_buffers"].items() if k != "noise_const"}
    found = stylegan.load_generator(dump_to(tmp_path / "n.pkl", net))
    assert found.synthesis.b8.conv1.noise_strength == 0
    assert found.synthesis.b8.conv0.noise_strength != 0


def test_unknown_activation_is_refused(tmp_path):
    net = persistent(tiny_generator())
    net.meta["state"]["_modules"]["mapping"].meta["state"]["activation"] = "swish"
    with pytest.raises(CheckpointError, match=r"'mapping' uses the activation 'swish'"):
        stylegan.load_generator(dump_to(tmp_path / "n.pkl", net))


def test_stylegan3_pickle_without_its_layers_is_named(tmp_path):
    G = tiny_generator()
    G.synthesis.input = torch.nn.Module()
    G.synthesis.input.register_buffer("freqs", torch.ones(4, 2))
    with pytest.raises(CheckpointError, match=r"sg3\.pkl: looks like a StyleGAN3, but"):
        stylegan.load_generator(dump_to(tmp_path / "sg3.pkl", {"G_ema": persistent(G)}))


def test_describe_states_the_sizes():
    facts = stylegan.describe(PICKLE)
    expected = {
        "format": "NVIDIA pickle",
        "architecture": "skip",
        "img_resolution": 32,
        "z_dim": 16,
        "w_dim": 24,
        "c_dim": 3,
        "num_ws": 8,
        "mapping_layers": 2,
        "conv_clamp": 256,
        "dtype": "float32",
        "has_w_avg": True,
        "has_g": True,
        "has_d": True,
    }
    assert {k: facts[k] for k in expected} == expected
    assert facts["channels"] == dict.fromkeys(("4", "8", "16", "32"), 16)
    built = stylegan.load_generator(PICKLE)
    assert facts["parameters"] == sum(p.numel() for p in built.parameters())
    json.dumps(facts)


def test_notes_travel_through_save_convert_and_describe(tmp_path):
    one, two = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    stylegan.save_generator(tiny_generator(), one, notes={"kimg": "250"})
    stylegan.convert(one, two, half=True)
    assert stylegan.describe(two)["kimg"] == "250"
    assert stylegan.describe(two)["dtype"] == "float16"


def test_nvidia_state_round_trips_bit_for_bit(tmp_path):
    G = tiny_generator(c_dim=2, architecture="resnet")
    stylegan.save_generator(G, tmp_path / "g.safetensors")
    stylegan.convert(tmp_path / "g.safetensors", tmp_path / "g.pt", to="nvidia-state")
    state = torch.load(tmp_path / "g.pt", weights_only=True)
    assert list(state) == list(G.state_dict())
    assert _same(G, stylegan.load_generator(tmp_path / "g.pt"))
    stylegan.convert(tmp_path / "g.pt", tmp_path / "h.safetensors")
    assert _same(G, stylegan.load_generator(tmp_path / "h.safetensors"))


def test_pickle_to_rosinality_keeps_what_its_layout_can_hold(tmp_path, caplog):
    G, D, _ = _nvidia_parts(conv_clamp=256)
    cond = tiny_discriminator(c_dim=2)
    path = dump_to(tmp_path / "n.pkl", {"G_ema": persistent(G), "G": None, "D": persistent(D)})
    stylegan.convert(path, tmp_path / "r.pt", to="rosinality")
    found = stylegan.load_snapshot(tmp_path / "r.pt")
    assert all(map(torch.equal, found.G_ema.state_dict().values(), G.state_dict().values()))
    assert found.D is not None
    assert all(map(torch.equal, found.D.state_dict().values(), D.state_dict().values()))
    assert "clamp of activations at 256" in caplog.text
    path = dump_to(tmp_path / "c.pkl", {"G_ema": persistent(G), "D": persistent(cond)})
    with caplog.at_level(logging.WARNING):
        stylegan.convert(path, tmp_path / "c.pt", to="rosinality")
    assert "the discriminator is left out" in caplog.text
    assert stylegan.load_snapshot(tmp_path / "c.pt").D is None


@pytest.mark.parametrize(
    ("changes", "kind"),
    [({"c_dim": 2}, "conditional"), ({"architecture": "resnet"}, "resnet or orig")],
)
def test_what_rosinality_cannot_hold_is_said(tmp_path, changes, kind):
    stylegan.save_generator(tiny_generator(**changes), tmp_path / "g.safetensors")
    with pytest.raises(CheckpointError, match=f"a {kind} generator has no rosinality form"):
        stylegan.convert(tmp_path / "g.safetensors", tmp_path / "r.pt", to="rosinality")
    assert not (tmp_path / "r.pt").exists()


def test_unknown_target(tmp_path):
    with pytest.raises(ConfigError, match="unknown target 'onnx'; choose from safetensors"):
        stylegan.convert(PICKLE, tmp_path / "g.onnx", to="onnx")


def test_safetensors_without_header_is_inferred(tmp_path):
    G = tiny_generator()
    files.write_tensors(tmp_path / "g.safetensors", G.state_dict(), {})
    assert _same(G, stylegan.load_generator(tmp_path / "g.safetensors"))
    assert isinstance(G, Generator)
    assert list(G.config.channels.items()) == list(WIDTHS.items())
