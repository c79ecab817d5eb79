"""A program that tells what it is, started by ``test_forking``.

python -m tests.forking.program WHAT [ARGUMENT ...]
"""

from __future__ import annotations

import atexit
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path


def about() -> dict[str, object]:
    import numpy as np
    import torch

    return {
        "pid": os.getpid(),
        "parent": os.getppid(),
        "session": os.getsid(0),
        "cwd": str(Path.cwd()),
        "first path": sys.path[0],
        "arguments": sys.argv,
        "environment": dict(os.environ),
        "umask": os.umask(0),
        "files": sorted(int(name) for name in os.listdir("/proc/self/fd")),  # noqa: PTH208
        "threads": threading.active_count(),
        "drawn": [random.random(), float(np.random.rand())],
        "torch": torch.initial_seed(),
        "sum": float(torch.ones(2000, 2000).sum()),  # over several threads, where it has several
        "interrupted by": signal.getsignal(signal.SIGINT) is signal.default_int_handler,
        "terminated by": signal.getsignal(signal.SIGTERM) == signal.SIG_DFL,
    }


def main() -> None:
    what, *rest = sys.argv[1:]
    if what == "about":
        print(json.dumps(about()))
    elif what == "streams":
        print(f"ä {input()}")
        print("ö", file=sys.stderr)
    elif what == "exit":
        atexit.register(print, "left")
        sys.exit(int(rest[0]) if rest[0].isdigit() else rest[0])
    elif what == "raise":
        raise ValueError(rest[0])
    elif what == "wait":
        print("waiting", flush=True)
        time.sleep(600)
    elif what == "pass":
        os.write(int(rest[0]), b"through it")
    elif what == "start":
        import torch

        torch.ones(2000, 2000).sum()
        # what it starts is its own child and does not know that it has computed
        command = [sys.executable, "-m", "tests.forking.program", *rest]
        sys.exit(subprocess.run(command, start_new_session=True).returncode)


if __name__ == "__main__":
    main()
