"""Curves and pictures of a run in TensorBoard, where it is installed."""

from collections.abc import Mapping

from fewshot_smis.data.images import UInt8
from fewshot_smis.runs import Run


class Curves:
    """Writes to the folder `tensorboard` of a run; without TensorBoard it writes nothing."""

    def __init__(self, run: Run, step: int = 0) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            run.log("no curves for TensorBoard; pip install 'fewshot-smis[train]' brings them")
            self._writer = None
            return
        self._writer = SummaryWriter(run.path / "tensorboard", purge_step=step)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to the curve of each value."""
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def picture(self, step: int, name: str, image: UInt8) -> None:
        """Show a picture [H, W, 3]."""
        if self._writer is not None:
            self._writer.add_image(name, image, step, dataformats="HWC")

    def close(self) -> None:
        """Write what is left."""
        if self._writer is not None:
            self._writer.close()
