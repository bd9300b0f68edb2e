"""`infinipot serve`: starts the server."""

import sys
from pathlib import Path
from typing import Any

import click

from infinipot import InfinipotError, extras
from infinipot.cli.output import load_quietly


@click.command(short_help="Serve streams over HTTP and WebSockets.")
@click.option("--model", metavar="ID_OR_PATH", help='A hub id, a folder, or "embedded".')
@click.option("--memory-total", metavar="BYTES", help="Memory that all streams may reserve together.  [default: 2GiB]")
@click.option("--memory", help="Default cap of a stream: tokens, or an amount such as 256MiB.")
@click.option("--policy", help="Default policy of a stream.  [default: infinipot-v]")
@click.option("--fps", type=float, help="Default frames per second of a stream.  [default: 2]")
@click.option("--gate", metavar="off|patches|otsu|SHARE", help="Default gate of a stream.  [default: off]")
@click.option("--look-again", type=int, metavar="N", help="Default for second looks of a stream.  [default: 0]")
@click.option("--step-tokens", type=int, metavar="N", help="Maximum tokens in one packed step.  [default: 2048]")
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=int, help="Port to listen on; 0 takes a free one.  [default: 8000]")
@click.option("--api-keys", metavar="FILE", type=Path, help="File with an owner's name and a key on each line.")
@click.option(
    "--snapshots", metavar="DIR", type=Path, help="Folder in which streams are saved, and from which they are restored."
)
@click.option(
    "--snapshot-seconds",
    type=float,
    help="Minimum seconds between two snapshots of a stream, each of which writes all that it holds.  [default: 600]",
)
@click.option("--events", metavar="FILE", type=Path, help="File for events.  [default: events.sqlite in --snapshots]")
@click.option("--media-root", metavar="DIR", type=Path, help="Folder below which file: addresses may be played.")
@click.option("--media-hosts", metavar="HOST,...", help="Fetch media only from these hosts, such as *.example.org.")
@click.option(
    "--media-networks",
    metavar="NETWORK",
    multiple=True,
    help="Private range that media may be fetched from. May be repeated.",
)
@click.option("--webhook-hosts", metavar="HOST,...", help="Send events only to these hosts, such as *.example.org.")
@click.option("--local-cameras", is_flag=True, help="Let clients watch this machine's cameras.")
@click.option("--demo", is_flag=True, help="Open the page on a camera of the synthetic world, with questions.")
@click.option("--cors-origins", metavar="ORIGIN,...", help="Origins of web pages that may call the server.")
@click.option(
    "--log-level", metavar="debug|info|warning|error", help="Log lines of this level and above.  [default: info]"
)
@click.option("--dtype", help="Type of the weights.  [default: auto]")
@click.option("--device", help="Device to run on, such as cpu, cuda or cuda:1.  [default: auto]")
@click.option(
    "--threads", type=int, metavar="N", help="CPU threads for the model.  [default: one less than the number of cores]"
)
@click.option("--revision", help="Revision of a hub checkpoint.")
@click.option(
    "--limit", "limits", metavar="NAME=VALUE", multiple=True, help="Set a limit, such as streams=64. May be repeated."
)
@click.option("--config", metavar="FILE", type=Path, help='TOML with these settings: memory_total = "8GiB", ...')
def serve(config: Path | None, limits: tuple[str, ...], **given: Any) -> None:
    """Serve streams: named, bounded memories that clients feed and ask over HTTP and WebSockets.

    Other settings come from INFINIPOT_SERVE_... in the environment, then from --config.

    \b
    infinipot serve --model embedded
    infinipot serve --model Qwen/Qwen2.5-VL-7B-Instruct --memory-total 8GiB --api-keys keys.txt --snapshots streams
    """
    if sys.platform == "win32":
        raise InfinipotError(
            "the server needs Linux or macOS: it decodes media under limits that Windows does not have"
        )
    extras.require("serve", "the server")
    from infinipot.serve.run import serve as run
    from infinipot.serve.settings import Settings

    # 0 is a port: it is False to Python, and yet was given.
    settings: dict[str, Any] = {
        name: value for name, value in given.items() if value is not None and value is not False and value != ()
    }
    if limits:
        settings["limits"] = dict(_pair(limit) for limit in limits)
    chosen = Settings.read(config, **settings)
    loading: dict[str, Any] = {"dtype": chosen.dtype, "device": chosen.device, "revision": chosen.revision}
    run(chosen, lambda: load_quietly(chosen.model, **loading))


def _pair(limit: str) -> tuple[str, str]:
    name, equals, value = limit.partition("=")
    if not equals:
        raise click.UsageError(f"--limit {limit}: give NAME=VALUE, such as streams=64")
    return name.replace("-", "_"), value
