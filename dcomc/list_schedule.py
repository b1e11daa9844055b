"""List scheduling: tasks with needs, each on one resource, which does one task at a time."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """A piece of work on a resource."""

    resource: str
    seconds: float
    needs: tuple[int, ...] = ()
    """Indices of earlier tasks."""


@dataclass(frozen=True)
class Schedule:
    """When each task starts and ends, in seconds."""

    starts: tuple[float, ...]
    ends: tuple[float, ...]

    @property
    def seconds(self) -> float:
        """Until the last task ends."""
        return max(self.ends, default=0.0)


def schedule(tasks: Sequence[Task]) -> Schedule:
    """Start each task as soon as its needs are met and its resource is free.

    Of the tasks that a free resource could start, it takes the one with the longest way to the end.

    Args:
        tasks: in an order in which every need stands before what needs it.
    """
    urgency = _ways_to_the_end(tasks)
    readers: list[list[int]] = [[] for _ in tasks]
    missing = [len(set(task.needs)) for task in tasks]
    for number, task in enumerate(tasks):
        for need in set(task.needs):
            readers[need].append(number)
    waiting: dict[str, list[tuple[float, int]]] = {task.resource: [] for task in tasks}
    free = dict.fromkeys(waiting, True)
    starts, ends = [0.0] * len(tasks), [0.0] * len(tasks)
    for number, count in enumerate(missing):
        if not count:
            heapq.heappush(waiting[tasks[number].resource], (-urgency[number], number))
    running: list[tuple[float, int]] = []
    now = 0.0
    while True:
        for resource, queue in waiting.items():
            if free[resource] and queue:
                _, number = heapq.heappop(queue)
                starts[number], ends[number] = now, now + tasks[number].seconds
                heapq.heappush(running, (ends[number], number))
                free[resource] = False
        if not running:
            return Schedule(tuple(starts), tuple(ends))
        now = running[0][0]
        while running and running[0][0] == now:
            _, done = heapq.heappop(running)
            free[tasks[done].resource] = True
            for reader in readers[done]:
                missing[reader] -= 1
                if not missing[reader]:
                    heapq.heappush(waiting[tasks[reader].resource], (-urgency[reader], reader))


def _ways_to_the_end(tasks: Sequence[Task]) -> list[float]:
    """Seconds from each task's start to the end along its longest chain of readers."""
    ways = [0.0] * len(tasks)
    for number in range(len(tasks) - 1, -1, -1):
        ways[number] += tasks[number].seconds
        for need in tasks[number].needs:
            ways[need] = max(ways[need], ways[number])
    return ways
