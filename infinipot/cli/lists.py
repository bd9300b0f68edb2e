"""`infinipot policies` and `infinipot models`: what there is to choose from."""

from dataclasses import asdict
from typing import Any

import click
from rich.table import Table
from rich.text import Text

import infinipot
from infinipot.cli.options import policy_of
from infinipot.cli.output import print_json, print_table, quiet_libraries
from infinipot.config import POLICY

_EMBEDDED = {
    "title": "embedded",
    "model_types": ["qwen2_5_vl"],
    "modality": "video",
    "summary": "small, ships with the package, knows the synthetic world of `infinipot demo`",
}

_OWN = "unusual"
_NEEDS = {  # by what a policy's published form knows, see `Policy.knows`
    "question": "the question, in the published form",
    "offline": "the whole video, in the published form",
}


@click.command(short_help="List the policies with their options and papers.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def policies(as_json: bool) -> None:
    """List the policies: what each keeps, its options with their defaults, and its paper.

    Options follow the name: --policy infinipot-v:combine=union,alpha=0.4
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
    click.echo(f"The default is {POLICY}. Where room is short, {_OWN} remembered most of those that were measured.\n")
    table = Table(box=None, padding=(0, 2, 1, 0), header_style="bold")
    table.add_column("policy", no_wrap=True)
    table.add_column("keeps, options and paper")
    for policy in available:
        options = ", ".join(f"{name}={value}" for name, value in policy.defaults().items())
        lines = Text(policy.summary())
        needs = _NEEDS.get(policy.knows, policy.knows)
        for label, text in (("options", options), ("paper", policy.paper), ("needs", needs)):
            if text:
                lines.append(f"\n{label} {text}", "dim")
        table.add_row(Text(policy.name), lines)
    print_table(table)


@click.command(short_help="List the model families, or what memories cost with them.")
@click.option(
    "--memory",
    metavar="TOKENS,...",
    help="List instead how much memory these caps take, in GB (10^9 bytes): in bfloat16, or with --model in its type.",
)
@click.option(
    "--model",
    "names",
    metavar="ID_OR_PATH",
    multiple=True,
    help="With --memory: a checkpoint, of which only config.json is read.  [default: well-known ones]",
)
@click.option("--policy", help=f"With --memory: the policy, which may store columns of its own.  [default: {POLICY}]")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def models(memory: str | None, names: tuple[str, ...], policy: str | None, as_json: bool) -> None:
    """List the model families that --model takes, and the small model that ships with the package.

    \b
    infinipot models --memory 4096,8192
    """
    if memory is not None:
        _print_sizes(_caps(memory), names, policy or POLICY, as_json)
        return
    if names or policy:
        raise click.UsageError(f"{'--model' if names else '--policy'} needs --memory, such as --memory 4096")
    from infinipot.models import PARITY

    if as_json:
        known: list[dict[str, Any]] = [
            {
                "title": adapter.title,
                "model_types": list(adapter.model_types),
                "modality": adapter.modality,
                "checked": adapter.checked,
            }
            for adapter in infinipot.models.adapters()
        ]
        print_json([*known, _EMBEDDED])
        return
    click.echo(f"Checkpoints, by hub id or folder, of these model types. Checked for each: {PARITY}.\n")
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("family", no_wrap=True)
    table.add_column("model types", no_wrap=True)
    table.add_column("of note")
    for adapter in infinipot.models.adapters():
        more = adapter.checked.removeprefix(PARITY).lstrip(" ,:;")
        table.add_row(Text(adapter.title), Text(", ".join(adapter.model_types)), Text(more, "dim"))
    table.add_row("embedded", '"embedded"', Text(str(_EMBEDDED["summary"]), "dim"))
    print_table(table)


def _caps(memory: str) -> list[int]:
    """The caps that `--memory` names."""
    parts = memory.replace(" ", "").split(",")
    if not all(part.isdecimal() and int(part) for part in parts):
        raise click.UsageError(f"--memory {memory}: give tokens, such as 4096 or 4096,8192")
    return [int(part) for part in parts]


def _print_sizes(caps: list[int], names: tuple[str, ...], policy: str, as_json: bool) -> None:
    """Prints the bytes of memories of these caps, a line for each checkpoint."""
    from infinipot.sizes import published_sizes, size_of

    chosen = policy_of(policy)
    if names:
        quiet_libraries()
    sizes = [size_of(name, caps, chosen) for name in names] if names else list(published_sizes(caps, chosen))
    if as_json:
        print_json([asdict(size) | {"memories": dict(zip(caps, size.memories, strict=True))} for size in sizes])
        return
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="bold")
    table.add_column("checkpoint", no_wrap=True)
    for column in ("KB a token", *(f"GB at {cap:,}" for cap in caps), *(["GB of weights"] if names else [])):
        table.add_column(column, justify="right")
    for size in sizes:
        beside = ["quantized" if size.weights is None else f"{size.weights / 1e9:.3f}"] if names else []
        memories = (f"{each / 1e9:.3f}" for each in size.memories)
        table.add_row(Text(size.name), f"{size.token / 1e3:.1f}", *memories, *beside)
    print_table(table)
