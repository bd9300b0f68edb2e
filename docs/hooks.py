"""Pages of the site that are made from the code or from files outside docs/: for MkDocs, see `hooks` in mkdocs.yml."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

from infinipot.cli import main

ROOT = Path(__file__).parents[1]
_WIDTH = 100
_PAGES = ("CONTRIBUTING", "CHANGELOG", "SECURITY")  # of the repository's root
_FOREIGN = re.compile(r'<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)="(?:https?:)?//[^"]*"')


def on_files(files: Files, config: Any) -> Files:
    """Adds the reference of the command line, and the files of the repository's root that are pages."""
    made = {"reference/cli.md": commands()}
    made |= {f"{name.lower()}.md": _moved((ROOT / f"{name}.md").read_text()) for name in _PAGES}
    for place, text in made.items():
        files.append(File.generated(config, place, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Has links out of docs/, to files of the repository's root that are pages here, lead to those pages."""
    return re.sub(
        rf"\]\(\.\./((?:\.\./)*)({'|'.join(_PAGES)})\.md", lambda link: f"]({link[1]}{link[2].lower()}.md", markdown
    )


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Makes sure that a page loads nothing from another host: the site works offline, and tells nobody who reads it."""
    if found := _FOREIGN.search(output):
        raise PluginError(f"{page.file.src_uri} loads from another host: {found[0]}")
    return output


def commands() -> str:
    """Returns every command with its help, as Markdown."""
    parts = ["# Command line\n", "Made from the code: what `--help` says of each command.\n"]
    for words, command in _all(main, ("infinipot",)):
        context = click.Context(command, info_name=" ".join(words), max_content_width=_WIDTH, terminal_width=_WIDTH)
        parts.append(f"## {' '.join(words)}\n\n```text\n{command.get_help(context)}\n```\n")
    return "\n".join(parts)


def _all(command: click.Command, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yields a command and those below it, by the words that call them."""
    yield words, command
    if isinstance(command, click.Group):
        for name, each in command.commands.items():
            yield from _all(each, (*words, name))


def _moved(text: str) -> str:
    """A page of the repository's root as one of docs/: links lose that folder, those to code become plain text."""
    text = re.sub(r"\]\(docs/", "](", text)
    return re.sub(r"\[([^\]]+)\]\((?!https?:|#)(?![^)]*\.md[)#])[^)]+\)", r"\1", text)
