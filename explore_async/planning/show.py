"""Shows a plan on the terminal and as JSON."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.table import Table

from explore_async.planning.plan import Plan


def document(plan: Plan, profile: str) -> dict[str, Any]:
    return {
        "simulated": True,
        "profile": profile,
        **asdict(plan),
        "gpu_hours": plan.gpu_hours,
        "requests_per_s": plan.requests_per_s,
        "warnings": plan.warnings,
    }


def show(plan: Plan, profile: str, console: Console) -> None:
    console.print(f"An estimate with a modelled engine ({profile}); no model was asked.")
    table = Table.grid(padding=(0, 3))
    table.add_row("engines, window", f"{plan.engines:,}, {plan.window:,}")
    table.add_row("examples, tasks", f"{plan.examples:,}, {plan.tasks:,}")
    table.add_row("requests", f"{plan.requests:,}" + _rehearsed(plan))
    table.add_row("prompt tokens", f"{plan.prompt_tokens:,}, of which cached {plan.cached_tokens:,}")
    table.add_row("completion tokens", f"{plan.answer_tokens:,}  ({plan.answer_tokens / plan.seconds:,.0f} a second)")
    table.add_row("trees complete after", duration(plan.explored_s))
    table.add_row("wall time", duration(plan.seconds))
    table.add_row("GPU hours", f"{plan.gpu_hours:,.2f}")
    table.add_row("slots busy", f"{plan.busy:.0%}")
    console.print(table)
    for warning in plan.warnings:
        console.print(f"[yellow]warning:[/] {warning}")


def _rehearsed(plan: Plan) -> str:
    return "" if plan.rehearsed == plan.requests else f"  ({plan.rehearsed:,} rehearsed, the rest extrapolated)"


def duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
