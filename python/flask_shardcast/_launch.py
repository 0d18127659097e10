"""What a command line and the environment say about how to serve. They win over what a program says itself."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Launch:
    """Settings that were given from outside the program."""

    #: Arguments of the core, each as `--name=value`.
    arguments: list[str] = field(default_factory=list)
    #: Threads for handlers and pages.
    threads: int | None = None
    #: Whether the program serves already: `run` was called.
    has_served: bool = False


#: Of this process.
launch = Launch()

#: Threads, where nobody says how many.
THREADS_DEFAULT = 64
