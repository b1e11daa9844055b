"""cluster-map: which clusters work on a matrix together, and how much of it each of them holds."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil, prod
from typing import NamedTuple

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, StringAttr, SymbolRefAttr
from xdsl.passes import ModulePass
from xdsl.rewriter import InsertPoint, Rewriter

from dcomc.config import SiteConfig, SiteOptions
from dcomc.diagnostics import DcomError
from dcomc.ir import errors_at
from dialects.cluster import KernelOp
from dialects.dcom import DecomposeOp
from passes._choice import choose, explain
from passes._kernels import dictionary
from passes._mappings import group_of, mapping_of
from passes._rounds import MOST_IN_FLIGHT
from passes._sites import read_config
from passes._streams import ONE_STREAM, Sides, parse_streams, part_of_each, set_streams
from runtime.machine import Machine, load_machine


@dataclass(frozen=True)
class ClusterMapPass(ModulePass):
    """Cut the grid into equal groups of clusters, which decompose a matrix each, and the matrix over its group.

    A cluster's slice is a whole number of tiles; what does not divide is padded with zeros, which change no result.
    `mapping` is `grid`: one group of all clusters, the matrix cut by rows and columns; `column` or `cluster`: a group
    is a cluster column, or a cluster; or the rows and columns of a group, such as `8x8`; or `auto`: what takes all
    launches the soonest, of all groups that fill the grid. A matrix that is small for
    the grid takes a part of it, where sums have shorter ways. A group that is not all of the grid holds its matrix
    folded: cut by its columns alone, over all clusters of the group, so that A^T u needs no reduction, and vectors
    along the rows are whole in each cluster. `in_flight` matrices go through a group at a time, their instructions
    interleaved: as many as there are, find room in the buffers and instructions for, unless given. Where the `config`
    has several mappings or streams for the sites of a kernel, each gets a copy of it.

    `streams`, such as `2x2`, are rows and columns of equal rectangles of clusters, each of which runs the kernel at
    its own pace: it takes its share of a launch's matrices one round after another, so that one that breaks down
    early, or waits for its bank, keeps no other back. A rectangle is to the mapping what else the grid is. `auto` is
    one stream where a mapping is given. Where that is `auto`, too, streams are looked at beside groups in step, and
    taken where the simulator counts a cycle in a hundred less for the launches. They pay where matrices wait for one
    another's loading: where one fills most of its group's buffers, so that no other can be in flight beside it, or
    where groups lie above one another on the same banks (`benchmarks/streams.py`).

    Before:

        cluster.kernel @k attributes {…} { %a = cluster.matrix : !cluster.matrix<512x576> … }

    After, on 16 x 16 clusters of 8 x 8:

        cluster.kernel @k attributes {mapping = {folded = 0 : i64, in_flight = 1 : i64, slice_cols = 40 : i64,
          slice_rows = 32 : i64, span_cols = 0 : i64, span_rows = 0 : i64}, …} { … }
    """

    name = "cluster-map"

    machine: str = "dcom-16x16"
    """The machine, by name or by its TOML file."""
    mapping: str = "grid"
    """Groups: `grid`, `column`, `cluster`, rows and columns of clusters, such as `8x8`, or `auto`."""
    in_flight: int | None = None
    """Matrices of a group at a time: as many as fit, unless given."""
    config: str | None = None
    """A TOML file whose `mapping` and `streams` are for single layers and sites (`dcomc.config.SiteConfig`)."""
    explain: bool = False
    """Print to standard error what is expected of each mapping, what was counted, and which was taken."""
    streams: str = "auto"
    """Rows and columns of rectangles with a stream each, such as `2x2`, or `auto`."""

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Raises `DcomError` where the groups do not fill the grid, a kernel's matrix is too long for it, or so many in
        flight have no room."""
        machine, given = load_machine(self.machine), _Placing(self.mapping, self.streams)
        if self.in_flight is not None and not 1 <= self.in_flight <= MOST_IN_FLIGHT:
            raise DcomError(
                f"in_flight {self.in_flight} is not between 1 and {MOST_IN_FLIGHT}", hint="registers serve no more"
            )
        given.group(given.part(machine))
        users = _users(op)
        names = {kernel.sym_name.data for kernel in op.body.block.ops if isinstance(kernel, KernelOp)}
        for kernel in list(op.body.block.ops):
            if isinstance(kernel, KernelOp):
                with errors_at(kernel.location):
                    launches = self._launches(given, users.get(kernel.sym_name.data, []), machine)
                    for placing, mapped, own in _copies(kernel, given, launches, names):
                        self._place(mapped, placing, machine, own)

    def _launches(
        self, given: "_Placing", users: Sequence[DecomposeOp], machine: Machine
    ) -> dict["_Placing", list[DecomposeOp]]:
        """The launches of a kernel by what the config asks for."""
        config = read_config(self.config)
        wanted: dict[_Placing, list[DecomposeOp]] = {} if users else {given: []}
        for user in users:
            layer, site = user.layer.value.data, user.site.data
            options = config.options(layer, site, SiteOptions(mapping=self.mapping, streams=self.streams))
            placing = _Placing(options.mapping, options.streams)
            if placing not in wanted:
                with _errors_of(config, layer, site, "streams"):
                    part = placing.part(machine)
                with _errors_of(config, layer, site, "mapping", "streams"):
                    placing.group(part)
            wanted.setdefault(placing, []).append(user)
        return wanted

    def _place(self, kernel: KernelOp, placing: "_Placing", machine: Machine, launches: Sequence[DecomposeOp]) -> None:
        """Give a kernel its mapping, and its streams where it has several."""
        matrices = [launch.factors.type.blocks[0] for launch in launches] or [1]
        streams, group = placing.streams_on(machine), placing.group(placing.part(machine))
        if group is None or self.explain:
            choice = choose(
                kernel,
                machine,
                matrices,
                streams=None if placing.is_free else streams,
                group=group,
                in_flight=self.in_flight,
            )
            streams, group = choice.taken.place
            if self.explain:
                explain(kernel, machine, matrices, choice)
        own = ceil(max(matrices) / prod(streams))
        values = mapping_of(kernel, group, part_of_each(streams, machine), own, self.in_flight)
        kernel.properties["mapping"] = dictionary(values)
        set_streams(kernel, streams)


class _Placing(NamedTuple):
    """Where a launch's matrices go: options `mapping` and `streams`."""

    mapping: str
    streams: str

    @property
    def is_free(self) -> bool:
        """Whether streams are to be chosen."""
        return self.mapping == self.streams == "auto"

    def streams_on(self, machine: Machine) -> Sides:
        """Rectangles down and across, one for `auto`; raises `DcomError` where they do not fill the grid."""
        return ONE_STREAM if self.streams == "auto" else parse_streams(self.streams, machine)

    def part(self, machine: Machine) -> Machine:
        """The rectangle of each stream; raises `DcomError` where they do not fill the grid."""
        return part_of_each(self.streams_on(machine), machine)

    def group(self, part: Machine) -> Sides | None:
        """Rows and columns of clusters in a group of that rectangle, None for `auto`; raises `DcomError` where groups
        do not fill it."""
        if self.mapping == "auto":
            return None
        return group_of(self.mapping, part, "" if self.streams in ("auto", "1x1") else "each stream on ")


def _copies(
    kernel: KernelOp, given: _Placing, launches: Mapping[_Placing, list[DecomposeOp]], names: set[str]
) -> Iterator[tuple[_Placing, KernelOp, list[DecomposeOp]]]:
    """The kernel for each placing that is asked for, a copy where there are several, and its launches.

    Args:
        names: of all kernels of the module, those of the copies too.
    """
    kept = given if given in launches else next(iter(launches))
    for placing, own in launches.items():
        mapped = kernel
        if placing != kept:
            mapped = kernel.clone()
            differs = [value for value, other in zip(placing, kept, strict=True) if value != other]
            name = "_".join([kernel.sym_name.data, *differs])
            while name in names:
                name += "_"
            names.add(name)
            mapped.properties["sym_name"] = StringAttr(name)
            Rewriter.insert_op(mapped, InsertPoint.after(kernel))
            for launch in own:
                launch.properties["kernel"] = SymbolRefAttr(mapped.sym_name)
        yield placing, mapped, own


@contextmanager
def _errors_of(config: SiteConfig, layer: int, site: str, *options: str) -> Generator[None]:
    """Let errors say which site they are about, and where the first of the options that the config sets stands."""
    try:
        yield
    except DcomError as error:
        place = next(filter(None, (config.place(layer, site, option) for option in options)), None)
        raise DcomError(f"site {site} of layer {layer}: {error.what}", hint=error.hint, place=place) from error


def _users(module: ModuleOp) -> dict[str, list[DecomposeOp]]:
    """For each kernel what it is launched for."""
    users: dict[str, list[DecomposeOp]] = {}
    for op in module.walk():
        if isinstance(op, DecomposeOp) and op.kernel is not None:
            users.setdefault(op.kernel.string_value(), []).append(op)
    return users
