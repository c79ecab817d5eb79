"""Run as a process: loads torch and prints, as one line of JSON, what it is and which GPUs it can use.

Not imported by anything: torch may crash or hang here without harm.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict


def main() -> None:
    """Print the fields of ``machine.TorchView``."""
    import torch

    from vlmagent.training.plan.hardware import find_gpus

    # torch does not raise when it cannot use a GPU, it warns; that is the reason wanted
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gpus = find_gpus()
    # where in torch's source a warning came from interests nobody here
    said = " ".join(str(one.message).split("(Triggered")[0].strip() for one in caught)
    told = {
        "version": str(torch.__version__),
        "cuda": torch.version.cuda,
        "hip": torch.version.hip,
        "gpus": [asdict(gpu) for gpu in gpus],
        "warning": said,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
