"""Run by torchrun: train the tiny networks, and write the losses of the first process."""

import json
import sys
from pathlib import Path

import torch

from stylegan.parallel import process_group, rank_and_world
from tests.stylegan.test_training import make_trainer


def main(out: Path, batch: int, steps: int, attributes: int) -> None:
    with process_group(torch.device("cpu")):
        trainer = make_trainer(batch=batch, precision="float32", attributes=attributes)
        losses = [trainer.step().losses for _ in range(steps)]
        weights = torch.cat([p.flatten() for p in trainer.averaged.parameters()])
        if rank_and_world()[0] == 0:
            out.write_text(json.dumps({"losses": losses, "weights": weights.tolist()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
