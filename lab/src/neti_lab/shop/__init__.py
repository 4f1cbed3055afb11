"""A small shop in four tiers, with people who use it all the time, to be moved while they do.

Each program is started as ``python -m neti_lab.shop ROLE CONFIG.json`` inside a host's namespace,
listens on all addresses, reads its file again when that changes, and ends politely on SIGTERM.
Must never lose a user's order that was acknowledged, nor hide a failure or a retry: what the shop
is for is to show what a migration does to those who depend on it.

::

    users ──HTTP──▶ web ──lines──▶ app ──▶ database ═══▶ standby
    (outside)                       └────▶ cache          (another database)

Configurations (JSON; a key that is not known is refused; ENDPOINT is "ADDRESS:PORT", paths are
absolute). "host" is the name in answers and statistics: give it, for network namespaces share the
machine's host name. "port" may be given to all that listen; 0 lets the kernel choose, and the log
says what (``shop-listening port=…``). What is marked * is followed when the file changes::

    web       {"apps"*: [ENDPOINT…], "host", "port", "stats"}
    app       {"database"*: ENDPOINT, "cache"*: ENDPOINT, "host", "port", "stats"}
    cache     {"host", "port", "stats"}
    database  {"file": PATH, "control": PATH, "standby_of"*: ENDPOINT or null, "host", "port",
               "stats"}
    users     {"webs"*: [ENDPOINT…], "rate"*: 50, "stats", "trace", "orders", "host"}
    clients   {"targets"*: {"app": [ENDPOINT…], "database": […], "cache": […]}, "rate"*: 20,
               "stats", "trace", "host"}
    scanner   {"targets"*: [ENDPOINT…], "stats", "host"}

A database that follows a primary is pointed elsewhere by "standby_of"; one that has handed over
becomes a standby when it is given one. On a start, what its own file says of its role comes first,
then "standby_of".

Statistics are replaced as a whole every 200 ms and once more at the end. "at" and all other times
are CLOCK_MONOTONIC in seconds, the same in all processes of the machine; counts are since the
start; "errors" are the last five as [time, text]::

    users, clients  {"at", "requests", "failures", "wrong", "errors",
                     "by_host": {TIER: {HOST: requests}},
                     "seen_from": {TIER: {HOST: {ADDRESS of its caller: requests}}},
                     "hidden_retries": {"requests": that somebody repeated for us,
                                        "web": fail-overs, "app": repeats to the database},
                     "long": {"requests", "failures", "opened", "goodbyes"},
                     "recent": [[due, latency_ms, ok]…] that ended in the last 2 s}
                    users also "acknowledged": orders
    scanner         {"at", "tries", "refused", "timed_out", "unreachable",
                     "hits": [[begun, TARGET]…] the last 1000, "hit_count",
                     "hits_by_target": {TARGET: hits}}
    web             {"at", "host", "requests", "failures", "failovers", "errors"}
    app             {"at", "host", "requests", "failures", "errors",
                     "database": {"reconnects", "repeats", "longest_wait_ms"},
                     "cache": {"hits", "misses", "failures", and the three of the database}}
    cache           {"at", "host", "keys"}
    database        what ``control SOCKET status`` prints, and "at"

"failures" include "wrong" ones: answers that are not true, such as an acknowledged order that is
not found. "requests" and "failures" include the long connections', which "long" tells apart. A
request's time runs from when it was due. A "goodbye" is a service closing an idle long connection
of its own accord and saying so; it is neither a request nor a failure. A trace holds one
[due, latency_ms, ok] a line; "orders" is written at the end: {"orders": {ID: NUMBER}}.

``python -m neti_lab.shop control SOCKET COMMAND`` prints JSON and exits with 0, or with 1 when
there is an "error" in it::

    status     {"host", "role": "primary" | "standby" | "handed_over" | "failed", "sequence",
                "clients": {ADDRESS: connections}, "lag", and
                of a primary: "standby_attached", "standby_in_step", "handing_over",
                of a standby: "standby_of", "attached", "problem"}
    hand-over  on the primary: finish what has begun, make the standby the primary, serve no more
    promote    on a standby whose primary is silent
"""

from typing import Final

WEB: Final = 8000
APP: Final = 8001
CACHE: Final = 6379
DATABASE: Final = 5432
