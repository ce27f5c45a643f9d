import pytest
import torch

from fewshot_smis.baselines.fit import Examples, read_examples, train_baseline
from fewshot_smis.baselines.methods import (
    FAMILIES,
    NAMES,
    Recipe,
    build,
    fitting,
    load_method,
    save_method,
)
from fewshot_smis.data import Classes
from fewshot_smis.data.pairs import Pair, Pairs
from fewshot_smis.perceptual import NoDistance
from stylegan.errors import CheckpointError, ConfigError, DivergenceError
from stylegan.files import write_tensors
from stylegan.seeding import stream

SIZE = (16, 24)
CLASSES = 3
EMA = Recipe(1e-3, 4e-3, (0.0, 0.99), 0.5, 0.9)
PLAIN = EMA._replace(ema=None)
ADAPTED = ("pix2pix", "spade", "oasis")


def examples(count=3):
    gen = stream(0, "examples")
    label = torch.randint(CLASSES, (count, *SIZE), generator=gen)
    img = (label[:, None] * torch.tensor([60, 90, 120])[:, None, None]).to(torch.uint8)
    return Examples(img, label, CLASSES)


def tiny(name, **options):
    fit = fitting(name, CLASSES, SIZE)
    return build(name, {**fit, "width": 2, "discriminator_width": 2, **options})


def train(method, **options):
    return train_baseline(method, examples(), **{"steps": 3, "recipe": EMA, "batch": 2, **options})


@pytest.mark.parametrize("name", ADAPTED)
def test_a_resumed_training_goes_on_as_if_never_stopped(name):
    whole = [(r.losses, r.lr) for r in train(tiny(name))]
    for report in train(tiny(name)):
        if report.step == 2:
            state = report.state()
            break
    other = tiny(name)
    last = None
    rest = []
    for last in train(other, resume=state):
        rest.append((last.losses, last.lr))
    assert rest == whole[2:]
    assert last.step == 3


@pytest.mark.parametrize("name", ADAPTED)
def test_each_loss_moves_its_own_side(name):
    method = tiny(name)
    before = {key: value.clone() for key, value in method.networks.named_parameters()}
    for _ in train(method, steps=1, recipe=PLAIN._replace(lr=0.0)):
        pass
    moved = {
        key.split(".")[0]
        for key, value in method.networks.named_parameters()
        if not torch.equal(value, before[key])
    }
    assert moved == {"discriminator"}
    assert all(p.requires_grad for p in method.networks.parameters())


def test_training_learns_the_examples_without_a_discriminator_too():
    recipe = Recipe(1e-2, 1e-2, (0.5, 0.99), 0.0, None)
    method = tiny("pix2pix", gan_weight=0.0, width=4)
    losses = [r.losses for r in train(method, recipe=recipe, steps=25, batch=3)]
    assert set(losses[0]) == {"generator/l1"}
    assert losses[-1]["generator/l1"] < 0.6 * losses[0]["generator/l1"]


def test_learning_rates_fall_at_the_end():
    rates = [r.lr for r in train(tiny("spade"), steps=8, recipe=PLAIN)]
    assert rates == pytest.approx([1e-3 * k for k in (1, 1, 1, 1, 1, 0.75, 0.5, 0.25)])
    steady = [r.lr for r in train(tiny("spade"), steps=2, recipe=PLAIN._replace(decay=0.0))]
    assert steady == [1e-3, 1e-3]


def test_the_average_follows_slowly():
    method = tiny("oasis")
    name = "generator.conv_img.weight"
    want = method.networks.state_dict()[name].clone()
    for report in train(method, steps=3):
        decay = min(0.9, (1 + report.step) / (10 + report.step))
        want = decay * want + (1 - decay) * method.networks.state_dict()[name]
        averaged = report.method.networks.state_dict()
        torch.testing.assert_close(averaged[name], want)
        assert not any(key.startswith("discriminator") for key in averaged)
    assert next(iter(train(tiny("oasis"), recipe=PLAIN))).method.networks.training


def test_batches_pair_maps_with_their_pictures():
    seen = examples()
    for flip in (False, True):
        onehot, img = seen.draw(20, stream(0, "draw"), flip=flip)
        label = onehot.argmax(dim=1)
        torch.testing.assert_close(img[:, 0], label * 60 / 127.5 - 1)
    straight, mirrored = (seen.draw(20, stream(0, "draw"), flip=f)[1] for f in (False, True))
    same = [torch.equal(a, b) for a, b in zip(straight, mirrored, strict=True)]
    assert 0 < sum(same) < 20


def test_examples_are_brought_to_size():
    label = torch.arange(CLASSES).repeat_interleave(16)[None].expand(32, -1)
    pair = Pair("a", torch.linspace(-1, 1, 48).expand(3, 32, 48), label)
    got = read_examples(Pairs((pair,), Classes.generic(CLASSES)), SIZE)
    assert got.img.shape == (1, 3, *SIZE)
    assert got.img.dtype == torch.uint8
    assert (got.img[0, 0, 0].diff() > 0).all()
    assert got.label[0, 0].tolist() == [0] * 8 + [1] * 8 + [2] * 8


def test_stored_methods_draw_the_same(tmp_path):
    for name in ADAPTED:
        *_, last = train(tiny(name), steps=2)
        save_method(last.method, SIZE, tmp_path / name)
        method, size = load_method(tmp_path / name)
        onehot, _ = examples().draw(2, stream(0, "draw"))
        assert size == SIZE
        assert torch.equal(
            method.draw(onehot, stream(0, "z")), last.method.draw(onehot, stream(0, "z"))
        )


@pytest.mark.parametrize("size", [(256, 256), (64, 64), (32, 48), (16, 24)])
@pytest.mark.parametrize("name", ADAPTED)
def test_every_method_fits_sizes(name, size):
    method = build(name, {**fitting(name, 2, size), "width": 1})
    onehot = torch.zeros(1, 2, *size)
    onehot[:, 1] = 1
    method.networks.eval()
    assert method.draw(onehot, stream(0, "z")).shape == (1, 3, *size)


def test_names_and_families_agree():
    assert set(ADAPTED) <= set(NAMES) == set(FAMILIES)


def test_a_loss_that_is_not_finite_stops():
    method = tiny("spade")
    method.networks["generator"].get_submodule("conv_img").bias.data.fill_(float("nan"))
    with pytest.raises(DivergenceError, match="generator/gan is nan at step 1"):
        next(iter(train(method)))


def wrong_file(path):
    write_tensors(path, {"a": torch.zeros(1)}, {"kind": "encoder"})
    return path


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda _: build("gan", {}), ConfigError, "choose one of pix2pix"),
        (lambda _: tiny("oasis", depth=3), ConfigError, "oasis has no option 'depth'; it has"),
        (
            lambda _: build("pix2pix", {"num_classes": 2}, perceptual=NoDistance()),
            ConfigError,
            "no perceptual",
        ),
        (lambda _: next(iter(train(tiny("spade"), batch=0))), ConfigError, "at least 1"),
        (lambda _: next(iter(train(tiny("spade"), resume={}))), CheckpointError, "does not fit"),
        (
            lambda tmp: load_method(wrong_file(tmp / "a.safetensors")),
            CheckpointError,
            "no baseline",
        ),
    ],
)
def test_mistakes_are_named(make, error, message, tmp_path):
    with pytest.raises(error, match=message):
        make(tmp_path)
