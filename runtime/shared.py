"""What streams have in common: the global memory, by the rules of its use, and barriers, at which all meet."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from runtime.instruction import GLOBAL_PORTS, Access, Unit
from runtime.machine import Machine
from runtime.program import Kernel, KernelStream
from runtime.sequencer import Issue, MachineFault
from runtime.written import Bytes, unwritten

Place = tuple[int, int]
"""A stream by its number, and an instruction by its index."""


class StreamFault(MachineFault):
    """A fault between streams, such as a race or a deadlock; its text has a `{}` for each place that it names."""

    def __init__(self, text: str, places: Sequence[Place], hint: str) -> None:
        super().__init__(
            text.format(*(f"stream {stream}, instruction {index}," for stream, index in places)), hint=hint
        )
        self._text, self._places = text, places

    def of(self, kernel: Kernel) -> MachineFault:
        """The same with what stands at the places of a kernel."""
        return MachineFault(self._text.format(*(_described(kernel, *place) for place in self._places)), hint=self.hint)


def _described(kernel: Kernel, stream: int, index: int) -> str:
    """A place with its instruction, the last label before it, and the line that it comes from."""
    label = max((at for at in kernel.labels if at <= index), default=None)
    at = "" if label is None else f"{index - label} after label {kernel.labels[label]}, "
    return f"stream {stream}, instruction {index}, {kernel.words[index]} ({at}from {kernel.locations[index]}),"


def no_barrier(waiting: Place, ended: Place) -> StreamFault:
    """The deadlock of a stream that waits at a barrier while another has ended."""
    return StreamFault(
        "deadlock: {} waits for all streams, but {} has ended without another barrier",
        (waiting, ended),
        "let every stream come to as many barriers",
    )


@dataclass
class _Epoch:
    """What a stream has done with the global memory since its last barrier."""

    number: int = 0
    """Barriers before."""
    uses: dict[tuple[int, int, bool], int] = field(default_factory=dict[tuple[int, int, bool], int])
    """By first byte, end, and whether they are written: the instruction that first did it."""


class SharedMemory:
    """The uses of the global memory by the streams of a kernel so far.

    What streams do between two barriers has no order, so none may write bytes there that another uses. A byte counts
    as written once any stream has written it.

    Args:
        machines: the rectangle of each.
    """

    def __init__(self, machines: Sequence[Machine]) -> None:
        self._machines = machines
        self._written = Bytes()
        self._epochs = [_Epoch() for _ in machines]
        self._barriers = [0] * len(machines)

    def read(self, stream: int, issue: Issue) -> None:
        """Check what the next instruction of a stream does there, and remember it.

        Raises:
            StreamFault: a race.
            MachineFault: a read of bytes that no stream has written.
        """
        if issue.mnemonic == "barrier":
            self._barriers[stream] += 1
        for used in issue.word.instruction.ranges if issue.word.instruction.unit in GLOBAL_PORTS else ():
            start = int(issue.values[used.operand])
            end, writes = start + used.size(issue.values, self._machines[stream]), used.access is not Access.READ
            if not used.shared or start == end:
                continue
            self._find_race(stream, issue, start, end, writes)
            if writes:
                self._written.add(start, end)
            elif not self._written.has(start, end):
                fault = unwritten(issue, f"a byte from {start} to {end} in the global memory", "put it there")
                raise fault if len(self._epochs) == 1 else _of_stream(stream, fault)
            own = self._epochs[stream]
            if own.number != self._barriers[stream]:
                self._epochs[stream] = own = _Epoch(self._barriers[stream])
            own.uses.setdefault((start, end, writes), issue.index)

    def _find_race(self, stream: int, issue: Issue, start: int, end: int, writes: bool) -> None:
        for other, epoch in enumerate(self._epochs):
            if other == stream or epoch.number != self._barriers[stream]:
                continue
            for (first, last, written), index in epoch.uses.items():
                if first < end and start < last and (writes or written):
                    does, did = ("writes" if writing else "reads" for writing in (writes, written))
                    raise StreamFault(
                        f"race: {{}} {does} bytes {start} to {end} of the global memory, of which {{}} {did} some with "
                        "no barrier between",
                        ((stream, issue.index), (other, index)),
                        "let all streams come to a barrier between the two",
                    )


def in_turns(streams: Sequence[Iterator[Issue]]) -> Iterator[tuple[int, Issue]]:
    """Each instruction with the number of its stream: those of one stream up to a barrier, then those of the next.

    Raises:
        StreamFault: a deadlock.
        MachineFault: one of a stream.
    """
    if len(streams) > 1:
        streams = [_placed(number, issues) for number, issues in enumerate(streams)]
    ended: dict[int, int] = {}
    """By stream, its last instruction."""
    while len(ended) < len(streams):
        waiting: dict[int, int] = {}
        for number, issues in enumerate(streams):
            if number in ended:
                continue
            index = 0
            for issue in issues:
                yield number, issue
                index = issue.index
                if issue.mnemonic == "barrier":
                    waiting[number] = index
                    break
            else:
                ended[number] = index
        if waiting and ended:
            raise no_barrier(next(iter(waiting.items())), next(iter(ended.items())))


def _placed(number: int, issues: Iterator[Issue]) -> Iterator[Issue]:
    """The instructions of a stream, whose faults say of which."""
    try:
        yield from issues
    except MachineFault as fault:
        raise _of_stream(number, fault) from fault


def _of_stream(number: int, fault: MachineFault) -> MachineFault:
    return MachineFault(fault.what, hint=fault.hint, place=f"stream {number}")


def shared_units(streams: Sequence[KernelStream]) -> tuple[Unit, ...]:
    """Units with ports that several of the streams use."""
    if len(streams) == 1:
        return ()
    columns = [column for stream in streams for column in stream.columns]
    return (*GLOBAL_PORTS, Unit.BANK) if len(columns) > len(set(columns)) else GLOBAL_PORTS


def meets_others(issue: Issue, shared: Sequence[Unit]) -> bool:
    """Whether other streams may notice an instruction: it is a barrier, or uses one of the units that are shared."""
    return issue.mnemonic == "barrier" or issue.word.instruction.unit in shared


def in_order_of_time(
    streams: Sequence[Iterator[Issue]],
    ready: Sequence[Callable[[Issue], int]],
    stands_back: Callable[[int, Issue], bool],
) -> Iterator[tuple[int, Issue, int]]:
    """Each instruction with the number of its stream, and a cycle before which it cannot issue.

    Instructions that stand back come in the order in which they are ready, so that no stream starves; all others, which
    no other stream notices, come at once. The caller has the clock of the stream read each before it takes the next.

    Args:
        ready: of each stream, the first cycle in which it could issue its next, were its unit free.
        stands_back: whether the instruction of the stream of this number does: all that `meets_others` has to.

    Raises:
        StreamFault: a deadlock.
        MachineFault: one of a stream.
    """
    heads: dict[int, Issue] = {}
    """The next instruction of each stream that waits for its turn or at a barrier."""
    ended: dict[int, int] = {}
    running = list(range(len(streams)))
    while True:
        for number in running:
            index = 0
            for issue in streams[number]:
                if stands_back(number, issue):
                    heads[number] = issue
                    break
                yield number, issue, 0
                index = issue.index
            else:
                ended[number] = index
        at_port = [(ready[number](issue), number) for number, issue in heads.items() if issue.mnemonic != "barrier"]
        if at_port:
            _, number = min(at_port)
            yield number, heads.pop(number), 0
            running = [number]
        elif heads and ended:
            raise no_barrier(min((number, issue.index) for number, issue in heads.items()), min(ended.items()))
        elif heads:
            released = max(ready[number](issue) for number, issue in heads.items())
            for number, issue in sorted(heads.items()):
                yield number, issue, released
            running, heads = sorted(heads), {}
        else:
            return
