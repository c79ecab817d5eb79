"""Examples that stand below a command's ``--help``: one line each, to be copied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

EXAMPLES: Mapping[str, Sequence[str]] = {
    "train": (
        "vlmagent train numberline",
        "vlmagent train blackjack --set seed=1 --set ppo.lr=5e-5 --detach",
        "vlmagent train --resume runs/latest",
        "vlmagent train numberline --model llava-hf/llava-v1.6-mistral-7b-hf --plan",
        "vlmagent train numberline --gpus 8 --config paper/numberline",
    ),
    "sft": (
        "vlmagent sft ezpoints",
        "vlmagent sft ezpoints --model Qwen/Qwen2.5-VL-3B-Instruct",
    ),
    "data": ("vlmagent data numberline --samples 1000 --out my-data",),
    "eval": (
        "vlmagent eval --checkpoint start --checkpoint latest --baseline expert",
        "vlmagent eval numberline --episodes 500 --json",
        "vlmagent eval --run A --run B --run C",
        "vlmagent eval numberline --baseline openai:llava@http://localhost:8000/v1 --max-cost 0",
    ),
    "tui": (
        "vlmagent tui",
        "vlmagent tui runs/latest",
        "vlmagent tui runs/latest --screenshot pictures",
        "vlmagent tui --serve",
    ),
    "play": (
        "vlmagent play numberline",
        "vlmagent play points24 --human --hints on",
        "vlmagent play blackjack --versus",
        "vlmagent play ezpoints --human --opponent expert",
    ),
    "report": ("vlmagent report table2 --task numberline --task ezpoints",),
    "reproduce": ("vlmagent reproduce figure7 --seeds 4 --jobs 2 --dry-run",),
    "doctor": ("vlmagent doctor", "vlmagent doctor --json"),
    "runs list": ("vlmagent runs list", "vlmagent runs list --json"),
    "runs show": ("vlmagent runs show", "vlmagent runs show runs/latest --json"),
    "runs stop": ("vlmagent runs stop", "vlmagent runs stop 20261130-120000-numberline --timeout 60"),
    "runs attach": ("vlmagent runs attach", "vlmagent runs attach 20261130-120000-numberline"),
    "runs logs": ("vlmagent runs logs --follow", "vlmagent runs logs runs/latest -n 200"),
    "runs export": (
        "vlmagent runs export runs/latest --out my-run",
        "vlmagent runs export --merge my-model",
        "vlmagent runs export --as sft --actor human --successes --out my-games",
    ),
    "runs sql": (
        'vlmagent runs sql "SELECT action, count(*), avg(reward) FROM transitions GROUP BY action"',
        "vlmagent runs sql \"SELECT * FROM metrics WHERE name = 'rollout/success'\" runs/latest --csv",
        "vlmagent runs sql",
    ),
}


def examples(command: str) -> str:
    """The lines below the help of a command, such as ``runs sql``."""
    return "\n".join(["Examples:", *EXAMPLES[command]])
