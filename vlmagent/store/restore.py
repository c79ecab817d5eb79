"""A logged row as the transition it was, so that an interrupted rollout can be played again.

Deliberately knows no SQL: it is handed a row.
"""

from __future__ import annotations

import numpy as np

from vlmagent.store.rows import TransitionRow
from vlmagent.types import Decision, Generation, ParsedAction, Transition

# replaying renders the picture again from the environment; reading it from the database would decode a PNG a step
_NO_PICTURE = np.zeros((0, 0, 3), dtype=np.uint8)


def restore_transition(row: TransitionRow, error: str | None = None) -> Transition:
    """A logged transition as it was, but for the picture, which replaying renders again.

    Args:
        error: what the database says of a step for which an API gave no answer.
    """
    generation = None
    # all three are NULL for agents that write no tokens (experts, people, models behind an API)
    if row.token_ids is not None and row.token_logprobs is not None and row.action_start is not None:
        generation = Generation(row.output, row.token_ids, row.token_logprobs, row.action_start, row.value)
    decision = Decision(
        prompt=row.prompt,
        output=row.output,
        thoughts=row.thoughts,
        # where the action stood in the output is not logged; nothing after the parser asks for it
        parsed=ParsedAction(row.action, row.legal_output, row.action_text, None),
        logprob=row.logprob,
        thought_logprob=row.thought_logprob,
        action_logprob=row.action_logprob,
        generation=generation,
        error=error,
        actor=row.actor,
    )
    return Transition(
        id=row.id,
        episode_id=row.episode_id,
        update_index=row.update_index,
        env_index=row.env_index,
        step=row.step,
        image=_NO_PICTURE,
        decision=decision,
        reward=row.reward,
        terminated=row.terminated,
        truncated=row.truncated,
        value=row.value,
        bootstrap_value=row.bootstrap_value,
    )
