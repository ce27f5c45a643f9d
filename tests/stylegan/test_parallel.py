"""Several processes do together what one does: draws, statistics, losses."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from stylegan.discriminator import minibatch_stddev
from stylegan.seeding import Share, rand, randn, sample_z, stream
from tests.stylegan.test_training import make_trainer

ROOT = Path(__file__).parent.parent.parent


def test_shares_of_a_stream_are_the_rows_of_the_whole() -> None:
    for draw in (rand, randn):
        whole = draw((6, 2, 3), stream(0, "x"))
        for rank in range(3):
            part = draw((2, 2, 3), Share(stream(0, "x"), rank, 3))
            assert torch.equal(part, whole[rank::3])
    assert torch.equal(
        sample_z(2, 5, Share(stream(1, "z"), 1, 2)), sample_z(4, 5, stream(1, "z"))[1::2]
    )


def test_rows_of_a_process_are_whole_groups_of_the_batch_statistic() -> None:
    x = torch.randn(16, 3, 4, 5, generator=stream(0, "x"))
    whole = minibatch_stddev(x, 4)
    for rank in range(2):
        torch.testing.assert_close(minibatch_stddev(x[rank::2], 4), whole[rank::2])


@pytest.mark.slow  # two processes import torch
@pytest.mark.parametrize("attributes", [0, 3])
def test_two_processes_give_the_losses_of_one(attributes: int, tmp_path: Path) -> None:
    steps, batch = 5, 8
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    script = ["-m", "tests.stylegan.in_processes", tmp_path / "out.json"]
    script += [batch, steps, attributes]
    subprocess.run([*torchrun, *map(str, script)], check=True, timeout=120, cwd=ROOT)
    both = json.loads((tmp_path / "out.json").read_text())

    one = make_trainer(batch=batch, precision="float32", attributes=attributes)
    for step in range(steps):
        alone = one.step().losses
        assert both["losses"][step].keys() == alone.keys()
        for name, value in alone.items():
            torch.testing.assert_close(both["losses"][step][name], value, rtol=1e-4, atol=1e-5)
    weights = torch.cat([p.flatten() for p in one.averaged.parameters()])
    torch.testing.assert_close(torch.tensor(both["weights"]), weights, rtol=1e-3, atol=1e-4)
