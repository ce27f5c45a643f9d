import math

import pytest
import torch
import torch.nn.functional as F

from fewshot_smis.baselines.batch import Batch
from fewshot_smis.baselines.oasis import (
    LEVELS,
    Oasis,
    OasisConfig,
    class_weights,
    drawn_loss,
    labelmix_mask,
    mix,
    noise_3d,
    segmentation_loss,
)
from fewshot_smis.perceptual import NoDistance
from stylegan.errors import ConfigError
from stylegan.seeding import stream

SIZE = (8, 12)
CONFIG = {"num_classes": 3, "size": SIZE, "width": 2, "discriminator_width": 2, "blocks": 2}


def tiny(perceptual=None, **options):
    config = OasisConfig(**{**CONFIG, "z_dim": 4, **options})
    return Oasis(config, stream(0, "weights"), perceptual)


def labels(num=2, num_classes=3, size=SIZE):
    return torch.randint(num_classes, (num, *size), generator=stream(0, "labels"))


def planes(label, num_classes=3):
    return F.one_hot(label, num_classes).movedim(-1, 1).float()


def batch():
    img = torch.randn(2, 3, *SIZE, generator=stream(0, "img")).tanh()
    return Batch(planes(labels()), img, stream(0, "noise"))


@pytest.mark.parametrize("unknown_first", [False, True])
def test_class_weights_equal_a_count(unknown_first):
    label = labels(num_classes=5)
    label[label == 3] = 4  # class 3 is absent
    got = class_weights(planes(label, 5), unknown_first=unknown_first)
    counts = [int((label == k).sum()) for k in range(5)]
    present = [k for k in range(5) if counts[k] and not (unknown_first and k == 0)]
    want = [label.numel() / (len(present) * counts[k]) if k in present else 0 for k in range(5)]
    torch.testing.assert_close(got, torch.tensor(want))


def test_segmentation_loss_equals_a_sum_over_pixels():
    label, weights = labels(), torch.tensor([0.5, 2.0, 0.0])
    logits = torch.randn(2, 4, *SIZE, generator=stream(0, "logits"))
    total = 0.0
    for n in range(2):
        for y in range(SIZE[0]):
            for x in range(SIZE[1]):
                scores = logits[n, :, y, x].exp()
                k = int(label[n, y, x])
                total -= float(weights[k]) * math.log(float(scores[k + 1] / scores.sum()))
    got = segmentation_loss(logits, planes(label), weights)
    assert float(got) == pytest.approx(total / label.numel(), rel=1e-5)
    want = F.cross_entropy(logits, torch.zeros_like(label))
    torch.testing.assert_close(drawn_loss(logits), want)


def test_pixels_without_a_class_do_not_count():
    onehot = planes(labels())
    logits = torch.randn(2, 4, *SIZE, generator=stream(0, "logits"))
    onehot[:, :, :2] = 0
    other = logits.clone()
    other[:, :, :2] += torch.randn(2, 4, 2, SIZE[1], generator=stream(1, "logits"))
    weights = class_weights(onehot)
    assert torch.equal(
        segmentation_loss(logits, onehot, weights), segmentation_loss(other, onehot, weights)
    )


def test_labelmix_masks_respect_the_borders_of_the_map():
    label = labels()
    seen = set()
    for bits in range(8):
        coins = torch.tensor([bits & 1, bits >> 1 & 1, bits >> 2 & 1])
        mask = labelmix_mask(planes(label), coins)[:, 0]
        for k in range(3):  # class 0 too, whatever the coin of class 1
            assert (mask[label == k] == coins[k]).all()
        seen.add(mask.sum().item())
    assert len(seen) > 2


def test_mixing_takes_real_pictures_under_the_mask():
    real, fake = torch.full((1, 3, 2, 2), 3.0), torch.full((1, 3, 2, 2), 5.0)
    mask = torch.tensor([[[[1.0, 0.0], [0.0, 1.0]]]])
    assert mix(mask, real, fake)[0, 0].tolist() == [[3, 5], [5, 3]]


def test_noise_lives_on_its_level():
    label = labels(num=6)
    onehot = planes(label)
    image, region, pixel, mixed = (noise_3d(onehot, 4, lv, stream(0, "noise")) for lv in LEVELS)
    assert all(z.shape == (6, 4, *SIZE) for z in (image, region, pixel, mixed))
    assert (image == image[..., :1, :1]).all()
    assert not torch.equal(image[0], image[1])
    for n in range(6):
        vectors = [region[n][:, label[n] == k] for k in range(3)]
        assert all((v == v[:, :1]).all() for v in vectors)
        assert not torch.equal(vectors[0][:, 0], vectors[1][:, 0])
    assert len(pixel.unique()) == pixel.numel()
    found = {len(z.unique()) for z in mixed}  # 4 values, 4 a class, or 4 a pixel
    assert len(found) > 1
    assert found <= {4, 12, 4 * SIZE[0] * SIZE[1]}


@pytest.mark.parametrize("noise", LEVELS)
def test_pictures_follow_the_map_and_the_noise(noise):
    method = tiny(noise=noise)
    method.networks.eval()
    onehot = planes(labels())
    img = method.draw(onehot, stream(0, "style"))
    assert img.shape == (2, 3, *SIZE)
    assert img.abs().max() <= 1
    assert torch.equal(img, method.draw(onehot, stream(0, "style")))
    assert not torch.equal(img, method.draw(onehot, stream(1, "style")))
    assert not torch.equal(img, method.draw(onehot.flip(1), stream(0, "style")))


def test_region_noise_redraws_its_region_alone():
    """The paper's local resampling: other noise on the right leaves the far left as it was."""
    method = tiny(size=(16, 128))
    net = method.networks["generator"].eval()
    onehot = planes(torch.zeros(1, 16, 128, dtype=torch.int64))
    noise = torch.randn(1, 4, 1, 1, generator=stream(0, "z")).repeat(1, 1, 16, 128)
    other = noise.clone()
    other[..., 96:] = torch.randn(1, 4, 1, 1, generator=stream(1, "z"))
    with torch.no_grad():
        change = (net(onehot, noise) - net(onehot, other)).abs().mean(dim=(0, 1, 2))
    assert change[:64].max() == 0
    assert change[96:].min() > 0


def test_losses_reach_the_networks_they_train():
    method = tiny()
    terms = method.discriminator_loss(batch())
    assert set(terms) == {"real", "fake", "labelmix"}
    torch.autograd.backward(sum(terms.values()))
    trained = {
        name: [p.grad is not None for p in n.parameters()] for name, n in method.networks.items()
    }
    assert all(trained["discriminator"])
    assert not any(trained["generator"])
    terms = method.generator_loss(batch())
    assert set(terms) == {"segmentation"}
    torch.autograd.backward(sum(terms.values()))
    assert all(p.grad is not None for p in method.networks["generator"].parameters())


def test_optional_terms():
    assert set(tiny(labelmix_weight=0).discriminator_loss(batch())) == {"real", "fake"}
    method = tiny(NoDistance(), perceptual_weight=10)
    assert set(method.generator_loss(batch())) == {"segmentation", "none"}
    plain, weighted = (tiny(labelmix_weight=w).discriminator_loss(batch()) for w in (1, 10))
    torch.testing.assert_close(10 * plain["labelmix"], weighted["labelmix"])


def test_balancing_matters_where_classes_are_rare():
    label = torch.zeros(2, *SIZE, dtype=torch.int64)
    label[0, 0, 0] = 1
    one = batch()._replace(onehot=planes(label))
    costs = []
    for method in (tiny(balanced=True), tiny(balanced=False)):
        last = method.networks["discriminator"].layer_up_last
        last.weight.data.zero_()
        last.bias.data = torch.tensor([1.0, 3.0, 1.0, 1.0]).log()  # of 6: class 0 has 3
        costs.append(method.discriminator_loss(one)["real"].item())
    common, rare = -math.log(3 / 6), -math.log(1 / 6)
    pixels = label.numel()
    assert costs[0] == pytest.approx((common + rare) / 2, rel=1e-4)
    assert costs[1] == pytest.approx(((pixels - 1) * common + rare) / pixels, rel=1e-4)


def test_configurations_are_read_back():
    config = OasisConfig(**CONFIG, noise="mixed")
    assert OasisConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tiny(noise="class"), "choose one of image, region"),
        (lambda: tiny(norm="group"), "choose one of batch, instance"),
        (lambda: tiny(blocks=7), "choose one of 2, 3"),
        (lambda: tiny(blocks=3), "multiples of 8"),
        (lambda: tiny(perceptual_weight=10), "needs a distance"),
        (lambda: tiny().generator_loss(batch()._replace(gen=None)), "give the batch"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
