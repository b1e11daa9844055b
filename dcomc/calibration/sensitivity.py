"""What decomposing a single site costs: the model's loss with that one decomposed, and all else dense."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from xdsl.dialects.builtin import ModuleOp

from dcomc.calibration.taps import ProbedExecutor, RunLayer, layer_runners
from dcomc.compiler import lower
from dcomc.evaluate import Array, Scores, Window
from dcomc.pipeline import Decomposition
from dialects.dcom import SITES
from passes._sites import Layers
from runtime.executor import Executor
from runtime.executor_arrays import Arrays, Value


class Sensitivity:
    """A traced module, and for each site the same with that site decomposed in every layer.

    A window's dense run leaves what each layer is given, B*S*H values a layer. The run with one site of layer n
    decomposed starts there: the layers before n are those of the dense run.
    """

    def __init__(
        self,
        module: ModuleOp,
        weights: Mapping[str, Array],
        arrays: Arrays,
        thresholds: Path,
        rank: int,
        block: int | None = None,
    ) -> None:
        """Compile as `dcomc compile --outliers thresholds --rank rank --block block` does, as far as the dcom dialect.

        Raises:
            DcomError: a rank or block that does not fit the shape.
        """
        self.layers = sorted(Layers.of(module).calls)
        self._dense = ProbedExecutor(module, weights, arrays)
        self._hidden: Mapping[int, Value] = {}
        self._decomposed: dict[str, dict[int, RunLayer]] = {}
        for site in SITES:
            options = Decomposition(tuple(self.layers), (site,), rank=rank, outliers=str(thresholds), block=block)
            own = lower(module.clone(), options, level="dcom")
            self._decomposed[site] = layer_runners(own, Executor(own, weights, arrays=arrays))

    def dense_loss(self, window: Window) -> float:
        """The summed negative log-likelihood of the dense model, in nats; what follows starts from this run."""
        self._dense.start, self._dense.instead = None, {}
        loss = self._loss(window, "the dense model")
        self._hidden = dict(self._dense.hidden)
        return loss

    def losses(self, window: Window, layer: int) -> Iterator[tuple[str, float]]:
        """Each site, and the summed negative log-likelihood with that site of the layer decomposed.

        The window is that of the last call of `dense_loss`.
        """
        self._dense.start = (layer, self._hidden[layer])
        for site, layers in self._decomposed.items():
            self._dense.instead = {layer: layers[layer]}
            yield site, self._loss(window, f"the model with site {site} of layer {layer} decomposed")

    def _loss(self, window: Window, name: str) -> float:
        (logits,) = self._dense.run("main", window.tokens)
        scores = Scores()
        scores.add(window, logits, logits, name)
        return scores.loss
