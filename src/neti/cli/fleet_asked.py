"""What ``neti fleet`` was asked for: its filters, and words for what they come to."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

import click
from click.core import ParameterSource

from neti.fleet import attendance
from neti.fleet.attendance import Required, lasting, moment
from neti.fleet.listing import Row
from neti.fleet.selecting import OLD, Choice, left_out, nobody_like, off_by
from neti.model.labels import LABEL_KEY, is_value
from neti.words import counted, some

_FEW: Final = 5
# What else of the options these heed: whatever is left out of sight must not look as if it counted.
# A gate is about all hosts, or about a part that a host cannot leave by what goes wrong with it.
_HEED: Final[Mapping[str, frozenset[str]]] = {
    "used": frozenset(),
    "skipped": frozenset(),
    "required": frozenset({"site", "where", "excepted", "names", "fresh"}),
}
_EACH_HEEDS: Final = frozenset({"config", "as_json", "style"})


class Requirements(click.ParamType):  # type: ignore[type-arg]  # not generic in every click that will do
    """Several in one, with commas between."""

    name = "requirement"

    def get_metavar(self, *_: Any, **__: Any) -> str:
        return "WHAT[,WHAT]"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[Required, ...]:
        found: list[Required] = []
        for word in value.split(","):
            known = next((one for one in attendance.REQUIRED if one == word.strip()), None)
            if known is None:
                expected = ", ".join(attendance.REQUIRED)
                self.fail(f"{word!r} is not one of {expected}.", param, ctx)
            found.append(known)
        return tuple(found)


def labels_asked(
    _context: click.Context, option: click.Parameter, given: tuple[str, ...]
) -> tuple[tuple[str, str], ...]:
    found = []
    for word in given:
        key, equals, value = word.partition("=")
        if not equals or LABEL_KEY.fullmatch(key) is None or not is_value(value):
            raise click.UsageError(
                f"{option.opts[0]} {word!r}: expected a label and its value, such as tier=db"
            )
        found.append((key, value))
    return tuple(found)


site_option = click.option("--site", help="Only hosts of this site.")
where_option = click.option(
    "--where",
    multiple=True,
    metavar="LABEL=VALUE",
    callback=labels_asked,
    help="Only hosts with this label (labels in neti.yml). Repeatable.",
)


def key_asked(_context: click.Context, option: click.Parameter, given: str | None) -> str | None:
    if given is not None and LABEL_KEY.fullmatch(given) is None:
        raise click.UsageError(
            f"{option.opts[0]} {given!r}: expected a label such as tier, or site, stage, state or "
            "version"
        )
    return given


def refuse_what_is_not_heeded(context: click.Context) -> None:
    """Raises UsageError for an option that would be dropped without a word."""
    typed = _typed(context)
    for one, heeded in _HEED.items():
        if one not in typed:
            continue
        others = [typed[name] for name in typed.keys() - heeded - _EACH_HEEDS - {one}]
        if context.params["style"] not in ("table", "json"):
            others.append(f"--format {context.params['style']}")
        if others:
            raise click.UsageError(f"{typed[one]} does not go with {', '.join(sorted(others))}")


def refuse_before(context: click.Context, command: str) -> None:
    """Raises UsageError: an option of the listing says nothing to a command behind it."""
    if typed := sorted(_typed(context).values()):
        raise click.UsageError(f"{', '.join(typed)}: expected behind {command!r}, or not at all")


def _typed(context: click.Context) -> dict[str, str]:
    return {
        option.name: option.opts[0]
        for option in context.command.params
        if option.name is not None
        and context.get_parameter_source(option.name) is ParameterSource.COMMANDLINE
        and context.params[option.name] not in (False, None, ())
    }


def sentences(rows: Sequence[Row], now: float) -> Iterator[str]:
    """What operators did to hosts, and who has not been heard of, in a line each."""
    for word in ("down", "relaxed"):
        those = [row for row in rows if row.get(word) is not None]
        if those:
            yield f"{word}: {some([_order(row, word) for row in those], _FEW)}"
    off = [(row["id"], age) for row in rows if (age := off_by(row, now)) is not None]
    silent = [f"{host_id} {lasting(age)} ago" for host_id, age in off if age > 0]
    if silent:
        yield (
            f"said nothing for more than {lasting(OLD)}: {some(silent, _FEW)}: what is shown of "
            "these hosts is that old"
        )
    ahead = [f"{host_id} by {lasting(-age)}" for host_id, age in off if age < 0]
    if ahead:
        yield f"their clocks are ahead of this machine's: {some(ahead, _FEW)}"


def of_the_choice(
    choice: Choice, rows: Sequence[Row], away: Sequence[Row], *, found: bool
) -> Iterator[str]:
    """What a filter leaves unsaid. ``rows`` and ``away``: of the whole fleet; ``found``: whether
    there is anybody whom it lets through."""
    if not found and not choice.everybody:
        yield nobody_like(choice, rows, away)
    if unsaid := left_out(choice, rows, away):
        hosts = counted(len(unsaid), "host is", "hosts are")
        yield f"{hosts} left out, because nobody knows the labels there: {some(unsaid, _FEW)}"


def not_their_own(ids: Collection[str]) -> str | None:
    if not ids:
        return None
    return (
        f"what is said of these hosts goes with another session than their own, so it is not "
        f"believed: {some(ids)}. If it stays so for longer than session_seconds, somebody else "
        "made their document\n→ neti registry check"
    )


def for_operators(rows: Sequence[Row], *, in_part: bool) -> str | None:
    """``in_part``: this client may not read hosts' reports."""
    if not in_part or all(row["stage"] != "?" for row in rows):
        return None
    return (
        "how hosts are (their stage, encryption, problems, what they call) is for operators only\n"
        "→ an operator's certificate in registry_tls"
    )


def _order(row: Row, of: str) -> str:
    said = row[of]
    by = f" by {said['by']}" if said["by"] else ""
    since = f" since {moment(said['at'])}" if said["at"] is not None else ""
    until = f" until {moment(said['until'])}" if said["until"] is not None else ""
    return f"{row['id']}{since}{until}{by}"


def totals_lines(key: str, totals: Sequence[dict[str, Any]]) -> Iterator[str]:
    for one in totals:
        stages = ", ".join(f"{count} {stage}" for stage, count in one["stages"].items())
        bad = f"; {one['with_problems']} with a problem" if one["with_problems"] else ""
        value = one["value"] or "(none)"
        yield f"{key}={value}  {one['hosts']}: {stages}{bad}"
