"""A schedule for people: bars in the terminal, and trace events for Perfetto."""

from collections.abc import Iterator
from typing import Any

from dcomc.estimate import Run
from dcomc.tables import duration, make_console

_MOST = 96
"""Characters of a bar where the console has room for them."""


def print_timeline(run: Run, layer: int) -> None:
    """Print which part of the batch each resource works on while a layer runs, from its first start to its last end."""
    inside = [event for event in run.events if event.layer == layer]
    start, end = min(event.start for event in inside), max(event.end for event in inside)
    console = make_console()
    width = max(1, min(_MOST, console.width - len(_line("", ""))))
    step = (end - start) / width
    console.print(f"\ntimeline of layer {layer} with D-com, {duration(end - start)} from first start to last end:")
    for resource in run.resources:
        bar = ["·"] * width
        for event in run.events:
            if event.resource == resource and event.end > start and event.start < end:
                first, last = (round((min(max(at, start), end) - start) / step) for at in (event.start, event.end))
                mark = format(event.part, "x") if event.layer == layer else "-"
                bar[first:last] = mark * (last - first)
        console.print(_line(resource, "".join(bar)), soft_wrap=True)
    console.print("0-f: the part of the batch, in this layer; -: in another layer; ·: idle")


def _line(resource: str, bar: str) -> str:
    return f"  {resource:<10} |{bar}|"


def trace_events(run: Run) -> Iterator[dict[str, Any]]:
    """The schedule in the trace event format, times in microseconds; a process a variant, a thread a resource."""
    threads = {resource: number for number, resource in enumerate(run.resources)}
    yield {"ph": "M", "pid": run.variant, "name": "process_name", "args": {"name": run.variant}}
    for resource, number in threads.items():
        yield {"ph": "M", "pid": run.variant, "tid": number, "name": "thread_name", "args": {"name": resource}}
    for event in run.events:
        yield {
            "ph": "X",
            "pid": run.variant,
            "tid": threads[event.resource],
            "ts": 1e6 * event.start,
            "dur": 1e6 * (event.end - event.start),
            "name": event.name,
            "args": {"layer": event.layer, "site": event.site, "part": event.part},
        }
