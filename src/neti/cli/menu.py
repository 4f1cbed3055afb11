"""Groups of commands: how their help lists them, and which one was meant.

Must never do: cut the sentence that tells what a command is for.
"""

import difflib
from collections.abc import Iterable

import click

_UNBROKEN = "\N{NON-BREAKING HYPHEN}"


class Formatter(click.HelpFormatter):
    """Breaks lines between words only, never behind the hyphen of an option or a file's name."""

    def write_text(self, text: str) -> None:
        super().write_text(text.replace("-", _UNBROKEN))

    def write_dl(
        self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2
    ) -> None:
        whole = [(name, told.replace("-", _UNBROKEN)) for name, told in rows]
        super().write_dl(whole, col_max, col_spacing)

    def getvalue(self) -> str:
        return super().getvalue().replace(_UNBROKEN, "-")


class Group(click.Group):
    """Lists its commands whole, perhaps in sections, and names the nearest to one that is not."""

    def sections(self, ctx: click.Context) -> dict[str, list[str]]:
        """By title, in the order of --help."""
        return {"Commands": self.list_commands(ctx)}

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        found = {
            title: [
                (name, command.get_short_help_str(formatter.width * 4))
                for name in names
                if (command := self.get_command(ctx, name)) is not None and not command.hidden
            ]
            for title, names in self.sections(ctx).items()
        }
        widest = max((len(name) for rows in found.values() for name, _ in rows), default=0)
        for title, rows in found.items():
            if rows:
                with formatter.section(title):
                    # One column through all sections.
                    formatter.write_dl([(name.ljust(widest), told) for name, told in rows])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchOption:
            raise
        except click.UsageError as error:
            near = difflib.get_close_matches(args[0], self.list_commands(ctx), 1)
            if not near:
                raise
            raise click.UsageError(f"{error.message} Did you mean {near[0]!r}?", ctx) from None
