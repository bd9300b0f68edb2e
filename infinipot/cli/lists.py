"""`infinipot policies` and `infinipot models`: what there is to choose from."""

import sys
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

import infinipot
from infinipot.cli.output import print_json

_EMBEDDED = {
    "title": "embedded",
    "model_types": ["qwen2_5_vl"],
    "modality": "video",
    "summary": "small, ships with the package, knows the synthetic world of `infinipot demo`",
}


@click.command(short_help="List the policies with their options and papers.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def policies(as_json: bool) -> None:
    """List the policies: what each keeps, its options with their defaults, and its paper.

    Options go behind the name: --policy infinipot-v:combine=union,alpha=0.4
    """
    available = infinipot.policies.available()
    if as_json:
        print_json(
            [
                {
                    "name": policy.name,
                    "summary": policy.summary(),
                    "options": policy.defaults(),
                    "evicts": policy.evicts,
                    "knows": policy.knows,
                    "paper": policy.paper,
                }
                for policy in available
            ]
        )
        return
    table = Table(box=None, padding=(0, 2, 1, 0), header_style="bold")
    table.add_column("policy", no_wrap=True)
    table.add_column("keeps, options and paper")
    for policy in available:
        options = ", ".join(f"{name}={value}" for name, value in policy.defaults().items())
        lines = Text(policy.summary())
        knows = f"{policy.knows}, as published" if policy.knows else ""
        for label, text in (("options", options), ("paper", policy.paper), ("knows", knows)):
            if text:
                lines.append(f"\n{label} {text}", "dim")
        table.add_row(Text(policy.name), lines)
    _print(table)


@click.command(short_help="List the model families.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def models(as_json: bool) -> None:
    """List the model families that --model takes, and the small model that ships with the package."""
    from infinipot.models.base import PARITY

    if as_json:
        known: list[dict[str, Any]] = [
            {
                "title": family.title,
                "model_types": list(family.model_types),
                "modality": family.modality,
                "checked": family.checked,
            }
            for family in infinipot.models.families()
        ]
        print_json([*known, _EMBEDDED])
        return
    click.echo(f"Checkpoints, by hub id or folder, of these model types. Checked for each: {PARITY}.\n")
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("family", no_wrap=True)
    table.add_column("model types", no_wrap=True)
    table.add_column("of note")
    for family in infinipot.models.families():
        more = family.checked.removeprefix(PARITY).lstrip(" ,:;")
        table.add_row(Text(family.title), Text(", ".join(family.model_types)), Text(more, "dim"))
    table.add_row("embedded", '"embedded"', Text(str(_EMBEDDED["summary"]), "dim"))
    _print(table)


def _print(table: Table) -> None:
    """To stdout; where that is no terminal, lines may be long."""
    Console(width=None if sys.stdout.isatty() else 160).print(table)
