"""`dcom-decompose-activations`: put a low-rank approximation in the place of chosen sites' inputs."""

from dataclasses import dataclass, replace

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import SSAValue
from xdsl.passes import ModulePass

from dcomc.config import EXTRA_ITERATIONS, SiteConfig, SiteOptions
from dcomc.diagnostics import DcomError
from dcomc.ir import place_of
from dialects.dcom import SITES, DecomposeOp, FactoredType, ProjectOp, ReconstructOp
from passes._build import building
from passes._sites import Layers, Site, check_reuse, check_sites, find_sites, module_size, read_config


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

    With `block`, each block of a prompt's rows has factors of its own: `!dcom.factored<1x512x576, block 64, rank 10,
    f32>`. Sites in `reuse` have no decomposition of their own, but are projected on the basis of the layer's first
    other site, at one product instead of 2k:

        %factors_1 = dcom.project %y on %factors {layer = 10 : i64, site = "gate_up"} : …

    """

    name = "dcom-decompose-activations"

    layers: tuple[int, ...]
    """Layers to decompose, counted from 0."""
    sites: tuple[str, ...] = tuple(SITES)
    """Sites of each layer."""
    rank: int = 10
    """R, the columns of U that are kept."""
    iterations: int | None = None
    """k, the steps of Lanczos; the smallest of R + 5 and the sides of what is decomposed unless given."""
    reorthogonalisation: int = 2
    """Gram-Schmidt passes for each new vector."""
    seed: int = 0
    """The seed of the start vector."""
    gram_schmidt: str = "classical"
    """`classical`: each new vector against all before at once; `modified`: one after another."""
    start: str = "random"
    """`random`: the start vector comes from the seed; `mean`: it is the same in each row, so that v_0 is the mean."""
    block: int | None = None
    """T, the rows of a prompt that share a basis; all unless given. The last block of a prompt may be short."""
    energy: float | None = None
    """A share, such as 0.95: a block keeps no more columns than hold that share of its energy, and R at most."""
    reuse: tuple[str, ...] = ()
    """Sites that project on the basis of the layer's first other site."""
    config: str | None = None
    """A TOML file that says otherwise for single layers and sites (`dcomc.config.SiteConfig`)."""

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Raises `DcomError` for a layer, site, rank, number of iterations, seed, block or energy out of range."""
        sites = check_sites(self.sites)
        reuse = check_reuse(self.reuse, sites)
        layers = Layers.of(op)
        chosen = layers.check(self.layers)
        config = read_config(self.config)
        config.check(chosen, sites)
        batch, tokens = module_size(op, "batch"), module_size(op, "seq_len")
        defaults = SiteOptions(
            rank=self.rank,
            iterations=self.iterations,
            reorthogonalisation=self.reorthogonalisation,
            seed=self.seed,
            gram_schmidt=self.gram_schmidt,
            start=self.start,
            block=self.block,
            energy=self.energy,
        )
        for layer in chosen:
            basis: SSAValue[FactoredType] | None = None
            for name in sites:
                options = config.options(layer, name, replace(defaults, reuse=name in reuse))
                if not options.decompose:
                    continue
                if options.reuse and basis is None:
                    raise DcomError(
                        f"site {name} of layer {layer} reuses a basis, but no site before it has one",
                        hint="decompose one before it",
                        place=config.place(layer, name, "reuse") or place_of(layers.calls[layer][0].location),
                    )
                for site in find_sites(layers.own_function(layer), layer, name):
                    site.check_dense("decompose a site once")
                    with building(site.insert_point(), site.location):
                        if basis is not None and options.reuse:
                            factors = ProjectOp(site.input, basis, layer=site.layer, site=site.name).factors
                        else:
                            factors = _decompose(site, batch, tokens, options, config)
                            basis = basis or factors
                        approximation = ReconstructOp(factors).result
                    factors.name_hint, approximation.name_hint = "factors", "approximation"
                    site.replace_input(approximation)


def _decompose(site: Site, batch: int, tokens: int, options: SiteOptions, config: SiteConfig) -> SSAValue[FactoredType]:
    """Decompose the input of a site, of `batch` prompts of so many tokens.

    Raises:
        DcomError: an option does not fit its shape; the place is that of the config, where that sets it.
    """
    cols = site.input.type.get_shape()[1]
    where = f"site {site.name} of layer {site.layer}"
    options.check(tokens, cols, where=where, place=lambda key: config.place(site.layer, site.name, key))
    block = tokens if options.block is None else options.block
    iterations = options.iterations
    if iterations is None:
        iterations = min(options.rank + EXTRA_ITERATIONS, block, cols)
    return DecomposeOp(
        site.input,
        FactoredType.get(batch, tokens, cols, options.rank, site.input.type.element_type, block),
        layer=site.layer,
        site=site.name,
        iterations=iterations,
        reorthogonalisation=options.reorthogonalisation,
        seed=options.seed,
        gram_schmidt=options.gram_schmidt,
        start=options.start,
        energy=options.energy,
    ).factors
