"""Plain values to a checked form, with every pydantic error turned into a problem of the file.

Never stops at the first mistake: keys with a mistake are left out, and the rest is checked.
"""

import re
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from neti.config import schema, values
from neti.config.problems import Place, Problem, Said, Unfit, at, key_path, nearest
from neti.config.schema import ConfigForm
from neti.config.source import Document

_FORMS: Final[dict[str, type[BaseModel]]] = {
    "sites": schema.SiteForm,
    "identity": schema.StaticIdentityForm,
    "registry_tls": schema.TLSForm,
    "open_ports": schema.OpenPortForm,
}
_ITEMS_LIKE: Final = {
    "zk_hosts": "[10.0.0.5:2181]",
    "open_ports": "[80, 53/udp]",
    "addresses": "[10.0.0.6]",
    "vpc_ids": "[vpc-0a1b2c3d]",
    "networks": "[prod]",
    "gateways": "[gw-1, gw-2]",
    "member_ports": "[app, web]",
}
_NETWORKS_LIKE: Final = {"ipv6": '["2001:db8:1::/48"]'}
_MAPPINGS_LIKE: Final = {
    "sites": "{ec2: {private: [10.0.0.0/16]}, vpc: {private: [10.1.0.0/16]}}",
    "zk_hosts": "{ec2: [10.0.0.5:2181], vpc: [10.1.0.5:2181]}",
    "member_ports": "{5432: [app], 53/udp: [members], all: [ops]}",
    "labels": "{tier: db, rack: 12}",
    "nat_overrides": "{192.168.0.9: 10.0.0.9}",
    "registry_tls": "{ca: /etc/neti/ca.pem, cert: /etc/neti/host.pem, key: /etc/neti/host.key}",
}
_OF_A_SITE: Final = frozenset(
    {field.alias or name for name, field in schema.SiteForm.model_fields.items()}
    - {field.alias or name for name, field in ConfigForm.model_fields.items()}
)
_PLAIN: Final = re.compile(r"[A-Za-z0-9./:_-]{1,60}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Validated:
    """``form`` without the keys in ``failed``, whose problems are in ``problems``."""

    form: ConfigForm
    failed: frozenset[str]
    problems: tuple[Problem, ...]


def validate(document: Document) -> Validated:
    """The document as a form. Raises nothing; errors are in its problems."""
    if not isinstance(document.value, dict):
        return _nothing_valid(document)
    problems = [
        problem
        for problem in _problems(document.value, document)
        if problem.place not in document.unreadable
    ]
    failed = {str(place[0]) for place in document.unreadable if place}
    failed |= {str(problem.place[0]) for problem in problems}
    content = {key: value for key, value in document.value.items() if key not in failed}
    return Validated(
        form=ConfigForm.model_validate(content),
        failed=frozenset(failed),
        problems=tuple(problems),
    )


def _nothing_valid(document: Document) -> Validated:
    empty = document.value is None
    found = Said("nothing in the file") if empty else document.value
    problem = at((), document.line_of(()), Unfit(found, "keys such as zk_hosts: or registry:"))
    return Validated(
        form=ConfigForm(),
        failed=frozenset(ConfigForm.model_fields),
        problems=() if document.problems else (problem,),
    )


def _problems(value: dict[str, object], document: Document) -> list[Problem]:
    try:
        ConfigForm.model_validate(value)
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=True)
    else:
        return []
    return [_problem(detail, document) for detail in details]


def _problem(detail: ErrorDetails, document: Document) -> Problem:
    place = _place(detail["loc"])
    line = document.line_of(place)
    if detail["type"] == "extra_forbidden":
        return _unknown_key(place, line)
    if detail["type"] == "missing":
        return Problem(
            line=line,
            place=place,
            found="missing",
            expected=f"it next to the other keys of {key_path(place[:-1]) or 'the file'}",
        )
    return at(place, line, _unfit(detail, place))


def _place(loc: tuple[int | str, ...]) -> Place:
    # pydantic adds "[key]" when a key itself is wrong, and names the branch of identity's union.
    # Remove them only there, because keys of the file may have the same names.
    if len(loc) > 1 and loc[-1] == "[key]":
        loc = loc[:-1]
    if loc[0] == "identity" and len(loc) > 1:
        loc = (loc[0], *loc[2:])
    return loc


def _unknown_key(place: Place, line: int) -> Problem:
    form = ConfigForm if len(place) == 1 else _FORMS[str(place[0])]
    known = [field.alias or name for name, field in form.model_fields.items()]
    name = str(place[-1])
    if len(place) == 1 and name in _OF_A_SITE:
        expected = f"it inside a site: sites.NAME.{name}"
        return Problem(line=line, place=place, found="unknown key", expected=expected)
    hint = nearest(name, known)
    listed = "" if hint or len(known) > 8 else f" ({', '.join(known)})"
    expected = f"a known key{listed}" if listed or hint else "a key that `neti config schema` lists"
    return Problem(line=line, place=place, found="unknown key", expected=expected, hint=hint)


def _unfit(detail: ErrorDetails, place: Place) -> Unfit:
    context: dict[str, Any] = detail.get("ctx", {})
    reason, found = context.get("error"), detail["input"]
    if isinstance(reason, Unfit):
        return reason
    names = [part for part in place if isinstance(part, str)]
    # These are mappings whose values are lists.
    last = (
        names[0]
        if names and names[0] in ("zk_hosts", "member_ports")
        else (names[-1] if names else "")
    )
    match detail["type"]:
        case "list_type":
            like = _ITEMS_LIKE.get(last) or _NETWORKS_LIKE.get(last, "[192.0.2.0/24]")
            fits = isinstance(found, str) and (last in _ITEMS_LIKE or _is_network(found))
            plain = fits and _PLAIN.fullmatch(str(found))
            return Unfit(found, f"a list such as {like}", write=f"[{found}]" if plain else None)
        case "dict_type" | "model_type" | "model_attributes_type":
            if place[0] == "sites" and len(place) > 1:
                return Unfit(found, "a mapping such as {private: [10.0.0.0/16]}")
            return Unfit(found, f"a mapping such as {_MAPPINGS_LIKE.get(last, '{key: value}')}")
        case "literal_error":
            return Unfit(found, str(context.get("expected", "another value")).replace("'", ""))
    return Unfit(found, detail["msg"])


def _is_network(text: str) -> bool:
    """Wrap only what fits as an item of the list."""
    try:
        values.network(text)
    except Unfit as unfit:
        return unfit.write is not None  # reported next, with the value that was meant
    return True
