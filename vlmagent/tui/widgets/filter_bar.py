"""The settings of a list of episodes on one line; each can be clicked.

Deliberately reads nothing: it is handed a feed.
"""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Horizontal

from vlmagent.tui.data.episode_feed import EpisodeFeed
from vlmagent.tui.data.episode_list import MOST_NEWS, OUTCOMES, PAGE, View
from vlmagent.tui.widgets.chip import Chip

ACTIONS = {
    "data": "data",
    "outcome": "outcome",
    "illegal": "illegal",
    "order": "order(1)",
    "updates": "updates",
    "search": "search",
    "news": "refresh",
}


class FilterBar(Horizontal):
    """Data, outcome, illegal outputs, order, updates, search; at the right what waits or is looked through."""

    DEFAULT_CSS = """
    FilterBar { height: 1; overflow-x: hidden; }
    FilterBar > #chip-news { dock: right; }
    """

    def compose(self) -> ComposeResult:
        for name, action in ACTIONS.items():
            yield Chip(f"screen.{action}", id=f"chip-{name}")

    def show(self, feed: EpisodeFeed) -> None:
        """Show the settings of a feed."""
        view, filter = feed.view, feed.view.filter
        # without a filter, the updates that there are
        updates = filter.updates or (feed.summary.updates if feed.summary else None)
        # a search has an order of its own
        order = "newest match" if view.text.strip() else view.order
        for name, label, value, chosen in (
            ("data", "data", feed.data_name, bool(feed.label)),
            ("outcome", "outcome", OUTCOMES[filter.success], filter.success is not None),
            ("illegal", "illegal", "only" if filter.illegal else "any", bool(filter.illegal)),
            ("order", "order", order, order != View().order),
            (
                "updates",
                "updates",
                # a single update is written once
                "–".join(map(str, sorted(set(updates)))) if updates else "all",
                filter.updates is not None,
            ),
            ("search", "/", view.text or "search", bool(view.text)),
        ):
            self.query_one(f"#chip-{name}", Chip).show(label, value, chosen)
        news = self.query_one("#chip-news", Chip)
        # a ranking that passes few rows may take seconds: say that it goes on
        if feed.loading and view.lists_outputs and feed.looked_at > PAGE:
            news.show("", f"looked through {feed.looked_at:,} …", True)
        else:
            # no more than MOST_NEWS are read, though more may have come
            count = f"{feed.waiting:,}{'+' if feed.waiting >= MOST_NEWS else ''}"
            news.show("r", f"▲ {count} new" if feed.waiting else "", True)
