"""Loss terms against slow formulas."""

import pytest
import torch

from fewshot_smis.losses import cosine_distance, l2, latent_mse
from stylegan.errors import ShapeError


def test_l2_is_a_mean_for_each_sample():
    a, b = torch.randn(3, 3, 5, 4), torch.randn(3, 3, 5, 4)
    want = torch.tensor([((x - y) ** 2).sum() / 60 for x, y in zip(a, b, strict=True)])
    torch.testing.assert_close(l2(a, b), want)


def test_latent_mse_is_one_number():
    a, b = torch.randn(2, 4, 6), torch.randn(2, 4, 6)
    torch.testing.assert_close(latent_mse(a, b), ((a - b) ** 2).sum() / 48)


def test_cosine_distance_of_each_pixel():
    a, b = torch.randn(2, 5, 3, 4), torch.randn(2, 5, 3, 4)
    distance = cosine_distance(a, b)
    assert distance.shape == (2, 3, 4)
    x, y = a[1, :, 2, 3], b[1, :, 2, 3]
    torch.testing.assert_close(distance[1, 2, 3], 1 - x @ y / (x.norm() * y.norm()))
    torch.testing.assert_close(cosine_distance(a, -2 * a), torch.full((2, 3, 4), 2.0))


@pytest.mark.parametrize("loss", [l2, latent_mse, cosine_distance])
def test_shapes_never_broadcast(loss):
    with pytest.raises(ShapeError, match=r"shapes \[2, 4, 6\] and \[1, 4, 6\] differ"):
        loss(torch.zeros(2, 4, 6), torch.zeros(1, 4, 6))


@pytest.mark.parametrize("loss", [l2, latent_mse, cosine_distance])
def test_gradients(loss):
    a = torch.randn(2, 3, 2, dtype=torch.float64, requires_grad=True)
    b = torch.randn(2, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(loss, (a, b))
