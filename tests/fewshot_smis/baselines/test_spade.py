import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fewshot_smis.baselines.batch import Batch
from fewshot_smis.baselines.spade import Spade, SpadeConfig, SpadeGenerator, SpadeNorm, StyleEncoder
from fewshot_smis.baselines.spectral import SpectralConv2d, initialise
from fewshot_smis.perceptual import NoDistance
from stylegan.errors import ConfigError
from stylegan.seeding import stream

SIZE = (16, 24)


def draw(*shape, name="x"):
    return torch.randn(*shape, generator=stream(0, name))


def batch(num=2, num_classes=3, size=SIZE):
    label = torch.randint(num_classes, (num, *size), generator=stream(0, "labels"))
    onehot = F.one_hot(label, num_classes).movedim(-1, 1).float()
    return Batch(onehot, draw(num, 3, *size).tanh(), stream(0, "noise"))


def tiny(perceptual=None, seed=0, **options):
    sizes = {"num_classes": 3, "size": SIZE, "width": 2, "discriminator_width": 2, "doublings": 2}
    config = SpadeConfig(**{**sizes, "layers": 2, **options})
    return Spade(config, stream(seed, "weights"), perceptual)


def spade_norm(norm, planes=3):
    net = SpadeNorm(4, planes, norm, hidden=8)
    initialise(net, stream(0, "weights"), gain=1.0)
    return net


def constant(num_classes, ids, size):
    """Maps of one class each."""
    return torch.eye(num_classes)[ids][:, :, None, None].expand(-1, -1, *size)


def inside(x):
    """Leave out the rim, where the padding of two 3 x 3 layers makes the map look uneven."""
    return x[..., 2:-2, 2:-2]


def test_a_constant_map_makes_spade_conditional_batch_norm():
    net, ids, x = spade_norm("batch"), [2, 0, 2], draw(3, 4, 9, 7)
    got = net(x, constant(3, ids, (9, 7)))
    mean, var = x.mean(dim=(0, 2, 3)), x.var(dim=(0, 2, 3), unbiased=False)
    want = torch.empty_like(x)
    for n, k in enumerate(ids):  # one scale and shift for each class, whatever the pixel
        at_class = net.mlp_shared(constant(3, [k], (9, 9)))
        gamma, beta = (head(at_class)[0, :, 4, 4] for head in (net.mlp_gamma, net.mlp_beta))
        for c in range(4):
            normal = (x[n, c] - mean[c]) / (var[c] + 1e-5).sqrt()
            want[n, c] = normal * (1 + gamma[c]) + beta[c]
    torch.testing.assert_close(inside(got), inside(want), rtol=1e-5, atol=1e-5)


def test_a_constant_map_and_a_batch_of_one_make_spade_adain():
    net, x = spade_norm("batch"), draw(1, 4, 9, 7)
    got = net(x, constant(3, [1], (9, 7)))
    at_class = net.mlp_shared(constant(3, [1], (9, 9)))
    std, mean = (1 + net.mlp_gamma(at_class))[:, :, 4, 4], net.mlp_beta(at_class)[:, :, 4, 4]
    own = (x - x.mean(dim=(2, 3), keepdim=True)) / x.std(dim=(2, 3), unbiased=False, keepdim=True)
    want = own * std[:, :, None, None] + mean[:, :, None, None]
    torch.testing.assert_close(inside(got), inside(want), rtol=1e-4, atol=1e-4)


def test_instance_norm_washes_out_a_uniform_map_where_spade_keeps_it():
    conv = nn.Conv2d(3, 4, 1)
    washed = [nn.InstanceNorm2d(4)(conv(constant(3, [k], (9, 7)))) for k in range(3)]
    assert all(out.abs().max() < 1e-3 for out in washed)  # zero, whatever the label
    net, x = spade_norm("instance"), draw(1, 4, 9, 7)
    kept = [net(x, constant(3, [k], (9, 7))) for k in range(3)]
    assert min((kept[a] - kept[b]).abs().mean() for a, b in ((0, 1), (0, 2), (1, 2))) > 0.1


def test_spectral_convolution_has_slope_one():
    conv = SpectralConv2d(3, 5, 3, padding=1)
    initialise(conv, stream(0, "weights"))
    for _ in range(50):
        conv(draw(1, 3, 4, 6))
    kernel = conv.weight_orig.detach()
    largest = torch.linalg.svdvals(kernel.flatten(1))[0]
    conv.eval()
    x = draw(2, 3, 6, 5)
    want = F.conv2d(x, kernel / largest, conv.bias, padding=1)
    torch.testing.assert_close(conv(x), want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("gain", "low", "high"), [(1.0, 0.99, 1.1), (None, 1.5, 3.0)])
def test_first_steps_turn_large_kernels_no_faster_than_the_singular_vectors_follow(gain, low, high):
    conv = SpectralConv2d(16, 16, 3, padding=1)
    initialise(conv, stream(0, "weights"), spectral=gain)
    optimizer = torch.optim.Adam(conv.parameters(), lr=4e-4, betas=(0.0, 0.999))
    x, wanted = draw(2, 16, 8, 8), draw(2, 16, 8, 8, name="wanted")
    slopes = []
    for _ in range(20):
        optimizer.zero_grad()
        (conv(x) * wanted).mean().backward()
        optimizer.step()
        conv.iterate()
        kernel = conv.weight_orig.detach().flatten(1)
        known = conv.weight_u @ kernel @ conv.weight_v
        slopes.append(float(torch.linalg.svdvals(kernel)[0] / known))
    assert low < max(slopes) < high


def test_spectral_vectors_move_in_training_alone():
    conv = SpectralConv2d(3, 5, 3)
    initialise(conv, stream(0, "weights"))
    before = conv.weight_u.clone()
    conv.eval()(draw(1, 3, 4, 6))
    assert torch.equal(conv.weight_u, before)
    conv.train()(draw(1, 3, 4, 6))
    assert not torch.equal(conv.weight_u, before)


@pytest.mark.parametrize(("doublings", "start"), [(0, (16, 24)), (2, (4, 6)), (3, (2, 3))])
def test_generator_starts_where_its_doublings_say(doublings, start):
    net = SpadeGenerator(3, SIZE, width=1, doublings=doublings)
    assert net.start == start
    assert net(batch().onehot).shape == (2, 3, *SIZE)


@pytest.mark.parametrize("doublings", [5, 6, 7])
def test_generator_doubles_as_often_as_the_paper(doublings):
    net = SpadeGenerator(2, (128, 256), width=2, doublings=doublings)
    onehot = constant(2, [1], (128, 256))
    assert net(onehot).shape == (1, 3, 128, 256)


@pytest.mark.parametrize("z_dim", [0, 5])
def test_losses_reach_the_networks_they_train(z_dim):
    method = tiny(z_dim=z_dim)
    for loss, trained in (("generator", {"generator", "encoder"}), ("discriminator",) * 2):
        method.networks.zero_grad()
        terms = getattr(method, f"{loss}_loss")(batch())
        torch.autograd.backward(sum(terms.values()))
        for name, network in method.networks.items():
            if name in trained:
                assert all(p.grad is not None for p in network.parameters()), name
            elif loss == "discriminator":
                assert all(p.grad is None for p in network.parameters()), name


def test_terms_are_named_and_weighted():
    assert set(tiny().discriminator_loss(batch())) == {"real", "fake"}
    method = tiny(NoDistance(), z_dim=4)
    assert set(method.generator_loss(batch())) == {"gan", "features", "kl", "none"}
    once, twice = (
        tiny(feature_weight=weight).generator_loss(batch())["features"] for weight in (1, 2)
    )
    torch.testing.assert_close(2 * once, twice)


def test_pictures_follow_the_map_and_the_style():
    method = tiny(z_dim=4)
    method.networks.eval()
    one = batch()
    img = method.draw(one.onehot, stream(0, "style"))
    assert img.shape == (2, 3, *SIZE)
    assert img.abs().max() <= 1
    assert torch.equal(img, method.draw(one.onehot, stream(0, "style")))
    assert not torch.equal(img, method.draw(one.onehot, stream(1, "style")))
    assert not torch.equal(img, method.draw(one.onehot.flip(1), stream(0, "style")))


def test_the_seed_gives_the_weights():
    one, same, other = (tiny(seed=seed).networks.state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    name = "generator.up_0.conv_0.weight_orig"
    assert not torch.equal(one[name], other[name])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tiny(norm="group"), "choose one of batch, instance"),
        (lambda: tiny(size=(20, 16), doublings=3), "multiples of 8"),
        (lambda: tiny(doublings=8), "choose one of 0, 1"),
        (lambda: tiny(width=0), "width is 0"),
        (lambda: StyleEncoder(input_size=20), "style encoder of 20 px"),
        (lambda: SpadeGenerator(3, SIZE, width=1, z_dim=2, doublings=2)(batch().onehot), "give z"),
        (lambda: tiny(z_dim=2).generator_loss(batch()._replace(gen=None)), "give the batch"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
