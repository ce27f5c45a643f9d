"""Discriminator augmentation: exact single transforms, the paper's distributions, gradients."""

import math

import numpy as np
import pytest
import torch

from stylegan.augment import (
    COLOR,
    PRESETS,
    AdaptiveStrength,
    Augment,
    Draw,
    add_noise,
    amplify,
    band_gains,
    brightness,
    compose,
    contrast,
    cut_out,
    filter_bank,
    fractional_shift,
    hue,
    integer_shift,
    isotropic_scale,
    luma_flip,
    quarter_turn,
    recolor,
    saturation,
    stretch,
    turn,
    x_flip,
)
from stylegan.errors import ConfigError, ShapeError
from stylegan.seeding import stream

MANY = 20_000
LN2 = math.log(2)


def draw(num: int = MANY, p: float = 1.0, height: int = 48, width: int = 80) -> Draw:
    return Draw(num, height, width, p, stream(0, "test"))


def augment(transforms: str, p: float) -> Augment:
    module = Augment(transforms)
    module.p = p
    return module


def share(chosen: torch.Tensor) -> float:
    return float(chosen.float().mean())


@pytest.mark.parametrize("transforms", PRESETS)
def test_nothing_changes_at_strength_zero(transforms: str) -> None:
    x = torch.randn(3, 3, 8, 12)
    gen = stream(0, "test")
    before = gen.get_state()
    assert torch.equal(augment(transforms, 0.0)(x, gen), x)
    assert torch.equal(gen.get_state(), before)


@pytest.mark.parametrize("transforms", PRESETS)
@pytest.mark.parametrize("shape", [(6, 3, 16, 24), (6, 1, 12, 8)])
def test_every_set_changes_pictures_and_keeps_their_shape(
    transforms: str, shape: tuple[int, ...]
) -> None:
    x = torch.rand(shape) * 2 - 1
    got = augment(transforms, 1.0)(x, stream(0, "test"))
    assert got.shape == x.shape
    assert got.isfinite().all()
    assert (got != x).flatten(1).any(dim=1).sum() >= 5  # a flip by chance not made leaves one
    assert torch.equal(got, augment(transforms, 1.0)(x, stream(0, "test")))
    assert not torch.equal(got, augment(transforms, 1.0)(x, stream(1, "test")))


@pytest.mark.parametrize("shape", [(40, 2, 9, 9), (40, 2, 8, 14)])
def test_blitting_invents_no_colour(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    got = augment("blit", 1.0)(x, stream(0, "test"))
    for before, after in zip(x, got, strict=True):
        assert torch.isin(after, before).all()


def test_strength_is_the_share_of_pictures_a_transform_touches() -> None:
    x = torch.rand(2000, 1, 4, 6)
    got = augment("cutout", 0.3)(x, stream(0, "test"))
    assert share((got != x).flatten(1).any(dim=1)) == pytest.approx(0.3, abs=0.04)
    matrices = compose((isotropic_scale,), draw(p=0.3), 3)
    assert share(matrices[:, 0, 0] != 1) == pytest.approx(0.3, abs=0.02)


def test_bfloat16_pictures_under_autocast_are_changed_in_float32() -> None:
    x = (torch.rand(4, 3, 16, 16) * 2 - 1).bfloat16()
    plain = augment("bgcf", 1.0)(x.float(), stream(0, "test"))
    with torch.autocast("cpu", torch.bfloat16):
        cast = augment("bgcf", 1.0)(x, stream(0, "test"))
    assert cast.dtype == torch.bfloat16
    assert torch.equal(cast, plain.bfloat16())


# Distributions at p = 1.


def test_flips_and_quarter_turns_are_even() -> None:
    assert share(x_flip(draw())[:, 0, 0] == -1) == pytest.approx(0.5, abs=0.02)
    turns = quarter_turn(draw())
    assert set(turns.flatten().tolist()) == {-1.0, 0.0, 1.0}
    assert torch.equal(torch.linalg.det(turns), torch.ones(MANY))
    for cos, sin in ((1, 0), (0, 1), (-1, 0), (0, -1)):
        hit = (turns[:, 0, 0] == cos) & (turns[:, 1, 0] == sin)
        assert share(hit) == pytest.approx(0.25, abs=0.02)


def test_integer_shifts_reach_an_eighth_of_each_side() -> None:
    moves = integer_shift(draw())
    for axis, side in ((0, 80), (1, 48)):
        move = moves[:, axis, 2]
        assert torch.equal(move, move.round())
        assert (move.min(), move.max()) == (-side / 8, side / 8)
        assert float(move.std()) == pytest.approx(side / 4 / 12**0.5, rel=0.03)


def test_scales_are_log_normal() -> None:
    logs = isotropic_scale(draw()).diagonal(dim1=1, dim2=2).log()
    assert torch.equal(logs[:, 0], logs[:, 1])
    assert float(logs[:, 0].mean()) == pytest.approx(0, abs=0.004)
    assert float(logs[:, 0].std()) == pytest.approx(0.2 * LN2, rel=0.02)
    logs = stretch(draw()).diagonal(dim1=1, dim2=2).log()
    torch.testing.assert_close(logs[:, 0], -logs[:, 1])
    assert float(logs[:, 0].std()) == pytest.approx(0.2 * LN2, rel=0.02)


def test_turns_are_uniform_and_one_of_the_two_acts_with_p() -> None:
    turns = turn(draw())
    angles = torch.atan2(turns[:, 1, 0], turns[:, 0, 0])
    torch.testing.assert_close(turns.det(), torch.ones(MANY))
    parts = torch.histc(angles, 8, -math.pi, math.pi) / MANY
    assert (parts - 1 / 8).abs().max() < 0.01
    for p in (0.2, 0.7):
        source = draw(p=p)
        both = torch.stack([turn(source), turn(source)], dim=1)
        acted = (both[:, :, 0, 0] != 1).any(dim=1)
        assert share(acted) == pytest.approx(p, abs=0.02)


def test_fractional_shifts_are_normal_and_touch_both_axes_or_none() -> None:
    moves = fractional_shift(draw(p=0.5))[:, :2, 2]
    still = moves == 0
    assert torch.equal(still[:, 0], still[:, 1])
    assert share(still[:, 0]) == pytest.approx(0.5, abs=0.02)
    for axis, side in ((0, 80), (1, 48)):
        assert float(moves[~still[:, axis], axis].std()) == pytest.approx(side / 8, rel=0.03)


def test_brightness_and_contrast_have_their_widths() -> None:
    grey = torch.zeros(MANY, 3, 1, 1)
    light = recolor(grey, brightness(draw()))
    assert float(light[:, 0].std()) == pytest.approx(0.2, rel=0.02)
    assert torch.equal(light[:, 0], light[:, 2])
    strong = recolor(grey + 0.5, contrast(draw()))[:, 1].log() - math.log(0.5)
    assert float(strong.std()) == pytest.approx(0.5 * LN2, rel=0.02)


def test_luma_flips_keep_hue_and_negate_the_mean_of_half_the_pictures() -> None:
    color = torch.tensor([0.7, -0.2, 0.1])[None, :, None, None].expand(MANY, 3, 1, 1)
    got = recolor(color, luma_flip(draw()))
    sign = (got.mean(dim=1) / color.mean(dim=1)).flatten()
    torch.testing.assert_close(sign.abs(), torch.ones(MANY))
    assert share(sign < 0) == pytest.approx(0.5, abs=0.02)
    torch.testing.assert_close(
        got - got.mean(dim=1, keepdim=True), color - color.mean(dim=1, keepdim=True)
    )


def test_hue_turns_about_grey_uniformly() -> None:
    color = torch.tensor([0.7, -0.2, 0.1])[None, :, None, None].expand(MANY, 3, 1, 1)
    matrices = hue(draw())
    got = recolor(color, matrices)
    torch.testing.assert_close(got.mean(dim=1), color.mean(dim=1))
    torch.testing.assert_close(got.norm(dim=1), color.norm(dim=1))
    torch.testing.assert_close(matrices.det(), torch.ones(MANY))
    cos = (matrices.diagonal(dim1=1, dim2=2)[:, :3].sum(dim=1) - 1) / 2  # trace = 1 + 2 cos
    assert share(cos > 0.5**0.5) == pytest.approx(0.25, abs=0.02)  # within an eighth turn


def test_saturation_scales_the_distance_from_grey() -> None:
    color = torch.tensor([0.7, -0.2, 0.1])[None, :, None, None].expand(MANY, 3, 1, 1)
    got = recolor(color, saturation(draw()))
    torch.testing.assert_close(got.mean(dim=1), color.mean(dim=1))
    away = (got - got.mean(dim=1, keepdim=True)).norm(dim=1)
    before = (color - color.mean(dim=1, keepdim=True)).norm(dim=1)
    logs = (away / before).log()
    assert float(logs.std()) == pytest.approx(LN2, rel=0.02)
    assert float(logs.mean()) == pytest.approx(0, abs=0.02)


def test_grey_pictures_stay_the_grey_of_coloured_ones() -> None:
    grey = torch.randn(5, 1, 4, 6)
    matrices = compose(COLOR, draw(num=5), 4)
    got = recolor(grey, matrices)
    wanted = recolor(grey.expand(-1, 3, -1, -1), matrices)
    torch.testing.assert_close(got.expand(-1, 3, -1, -1), wanted)
    with pytest.raises(ShapeError, match="not 2"):
        recolor(torch.randn(5, 2, 4, 6), matrices)


def test_transforms_act_in_the_order_they_are_named() -> None:
    source, again = draw(num=7), draw(num=7)
    got = compose((brightness, contrast), source, 4)
    b, c = brightness(again), contrast(again)
    color = torch.randn(7, 4, 1)
    color[:, 3] = 1
    torch.testing.assert_close(got @ color, c @ (b @ color))


# Filters, noise, cutout.


def test_bands_part_a_picture_by_octaves() -> None:
    bank = filter_bank()
    delta = torch.zeros(bank.shape[1], dtype=torch.float64)
    delta[bank.shape[1] // 2] = 1
    torch.testing.assert_close(bank.sum(dim=0), delta)
    torch.testing.assert_close(bank, bank.flip(1))
    power = np.abs(np.fft.rfft(bank.numpy(), 512))  # [4,257], 0 to pi
    middles = [int(256 * f) for f in (1 / 16, 3 / 16, 3 / 8, 3 / 4)]
    for band, middle in enumerate(middles):
        assert power[:, middle].argmax() == band
    torch.testing.assert_close(bank.sum(dim=1), torch.tensor([1.0, 0, 0, 0]).double())


def test_gains_keep_the_expected_power_and_are_drawn_for_each_band() -> None:
    gains = band_gains(draw())
    ratios = (gains[:, 1] / gains[:, 2]).log2()  # of two independent amplifications
    assert float(ratios.std()) == pytest.approx(2**0.5, rel=0.02)
    assert float(ratios.mean()) == pytest.approx(0, abs=0.04)
    weights = torch.tensor([10.0, 1, 1, 1]) / 13
    one = band_gains(draw(p=0.02))  # where one band at most was changed, the power is exact
    changed = one[(one != 1).any(dim=1)]
    single = (changed.round(decimals=4).sort(dim=1).values.diff(dim=1) == 0).sum(dim=1) == 2
    assert single.sum() > 500
    torch.testing.assert_close(
        (changed[single].square() * weights).sum(dim=1), torch.ones(int(single.sum()))
    )


def test_amplification_equals_a_slow_sum_over_bands() -> None:
    x = torch.randn(2, 3, 10, 14)  # smaller than the filters
    gains = torch.tensor([[1.0, 1, 1, 1], [0.5, 2.0, 1.5, 3.0]])
    got = amplify(x, gains)
    assert torch.equal(got[0], x[0])
    taps = (gains[1].double() @ filter_bank()).numpy()
    pad = len(taps) // 2
    for channel in range(3):
        plane = np.pad(x[1, channel].double().numpy(), pad, "reflect")
        plane = np.stack([np.convolve(row, taps, "valid") for row in plane])
        plane = np.stack([np.convolve(col, taps, "valid") for col in plane.T]).T
        np.testing.assert_allclose(got[1, channel].numpy(), plane, rtol=0, atol=2e-5)


def test_noise_is_half_normal_in_strength_and_white() -> None:
    got = add_noise(torch.zeros(3000, 3, 6, 8), draw(num=3000, height=6, width=8))
    sigma = got.flatten(1).std(dim=1)
    assert float(sigma.square().mean().sqrt()) == pytest.approx(0.1, rel=0.04)
    assert float(sigma.mean()) == pytest.approx(0.1 * (2 / math.pi) ** 0.5, rel=0.04)
    flat = got / sigma[:, None, None, None]
    assert abs(float((flat[:, 0] * flat[:, 1]).mean())) < 0.02
    assert abs(float((flat[:, :, :, 1:] * flat[:, :, :, :-1]).mean())) < 0.02


def test_cutout_blanks_a_rectangle_of_half_the_sides() -> None:
    x = torch.ones(500, 3, 16, 24)
    got = cut_out(x, draw(num=500, height=16, width=24))
    assert set(got.flatten().tolist()) == {0.0, 1.0}
    blank = got[:, 0] == 0
    rows, columns = blank.any(dim=2), blank.any(dim=1)
    assert torch.equal(blank, rows[:, :, None] & columns[:, None, :])
    assert rows.sum(dim=1).max() == 8
    assert columns.sum(dim=1).max() == 12
    assert torch.equal(got[:, 0], got[:, 2])
    assert share(rows[:, 0]) == pytest.approx(0.25, abs=0.07)
    assert share(rows[:, 8]) == pytest.approx(0.5, abs=0.08)


# The whole pipeline.


def test_a_constant_picture_stays_constant_under_all_but_noise_and_cutout() -> None:
    x = torch.tensor([0.3, -0.6, 0.1])[None, :, None, None].expand(12, 3, 16, 20)
    moved = augment("bg", 1.0)(x, stream(0, "test"))
    torch.testing.assert_close(moved, x)
    changed = augment("bgcf", 1.0)(x, stream(0, "test"))
    torch.testing.assert_close(changed, changed[:, :, :1, :1].expand_as(changed))
    assert (changed[:, :, 0, 0] - x[:, :, 0, 0]).abs().min() > 0


@pytest.mark.parametrize("transforms", ["bg", "color", "bgcfnc"])
def test_gradients_are_right_twice(transforms: str) -> None:
    module = augment(transforms, 0.9)
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)

    def change(x: torch.Tensor) -> torch.Tensor:
        return module(x, stream(3, "test")).sin()

    assert torch.autograd.gradcheck(change, x, fast_mode=True)
    assert torch.autograd.gradgradcheck(change, x, fast_mode=True)


def test_r1_through_augmentation_reaches_the_weights() -> None:
    x = (torch.rand(4, 3, 8, 8) * 2 - 1).requires_grad_()
    weight = torch.randn(3, 3, 3, 3, requires_grad=True)
    logits = torch.conv2d(augment("bgcfnc", 1.0)(x, stream(0, "test")), weight).tanh()
    (grad,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    grad.square().sum().backward()
    assert weight.grad.abs().min() > 0


@pytest.mark.gpu
def test_a_cpu_stream_changes_pictures_on_a_gpu_alike() -> None:
    x = torch.rand(4, 3, 16, 12) * 2 - 1
    wanted = augment("bgcfnc", 1.0)(x, stream(0, "test"))
    got = augment("bgcfnc", 1.0)(x.cuda(), stream(0, "test"))
    assert got.is_cuda
    torch.testing.assert_close(got.cpu(), wanted, rtol=0, atol=1e-3)


def test_unknown_sets_are_named() -> None:
    with pytest.raises(ConfigError, match=r"'bgx'.*bgcfnc"):
        Augment("bgx")


# The controller.


def test_strength_follows_the_signs_of_the_logits_every_fourth_batch() -> None:
    control = AdaptiveStrength(target=0.6, kimg=2.0, interval=4)
    p, seen = 0.5, []
    for real in ([1.0, 2.0], [1.0, 3.0], [5.0, 1.0], [2.0, -9.0]) * 2 + ([1.0, -1.0],) * 4:
        control.observe(torch.tensor(real)[:, None])
        p = control.update(p, batch=10)
        seen.append(p)
    step = 10 * 4 / 2000
    assert seen == pytest.approx([0.5] * 3 + [0.5 + step] * 4 + [0.5 + 2 * step] * 4 + [0.5 + step])
    assert control.r_t == 0


@pytest.mark.parametrize(("logit", "wanted"), [(1.0, 1.0), (-1.0, 0.0)])
def test_strength_stays_between_zero_and_one(logit: float, wanted: float) -> None:
    control = AdaptiveStrength(kimg=0.1, interval=1)
    control.observe(torch.full((8, 1), logit))
    assert control.update(0.5, batch=64) == wanted


def test_the_controller_goes_on_exactly_from_its_state() -> None:
    gen = stream(0, "test")
    logits = torch.randn(20, 6, 1, generator=gen) + 1
    whole, first, second = (AdaptiveStrength(kimg=1.0) for _ in range(3))
    p = q = 0.3
    for i, batch in enumerate(logits):
        whole.observe(batch)
        p = whole.update(p, 6)
        if i == 10:
            second.load_state(first.state())
        part = first if i < 10 else second
        part.observe(batch)
        q = part.update(q, 6)
    assert p == q
    assert p != 0.3
