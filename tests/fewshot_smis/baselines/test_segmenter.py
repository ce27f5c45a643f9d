import pytest
import torch

from fewshot_smis.baselines.batch import Batch
from fewshot_smis.baselines.fit import Examples, train_baseline
from fewshot_smis.baselines.methods import FAMILIES
from fewshot_smis.baselines.segmenter import Segmenter, SegmenterConfig
from fewshot_smis.data import IGNORE, one_hot
from stylegan.errors import ConfigError, ShapeError
from stylegan.seeding import stream
from tests.fewshot_smis.baselines.test_fit import examples


def tiny(**options):
    return Segmenter(
        SegmenterConfig(**{"num_classes": 3, "levels": 3, "width": 4, **options}), stream(0, "x")
    )


def blocks(data):
    """Return the upper left corners of the examples, every pixel enlarged to a block of four."""
    img, label = data.img[:, :, :4, :6], data.label[:, :4, :6]
    larger = [x.repeat_interleave(4, dim=-1).repeat_interleave(4, dim=-2) for x in (img, label)]
    return Examples(*larger, data.num_classes)


@pytest.mark.parametrize("balance", [0, 0.5])
def test_the_loss_is_the_weighted_cross_entropy_of_known_pixels(balance):
    method = tiny(norm="instance", balance=balance)
    gen = stream(0, "batch")
    img = torch.rand(2, 3, 16, 24, generator=gen) * 2 - 1
    label = torch.randint(2, (2, 16, 24), generator=gen)  # class 2 is absent
    label[:, :5] = IGNORE
    terms = method.generator_loss(Batch(one_hot(label, 3), img))
    logits = method.networks["generator"](img)
    counts = torch.tensor([(label == k).sum() for k in range(2)])
    weight = torch.tensor([*(counts / counts.sum()) ** -balance, 0.0])
    wanted = torch.nn.functional.cross_entropy(logits, label, weight, ignore_index=IGNORE)
    torch.testing.assert_close(terms, {"cross_entropy": wanted})
    assert method.discriminator_loss(Batch(one_hot(label, 3), img)) == {}


def test_it_learns_to_tell_colours_apart():
    method, data = tiny(width=16), blocks(examples(8))
    losses = [
        r.losses["generator/cross_entropy"]
        for r in train_baseline(
            method, data, steps=80, recipe=FAMILIES["segmenter"].recipe, batch=8
        )
    ]
    assert losses[-1] < losses[0] / 4
    method.networks.eval()
    right = method.segment(data.img.float() / 127.5 - 1) == data.label
    assert right.float().mean() > 0.9


def test_bad_input_is_refused():
    with pytest.raises(ConfigError, match="num_classes is 0"):
        tiny(num_classes=0)
    with pytest.raises(ConfigError, match="balance is -1"):
        tiny(balance=-1)
    with pytest.raises(ShapeError, match="10 x 16 do not fit"):
        tiny().segment(torch.zeros(1, 3, 10, 16))
