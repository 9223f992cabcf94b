"""Tables of results in Markdown."""

from typing import Any

Rows = list[dict[str, Any]]


def table(rows: Rows) -> str:
    """The rows as a Markdown table: the first one's keys are the head."""

    def cell(value: Any) -> str:
        if isinstance(value, float):
            return f"{value:.3f}" if abs(value) <= 1 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"
        return f"{value:,}" if isinstance(value, int) else str(value)

    head = list(rows[0])
    lines = [head, ["---"] * len(head), *([cell(row[name]) for name in head] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
