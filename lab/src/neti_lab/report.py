"""What the lab's commands print: tables and matrices as plain lines. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any, Final

from neti_lab.sniffer import CLEAR, TUNNEL, Sighting
from neti_lab.topology import INTERNET_ADDRESS, STRANGER_ADDRESS, LabPlan, lab_command

_DRAWN: Final = 4  # hosts of a site


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Left-aligned columns, two spaces apart."""
    texts = [tuple(header), *(tuple(str(cell) for cell in row) for row in rows)]
    widths = [max(len(row[column]) for row in texts) for column in range(len(header))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in texts
    ]


def status_lines(document: Mapping[str, Any]) -> list[str]:
    """``lifecycle.describe`` for people."""
    hosts = document["hosts"]
    clear = lab_command(document["name"], "down")
    state = "up" if document["up"] else f"not complete ('{clear}' removes what is left of it)"
    rows = [
        (
            host["name"],
            host["site"],
            host["private"],
            host["public"] or "-",
            host["agent_pid"] or "not running",
            host["namespace"] if host["namespace_exists"] else "missing",
        )
        for host in hosts
    ]
    encrypted = "; hosts can encrypt" if document.get("encrypt") else ""
    others = ", ".join(node["name"] for node in document["others"])
    return [
        f"Lab {document['name']!r} is {state}; registry: {document['registry']}{encrypted}",
        f"Configurations, logs and state: {document['folder']}",
        "",
        *table(("HOST", "SITE", "PRIVATE", "PUBLIC", "AGENT", "NAMESPACE"), rows),
        "",
        f"Also there: {others}",
        *([f"In a browser: {link}"] if (link := document.get("dashboard")) else []),
    ]


def roads(plan: LabPlan, seen: Sighting) -> list[str]:
    """What an eavesdropper between the two sites saw, as a small picture of the two roads."""
    left, right = (site.name for site in plan.sites)
    lines = []
    for road, line in ((CLEAR, "-"), (TUNNEL, "=")):
        count = seen.between_sites(road)
        readable = sum(count.marked.values())
        text = f"{road}: {count.packets:,} packets, {readable:,} with words in them"
        lines.append(f"{left} {line * 4} {text:<60} {line * 4} {right}")
        if count.sample:
            lines.append(f"{'':{len(left) + 6}}{count.sample}")
    return lines


def drawing(plan: LabPlan) -> list[str]:
    """The lab as a small picture, sites side by side."""
    width = 34
    columns = [
        [
            f"{site.site_gateway} {site.uplink}",
            f"public   {site.public}",
            "   | one-to-one NAT",
            f"private  {site.private}",
            *(f"   +-- {host.name:<8} {host.private}" for host in site.workers[:_DRAWN]),
            *([f"   +-- ... {site.workers[-1].name}"] if site.size > _DRAWN else []),
            *(f"   +-- {host.name:<8} {host.private}  {host.public}" for host in site.gateways),
        ]
        for site in plan.sites
    ]
    rows = (
        "".join(cell.ljust(width) for cell in row).rstrip()
        for row in zip_longest(*columns, fillvalue="")
    )
    return [
        f"              internet {INTERNET_ADDRESS} ---- stranger {STRANGER_ADDRESS}",
        "                 /              \\",
        *rows,
    ]
