"""The kernels of the CPU under random shapes, layouts and filters; threads, tracing, memory."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from stylegan.errors import ShapeError
from stylegan.ops import (
    bias_act,
    build,
    filtered_lrelu,
    gather_tiles,
    setup_filter,
    spread_tiles,
    upfirdn2d,
)
from tests.fewshot_smis.tiny import tiny_prior

ROOT = Path(__file__).parents[2]
DTYPES = (torch.float64, torch.float32)


@pytest.fixture(autouse=True)
def needs_kernels():
    if not build.backend().native:
        pytest.skip(build.backend().reason)


random_cases = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture
def plain(monkeypatch):
    """Return a function that computes with the plain operators."""

    def compute(function, *args):
        with monkeypatch.context() as patch:
            for name in ("bias_act", "upfirdn2d", "filtered_lrelu", "tiles"):
                module = sys.modules[f"stylegan.ops.{name}"]
                patch.setattr(module, "uses_native", lambda x: False)
            return function(*args)

    return compute


@st.composite
def pictures(draw: st.DrawFn, *, empty: bool = True) -> Tensor:
    """Pictures of odd sizes in every kind of memory."""
    n = draw(st.integers(0 if empty else 1, 3))
    c = draw(st.sampled_from([1, 2, 3, 5, 8, 17, 37]))
    h, w = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    gen = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    dtype = draw(st.sampled_from(DTYPES))
    kind = draw(st.sampled_from(["dense", "last", "strided", "expanded", "transposed", "sliced"]))
    if kind == "expanded":
        return torch.randn(1, c, 1, w, generator=gen, dtype=dtype).expand(n, c, h, w)
    if kind == "strided":  # very large strides
        return torch.randn(n, c, h * 7, w * 5, generator=gen, dtype=dtype)[:, :, 3::7, 2::5]
    if kind == "transposed":
        return torch.randn(n, c, w, h, generator=gen, dtype=dtype).transpose(2, 3)
    if kind == "sliced":  # channels_last in a wider buffer
        return torch.randn(n, h, w, c + 3, generator=gen, dtype=dtype)[..., 2 : c + 2].movedim(3, 1)
    x = torch.randn(n, c, h, w, generator=gen, dtype=dtype)
    return x.contiguous(memory_format=torch.channels_last) if kind == "last" else x


@st.composite
def filters(draw: st.DrawFn) -> Tensor | None:
    """Filters with zeros, of sum zero, separable and not."""
    tap = st.sampled_from([-1.0, 0.0, 0.5, 1.0, 3.0])
    w, h = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    row = torch.tensor(draw(st.lists(tap, min_size=w, max_size=w)))
    column = torch.tensor(draw(st.lists(tap, min_size=h, max_size=h)))
    kind = draw(st.sampled_from(["none", "row", "outer", "any"]))
    if kind == "any":
        return torch.tensor(draw(st.lists(tap, min_size=w * h, max_size=w * h))).reshape(h, w)
    return {"none": None, "row": row, "outer": torch.outer(column, row)}[kind]


def outcome(function, leaves: list[Tensor]) -> list[Tensor]:
    """Return the value, and its gradients where there is a picture to differentiate."""
    leaves = [t.detach().requires_grad_() for t in leaves]
    y = function(*leaves)
    dy = torch.randn(y.shape, generator=torch.Generator().manual_seed(7), dtype=y.dtype)
    return [y, *torch.autograd.grad(y, leaves, dy)]


def can_crop(x: Tensor, up: tuple[int, int], padding: tuple[int, ...]) -> bool:
    """Tell whether negative padding takes no more than there is, as plain torch insists."""
    left, right, top, bottom = (min(p, 0) for p in padding)
    return left + right + x.shape[3] * up[0] > 0 and top + bottom + x.shape[2] * up[1] > 0


def equal(got: list[Tensor], want: list[Tensor]) -> None:
    for a, b in zip(got, want, strict=True):
        tolerance = 1e-9 if b.dtype == torch.float64 else 1e-4
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@random_cases
@given(x=pictures(), clamp=st.sampled_from([None, 0.5]), slope=st.sampled_from([0.2, 0.0, 1.0]))
def test_bias_act_equals_the_plain_one(plain, x, clamp, slope):
    n, c, h, w = x.shape
    shapes = ((c,), (n, c), (n, 1, h, w))
    ramps = [torch.linspace(-1, 1, math.prod(s)).to(x).reshape(s) for s in shapes]
    leaves = [x, *ramps]

    def run(x, b, scale, noise, overwrite=False):
        options = {"clamp": clamp, "scale": scale, "noise": noise, "overwrite": overwrite}
        return bias_act(x, b, act="lrelu", alpha=slope, **options)

    want = plain(outcome, run, leaves)
    equal(outcome(run, leaves), want)
    equal([run(x.clone(), *ramps, overwrite=True)], [want[0].detach()])


@random_cases
@given(
    n=st.integers(0, 2), c=st.sampled_from([1, 5, 29, 84]), height=st.integers(1, 4),
    width=st.integers(1, 3), size=st.sampled_from([4, 6]), cut=st.tuples(*[st.integers(0, 3)] * 2),
)  # fmt: skip
def test_a_row_of_tiles_equals_the_plain_one(plain, n, c, height, width, size, cut):
    first = min(cut[0], height - 1)
    rows = min(cut[1] + 1, height - first)
    gen = torch.Generator().manual_seed(c)
    x = torch.randn(n, c, 4 * height, 4 * width, generator=gen)
    v = torch.randn(36, n * rows * width, c, generator=gen)

    def run():
        y = torch.ones_like(x, memory_format=torch.channels_last)
        gather_tiles(v, y, size, first, rows)
        return spread_tiles(x, size, first, rows), y

    (values, y), want = run(), plain(run) if n else run()
    equal([values, y], list(want))
    assert torch.ops.fewshot_smis.spread_tiles(x.to("meta"), size, first, rows).shape == v.shape
    fresh = y - 1 if size == 6 else torch.where(y == 1, 0, y)  # each way is the other's transpose
    torch.testing.assert_close((values * v).sum(), (x * fresh).sum(), rtol=1e-3, atol=1)


@random_cases
@given(
    x=pictures(), f=filters(), flip=st.booleans(),
    up=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    down=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    padding=st.tuples(*[st.integers(-4, 7)] * 4),
)  # fmt: skip
def test_upfirdn2d_equals_the_plain_one(plain, x, f, up, down, padding, flip):
    assume(can_crop(x, up, padding))

    def run(x):
        return upfirdn2d(x, f, up=up, down=down, padding=padding, flip_filter=flip, gain=1.3)

    try:
        want = plain(outcome, run, [x])
    except ShapeError:
        with pytest.raises(ShapeError):
            run(x)
        return
    equal(outcome(run, [x]), want)


@random_cases
@given(
    x=pictures(empty=False), fu=filters(), fd=filters(), up=st.integers(1, 4),
    down=st.integers(1, 3), padding=st.tuples(*[st.integers(-3, 9)] * 4),
    clamp=st.sampled_from([None, 0.4]),
)  # fmt: skip
def test_filtered_lrelu_equals_the_plain_one(plain, x, fu, fd, up, down, padding, clamp):
    assume(can_crop(x, (up, up), padding))
    b = torch.linspace(-0.7, 0.9, x.shape[1]).to(x)

    def run(x, b):
        return filtered_lrelu(x, up_filter=fu, down_filter=fd, b=b, up=up, down=down,
                              padding=padding, clamp=clamp)  # fmt: skip

    x = x.double()  # at a kink, float32 may fall on either side
    try:
        want = plain(outcome, run, [x, b.double()])
    except ShapeError:
        with pytest.raises(ShapeError):
            run(x, b.double())
        return
    if not_at_a_kink(x, b, fu, up, padding, clamp):
        equal(outcome(run, [x, b.double()]), want)
    else:
        equal([run(x, b.double())], want[:1])


def not_at_a_kink(x, b, fu, up, padding, clamp) -> bool:
    """Tell whether rounding could not change a slope."""
    high = upfirdn2d(x + b.double().reshape(1, -1, 1, 1), fu, up=up, padding=padding, gain=up**2)
    bent = torch.where(high > 0, high, 0.2 * high).abs() * 2**0.5
    exact = high == 0  # nothing was there: both sides compute a true zero
    near = (high.abs() < 1e-9) & ~exact
    return not bool(near.any()) and not (clamp and bool(((bent - clamp).abs() < 1e-9).any()))


CASES = {
    "bias_act": lambda x: bias_act(x, x[0, :, 0, 0], act="lrelu", scale=x[:, :, 0, 0]),
    "upfirdn2d": lambda x: upfirdn2d(x, setup_filter((1, 3, 3, 1)), up=2, padding=(2, 1, 2, 1)),
    "full": lambda x: upfirdn2d(x, torch.eye(4).to(x.device), down=2, padding=1),
    "filtered_lrelu": lambda x: filtered_lrelu(
        x, up_filter=torch.ones(8), down_filter=torch.ones(6), up=2, down=2, padding=7, clamp=9.0
    ),
}


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", CASES)
def test_the_number_of_threads_changes_no_bit(name, layout):
    torch.manual_seed(0)
    x = torch.randn(5, 40, 67, 53).bfloat16().contiguous(memory_format=layout)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 7):
            torch.set_num_threads(threads)
            found.append(outcome(CASES[name], [x]))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@pytest.mark.parametrize("name", CASES)
def test_gradients_of_both_orders_are_differences(name):
    torch.manual_seed(0)
    x = torch.randn(1, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(CASES[name], [x])
    assert torch.autograd.gradgradcheck(CASES[name], [x])


def test_a_network_is_one_graph():
    prior = tiny_prior(16)
    ws = torch.randn(2, prior.num_ws, prior.w_dim)
    want = prior.synthesis(ws).img
    compiled = torch.compile(prior.synthesis, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(ws).img, want, rtol=1e-4, atol=1e-4)


def test_two_processes_build_once(tmp_path):
    code = """
import pathlib, sys, time
from stylegan.ops import build
def compile_into(folder, device):
    with open(sys.argv[1], "a") as log:
        log.write("compiled\\n")
    time.sleep(1)
    (folder / f"{build.library_name(device)}.so").touch()
build.compile_into = compile_into
build.build()
"""
    log = tmp_path / "log"
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    both = [
        subprocess.Popen([sys.executable, "-c", code, str(log)], env=environment) for _ in range(2)
    ]
    assert [process.wait() for process in both] == [0, 0]
    assert log.read_text() == "compiled\n"


@pytest.mark.slow
def test_no_kernel_leaves_its_memory(tmp_path):
    """Every access is checked by AddressSanitizer, over the random cases above."""
    asan = subprocess.run(
        ["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=False
    ).stdout.strip()
    if not Path(asan).is_absolute():
        pytest.skip("needs gcc with AddressSanitizer")
    code = """
import sys, pytest
from stylegan.ops import build
build.FLAGS = ("-O1", "-g", "-march=native", "-fopenmp", "-fsanitize=address")
options = ["-q", "-x", "-p", "no:cacheprovider", "-k", "equals or threads"]
sys.exit(pytest.main([*options, sys.argv[1]]))
"""
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": str(ROOT),
                   "LD_PRELOAD": asan, "ASAN_OPTIONS": "detect_leaks=0", "CXX": "g++"}  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code, __file__], env=environment, capture_output=True, text=True,
        cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
