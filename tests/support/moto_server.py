"""moto's server, made as strict as AWS where moto is known not to be; a process of its own.

    python -m tests.support.moto_server PORT

Beside moto it counts a group's rules by their weights and a list's entries against its MaxEntries,
refuses a stale version of a list, changes a list's MaxEntries, and adds the rules of one call all
or none. On order it fails calls the way AWS was seen to, and it tells which calls were made:

    POST /neti-test/faults   [{"action", "code", "message", "status", "skip", "times"}, …]
    POST /neti-test/quota    a number of rules for each group
    GET  /neti-test/calls    names of the calls since the last reset, in order
    POST /neti-test/reset    none of all that; moto's own state is not touched
"""

import json
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from typing import Any
from urllib.parse import parse_qsl

from moto.backends import get_backend
from moto.ec2.models import security_groups
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, run_simple

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
Parameters = dict[str, str]

_SOURCE = re.compile(
    r"IpPermissions\.\d+\.(IpRanges\.\d+\.CidrIp|Ipv6Ranges\.\d+\.CidrIpv6"
    r"|(?:Groups|UserIdGroupPairs)\.\d+\.GroupId|PrefixListIds\.\d+\.PrefixListId)"
)
_CHANGED_RULES = ("AuthorizeSecurityGroupIngress", "RevokeSecurityGroupIngress")


class Strict:
    """WSGI: moto behind what it lacks."""

    def __init__(self) -> None:
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._lock = threading.Lock()
        self._reset()

    def _reset(self) -> None:
        self.faults: list[dict[str, Any]] = []
        self.quota = 60
        self.calls: list[str] = []

    def __call__(self, environ: Environ, start: StartResponse) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = BytesIO(body)
        if environ["PATH_INFO"].startswith("/neti-test/"):
            return self._order(environ["PATH_INFO"], body, start)
        parameters = dict(parse_qsl(body.decode(errors="replace")))
        action = parameters.get("Action") or environ.get("HTTP_X_AMZ_TARGET", "").rpartition(".")[2]
        if not action:
            return self._moto(environ, start)  # type: ignore[no-any-return]  # moto has no types
        with self._lock:
            self.calls.append(action)
            if refusal := self._fault(action) or self._objection(action, parameters):
                return _refuse(start, *refusal)
            return self._pass_on(action, parameters, environ, start)

    def _order(self, path: str, body: bytes, start: StartResponse) -> Iterable[bytes]:
        order = path.rpartition("/")[2]
        with self._lock:
            if order == "faults":
                self.faults += json.loads(body)
            elif order == "quota":
                self.quota = json.loads(body)
            elif order == "reset":
                self._reset()
            answer = json.dumps(self.calls).encode()
        start(
            "200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))]
        )
        return [answer]

    def _fault(self, action: str) -> tuple[int, str, str] | None:
        for fault in self.faults:
            if fault["action"] != action or fault["times"] <= 0:
                continue
            if fault["skip"] > 0:
                fault["skip"] -= 1
                return None
            fault["times"] -= 1
            return fault["status"], fault["code"], fault["message"]
        return None

    def _objection(self, action: str, asked: Parameters) -> tuple[int, str, str] | None:
        if action == "AuthorizeSecurityGroupIngress":
            return self._over_quota(asked)
        if action == "CreateManagedPrefixList":
            return _too_many(int(asked["MaxEntries"]), _count(asked, "Entry"))
        if action == "ModifyManagedPrefixList":
            return self._modify_objection(asked)
        return None

    def _over_quota(self, asked: Parameters) -> tuple[int, str, str] | None:
        group = _group(asked["GroupId"])
        added = [value for key, value in asked.items() if _SOURCE.fullmatch(key)]
        if _count_of([*_sources(group), *added]) > self.quota:
            return (
                400,
                "RulesPerSecurityGroupLimitExceeded",
                "The maximum number of rules per security group has been reached.",
            )
        return None

    def _modify_objection(self, asked: Parameters) -> tuple[int, str, str] | None:
        listed = _list(asked["PrefixListId"])
        adds, removes = _count(asked, "AddEntry"), _count(asked, "RemoveEntry")
        if "MaxEntries" in asked:
            if adds or removes:
                return 400, "InvalidRequest", "MaxEntries and entries cannot change in one request."
            return self._resize_objection(listed, int(asked["MaxEntries"]))
        if adds + removes > 100:
            return 400, "InvalidRequest", "At most 100 entries can change in one request."
        if int(asked["CurrentVersion"]) != listed.version:
            return (
                400,
                "PrefixListVersionMismatch",
                f"The prefix list {listed.id} has the version {listed.version}.",
            )
        return _too_many(int(listed.max_entries), len(_entries(listed)) + adds - removes)

    def _resize_objection(self, listed: Any, entries: int) -> tuple[int, str, str] | None:
        before, listed.max_entries = listed.max_entries, str(entries)
        fits = all(_count_of(_sources(g)) <= self.quota for g in _groups())
        if not fits or entries < len(_entries(listed)):
            listed.max_entries = before
            return 400, "InvalidParameterValue", f"MaxEntries {entries} cannot be."
        return None

    def _pass_on(
        self, action: str, asked: Parameters, environ: Environ, start: StartResponse
    ) -> Iterable[bytes]:
        """moto's own answer; what it changed in spite of an error is undone."""
        statuses: list[str] = []

        def note(status: str, *arguments: Any) -> Any:
            statuses.append(status)
            return start(status, *arguments)

        group = _group(asked["GroupId"]) if action in _CHANGED_RULES else None
        rules = list(group.ingress_rules) if group is not None else []
        listed = _list(asked["PrefixListId"]) if action == "ModifyManagedPrefixList" else None
        name = listed.prefix_list_name if listed is not None else ""
        answer = list(self._moto(environ, note))
        if group is not None and not statuses[0].startswith("2"):
            group.ingress_rules[:] = rules
        if listed is not None:
            listed.prefix_list_name = name  # moto forgets it
        return answer


def _refuse(start: StartResponse, status: int, code: str, message: str) -> Iterable[bytes]:
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n<Response><Errors><Error>'
        f"<Code>{code}</Code><Message>{message}</Message></Error></Errors>"
        "<RequestID>11111111-2222-3333-4444-555555555555</RequestID></Response>"
    ).encode()
    if code.endswith("Exception"):  # a JSON service
        body = json.dumps({"__type": code, "message": message}).encode()
    headers = [("Content-Type", "text/xml;charset=UTF-8"), ("Content-Length", str(len(body)))]
    start(f"{status} X", headers)
    return [body]


def _too_many(most: int, entries: int) -> tuple[int, str, str] | None:
    if entries > most:
        return 400, "PrefixListMaxEntriesExceeded", f"The prefix list holds {most} entries at most."
    return None


def _count(asked: Parameters, kind: str) -> int:
    return sum(1 for key in asked if re.fullmatch(rf"{kind}\.\d+\.Cidr", key))


def _count_of(sources: Iterable[str]) -> int:
    """The larger family's weight, as AWS counts it."""
    count = {4: 0, 6: 0}
    for source in sources:
        if source.startswith("pl-"):
            listed = _list(source)
            count[6 if listed.address_family == "IPv6" else 4] += int(listed.max_entries or 1)
        elif source.startswith("sg-"):
            count[4] += 1
            count[6] += 1
        else:
            count[6 if ":" in source else 4] += 1
    return max(count.values())


def _sources(group: Any) -> Iterator[str]:
    for rule in group.ingress_rules:
        for range_ in rule.ip_range if isinstance(rule.ip_range, list) else [rule.ip_range]:
            if range_:
                yield range_.get("CidrIp") or range_["CidrIpv6"]
        if rule.source_group:
            yield rule.source_group["GroupId"]
        if rule.prefix_list_id:
            yield rule.prefix_list_id


def _backends() -> Iterator[Any]:
    for account in list(get_backend("ec2").values()):
        yield from account.values()


def _groups() -> Iterator[Any]:
    for backend in _backends():
        for by_id in backend.groups.values():
            yield from by_id.values()


def _group(group_id: str) -> Any:
    return next(group for group in _groups() if group.id == group_id)


def _list(list_id: str) -> Any:
    return next(
        b.managed_prefix_lists[list_id] for b in _backends() if list_id in b.managed_prefix_lists
    )


def _entries(listed: Any) -> list[Any]:
    return listed.entries.get(listed.version) or []


def _names_a_list(self: Any, values: list[str]) -> bool:
    """The filter ip-permission.prefix-list-id, which moto lacks."""
    return bool(set(values) & set(_sources(self)))


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: Any) -> None:
        return None


def main() -> None:
    group: Any = security_groups.SecurityGroup
    group.filter_ip_permission__prefix_list_id = _names_a_list
    backend: Any = security_groups.SecurityGroupBackend
    backend._verify_group_will_respect_rule_count_limit = lambda *_, **__: None
    run_simple("127.0.0.1", int(sys.argv[1]), Strict(), threaded=True, request_handler=_Quiet)


if __name__ == "__main__":
    main()
