"""`dcom-decompose-activations`: put a low-rank approximation in the place of chosen sites' inputs."""

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import SSAValue
from xdsl.passes import ModulePass

from dcomc.diagnostics import DcomError
from dialects.dcom import SITES, DecomposeOp, FactoredType, ProjectOp, ReconstructOp
from passes._build import building
from passes._sites import Layers, Site, check_reuse, check_sites, find_sites, module_size

EXTRA_ITERATIONS = 5
"""Lanczos steps past the rank unless told otherwise: they bring the error within about 1% of the best possible."""


@dataclass(frozen=True)
class DcomDecomposeActivationsPass(ModulePass):
    """Decompose the input of chosen sites, once for all matmuls that read it, and reconstruct it.

    Each chosen layer gets its own copy of the function it calls, unless it has one. Before:

        %q = linalg.matmul {dcom.role = "q_proj"} ins(%x, %wq : …) outs(%zero : …) -> …
        %k = linalg.matmul {dcom.role = "k_proj"} ins(%x, %wk : …) outs(%zero_1 : …) -> …

    and after:

        %factors = dcom.decompose %x {layer = 10 : i64, site = "qkv", iterations = 15 : i64, …} : … -> !dcom.factored<…>
        %approximation = dcom.reconstruct %factors : …
        %q = linalg.matmul {dcom.role = "q_proj"} ins(%approximation, %wq : …) outs(%zero : …) -> …
        %k = linalg.matmul {dcom.role = "k_proj"} ins(%approximation, %wk : …) outs(%zero_1 : …) -> …

    Options: `layers`, `sites` (all four unless given), `rank` R (10), `iterations` k of Lanczos (the smallest of R + 5
    and the sides of what is decomposed), `reorthogonalisation` passes (2), `seed` of the start vector (0), and `block`,
    the rows of a prompt that share a basis (all unless given): with block=64, rows 0 to 63 are decomposed by
    themselves, then rows 64 to 127, and so on; the factors are `!dcom.factored<1x512x576, block 64, rank 10, f32>`.
    The last block of a prompt may be short. Sites in `reuse` (none unless given) have no decomposition of their own:
    they are projected on the basis of the layer's first other site, at one product instead of 2k:

        %factors_1 = dcom.project %y on %factors {layer = 10 : i64, site = "gate_up"} : …
    """

    name = "dcom-decompose-activations"

    layers: tuple[int, ...]
    sites: tuple[str, ...] = tuple(SITES)
    rank: int = 10
    iterations: int | None = None
    reorthogonalisation: int = 2
    seed: int = 0
    block: int | None = None
    reuse: tuple[str, ...] = ()

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Raises `DcomError` for a layer, site, rank, number of iterations, seed or block out of range."""
        sites = check_sites(self.sites)
        reuse = check_reuse(self.reuse, sites)
        if self.reorthogonalisation < 1:
            raise DcomError(
                f"reorthogonalisation {self.reorthogonalisation} is below 1",
                hint="without it Lanczos vectors lose their orthogonality; 2 is the default",
            )
        if not 0 <= self.seed < 2**63:
            raise DcomError(f"seed {self.seed} is not between 0 and 2^63 - 1", hint="0 is the default")
        layers = Layers.of(op)
        chosen = layers.check(self.layers)
        batch, tokens = module_size(op, "batch"), module_size(op, "seq_len")
        for layer in chosen:
            function = layers.own_function(layer)
            basis: SSAValue[FactoredType] | None = None
            for name in sites:
                for site in find_sites(function, layer, name):
                    if isinstance(site.input.owner, ReconstructOp):
                        raise DcomError(
                            f"site {name} of layer {layer} is already decomposed", hint="decompose a site once"
                        )
                    with building(site.insert_point(), site.location):
                        if basis is not None and name in reuse:
                            factors = ProjectOp(site.input, basis, layer=layer, site=name).factors
                        else:
                            factors = self._decompose(site, layer, name, batch, tokens)
                            basis = basis or factors
                        approximation = ReconstructOp(factors, site.input.type).result
                    factors.name_hint, approximation.name_hint = "factors", "approximation"
                    site.replace_input(approximation)

    def _decompose(self, site: Site, layer: int, name: str, batch: int, tokens: int) -> SSAValue[FactoredType]:
        cols = site.input.type.get_shape()[1]
        block = tokens if self.block is None else self.block
        if not 1 <= block <= tokens:
            raise DcomError(f"block {block} is not between 1 and the {tokens} tokens of a prompt", hint="such as 64")
        most = min(block, cols)
        shape = f"site {name} of layer {layer} is {block} x {cols} a {'prompt' if block == tokens else 'block'}"
        if not 1 <= self.rank <= most:
            raise DcomError(f"rank {self.rank} is not between 1 and {most}", hint=shape)
        iterations = min(self.rank + EXTRA_ITERATIONS, most) if self.iterations is None else self.iterations
        if not self.rank <= iterations <= most:
            raise DcomError(f"iterations {iterations} is not between the rank {self.rank} and {most}", hint=shape)
        return DecomposeOp(
            site.input,
            FactoredType.get(batch, tokens, cols, self.rank, site.input.type.element_type, block),
            layer=layer,
            site=name,
            iterations=iterations,
            reorthogonalisation=self.reorthogonalisation,
            seed=self.seed,
        ).factors
