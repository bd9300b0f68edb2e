"""`infinipot serve`: starts the server."""

from pathlib import Path
from typing import Any

import click

from infinipot.cli.output import load_quietly
from infinipot.errors import InfinipotError


@click.command(short_help="Serve streams over HTTP and WebSockets.")
@click.option("--model", metavar="ID_OR_PATH", help='A hub id, a folder, or "embedded".')
@click.option("--memory-total", metavar="BYTES", help="That all streams may reserve together.  [default: 2GiB]")
@click.option("--memory", help="Of a stream that does not say: tokens, or an amount such as 256MiB.")
@click.option("--policy", help="Of a stream that does not say.  [default: infinipot-v]")
@click.option("--fps", type=float, help="Of a stream that does not say.  [default: 2]")
@click.option("--gate", metavar="otsu|SHARE", help="Of a stream that does not say.  [default: off]")
@click.option("--look-again", type=int, metavar="N", help="Of a stream that does not say.  [default: 0]")
@click.option("--host", help="Where to listen.  [default: 127.0.0.1]")
@click.option("--port", type=int, help="Where to listen; 0 for a free one.  [default: 8000]")
@click.option("--api-keys", metavar="FILE", type=Path, help="Lines of an owner's name and a key.")
@click.option("--snapshots", metavar="DIR", type=Path, help="Where streams are saved, and restored from at the start.")
@click.option("--snapshot-seconds", type=float, help="How often streams are saved.  [default: 60]")
@click.option("--events", metavar="FILE", type=Path, help="Where events are kept.  [default: beside the snapshots]")
@click.option("--media-root", metavar="DIR", type=Path, help="Below which file: addresses are played.")
@click.option("--media-hosts", metavar="HOST,...", help="From which media is fetched; *.example.org takes all below.")
@click.option("--media-networks", metavar="NETWORK", multiple=True, help="A private range that may be fetched from.")
@click.option("--webhook-hosts", metavar="HOST,...", help="To which events are sent; *.example.org takes all below.")
@click.option("--local-cameras", is_flag=True, help="Let clients watch the cameras of this machine.")
@click.option("--demo", is_flag=True, help="Open the page on a camera of the synthetic world, with questions.")
@click.option("--cors-origins", metavar="ORIGIN,...", help="Web pages that may call.")
@click.option("--dtype", help="Of the weights.  [default: auto]")
@click.option("--device", help="Such as cpu, cuda or cuda:1.  [default: auto]")
@click.option("--threads", type=int, metavar="N", help="Of the CPU, for the model.  [default: cores less one]")
@click.option("--revision", help="Of a hub checkpoint.")
@click.option("--limit", "limits", metavar="NAME=VALUE", multiple=True, help="Sets a limit, such as streams=64.")
@click.option("--config", metavar="FILE", type=Path, help='TOML with these settings: memory_total = "8GiB", ...')
def serve(config: Path | None, limits: tuple[str, ...], **given: Any) -> None:
    """Serve streams: named bounded memories that are fed and asked over HTTP and WebSockets.

    Settings not given here are taken from INFINIPOT_SERVE_... in the environment, then from --config.

    \b
    infinipot serve --model embedded
    infinipot serve --model Qwen/Qwen2.5-VL-7B-Instruct --memory-total 8GiB --api-keys keys.txt --snapshots streams
    """
    try:
        from infinipot.serve.run import serve as run
        from infinipot.serve.settings import Settings
    except ModuleNotFoundError as error:
        raise InfinipotError(
            f"the server needs {error.name}, which is not installed: pip install 'infinipot[serve]'"
        ) from None
    # 0 is a port: it is False to Python, and yet was given.
    settings: dict[str, Any] = {
        name: value for name, value in given.items() if value is not None and value is not False and value != ()
    }
    if limits:
        settings["limits"] = dict(_pair(limit) for limit in limits)
    found = Settings.read(config, **settings)
    loading: dict[str, Any] = {"dtype": found.dtype, "device": found.device, "revision": found.revision}
    run(found, lambda: load_quietly(found.model, **loading))


def _pair(limit: str) -> tuple[str, str]:
    name, equals, value = limit.partition("=")
    if not equals:
        raise click.UsageError(f"--limit {limit}: give NAME=VALUE, such as streams=64")
    return name.replace("-", "_"), value
