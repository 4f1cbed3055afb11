"""``python -m benchmarks.report [INSTANCES]``: what ``neti aws report`` takes for a large fleet.

A server on loopback answers DescribeInstances as EC2 does, in pages of a thousand with everything
that EC2 tells of an instance; the registry is an embedded one with nearly as many members. The
command runs as a process of its own, as an operator starts it. AWS's own time (some 0.3 to 1 s for
a page) comes on top, and is the same for every program that asks.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from statistics import median
from typing import Final
from urllib.parse import parse_qs

from neti.model import Member, entry
from neti.registry.embedded.registry import EmbeddedRegistry

_PAGE: Final = 1000
_RUNS: Final = 3
_HOME: Final = IPv4Network("192.168.0.0/18")


def main() -> int:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 5_000
    with tempfile.TemporaryDirectory() as folder:
        config = _configuration(Path(folder))
        registry = EmbeddedRegistry(Path(folder) / "registry.db", session_seconds=3600)
        print(f"filling the registry with {count - count // 50:,} members", file=sys.stderr)
        for number in range(count - count // 50):
            _join(registry, number)
        server = _Ec2(("127.0.0.1", 0), _Handler)
        server.pages = [_page(n, count) for n in range(0, count, _PAGE)]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            runs = [_report(config, server.server_address[1], count) for _ in range(_RUNS)]
        finally:
            server.shutdown()
            server.server_close()
            registry.close()
    each = ", ".join(f"{seconds:.2f}" for seconds in runs)
    print(f"neti aws report, {count:,} instances: {median(runs):.2f} s (each: {each})")
    return 0


def _report(config: Path, port: int, count: int) -> float:
    environment = {
        **os.environ,
        "AWS_ACCESS_KEY_ID": "benchmark",
        "AWS_SECRET_ACCESS_KEY": "benchmark",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    command = [sys.executable, "-m", "neti", "aws", "report", "--config", str(config), "--json"]
    started = time.perf_counter()
    done = subprocess.run(
        [*command, "--region", "us-east-1"], env=environment, check=True, capture_output=True
    )
    seconds = time.perf_counter() - started
    total = json.loads(done.stdout)["totals"]["all"]
    if total["instances"] != count or total["in_neti"] != count - count // 50:
        raise SystemExit(f"the report is wrong: {total}")
    return seconds


def _configuration(folder: Path) -> Path:
    path = folder / "neti.yml"
    path.write_text(
        f"registry: embedded:{folder}/registry.db\ntable_files_path: {folder}/state\n"
        "sites: {ec2: {vpc_ids: [vpc-0aa1]}, vpc: {vpc_ids: [vpc-0bb2]}}\n"
    )
    return path


def _id(number: int) -> str:
    return f"i-{number:017x}"


def _addresses(number: int) -> tuple[IPv4Address, IPv4Address]:
    return IPv4Address("10.0.1.0") + number, IPv4Address("54.0.1.0") + number


def _join(registry: EmbeddedRegistry, number: int) -> None:
    private, public = _addresses(number)
    member = Member(
        id=_id(number),
        site="ec2",
        private=private,
        public=public,
        overlay=registry.acquire(_id(number), _HOME),
    )
    registry.register(
        host_id=member.id,
        name=entry.encode(member),
        data=b"",
        detail=json.dumps({"name": f"web-{number}", "version": "0.1.0"}).encode(),
    )


class _Ec2(ThreadingHTTPServer):
    pages: list[bytes]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Ec2

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        asked = parse_qs(self.rfile.read(length).decode())
        body = self.server.pages[int(asked.get("NextToken", ["0"])[0])]
        self.send_response(200)
        self.send_header("Content-Type", "text/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        return None


def _page(first: int, count: int) -> bytes:
    last = min(first + _PAGE, count)
    items = "".join(_instance(number) for number in range(first, last))
    token = f"<nextToken>{last // _PAGE}</nextToken>" if last < count else ""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">'
        f"<requestId>r</requestId><reservationSet>{items}</reservationSet>{token}"
        "</DescribeInstancesResponse>"
    ).encode()


def _instance(number: int) -> str:
    private, public = _addresses(number)
    tags = {"Name": f"web-{number}", "overlay_ip": "192.168.0.1", "team": "a", "tier": "b"}
    tag_set = "".join(
        f"<item><key>{key}</key><value>{value}</value></item>" for key, value in tags.items()
    )
    group = "<item><groupId>sg-1</groupId><groupName>web</groupName></item>"
    association = (
        f"<association><publicIp>{public}</publicIp><ipOwnerId>1</ipOwnerId></association>"
    )
    return (
        f"<item><reservationId>r-{number}</reservationId><ownerId>123456789012</ownerId>"
        f"<groupSet/><instancesSet><item><instanceId>{_id(number)}</instanceId>"
        "<imageId>ami-1</imageId><instanceState><code>16</code><name>running</name>"
        "</instanceState><privateDnsName>ip.ec2.internal</privateDnsName><dnsName>x</dnsName>"
        "<reason/><keyName>k</keyName><amiLaunchIndex>0</amiLaunchIndex><productCodes/>"
        "<instanceType>m5.large</instanceType><launchTime>2026-01-01T00:00:00.000Z</launchTime>"
        "<placement><availabilityZone>us-east-1a</availabilityZone><groupName/>"
        "<tenancy>default</tenancy></placement><monitoring><state>disabled</state></monitoring>"
        f"<subnetId>subnet-1</subnetId><vpcId>vpc-0aa1</vpcId>"
        f"<privateIpAddress>{private}</privateIpAddress><ipAddress>{public}</ipAddress>"
        f"<sourceDestCheck>true</sourceDestCheck><groupSet>{group}</groupSet>"
        "<architecture>x86_64</architecture><rootDeviceType>ebs</rootDeviceType>"
        "<rootDeviceName>/dev/xvda</rootDeviceName><blockDeviceMapping><item><deviceName>/dev/xvda"
        "</deviceName><ebs><volumeId>vol-1</volumeId><status>attached</status><attachTime>"
        "2026-01-01T00:00:00.000Z</attachTime><deleteOnTermination>true</deleteOnTermination></ebs>"
        "</item></blockDeviceMapping><virtualizationType>hvm</virtualizationType>"
        f"<tagSet>{tag_set}</tagSet><hypervisor>xen</hypervisor><networkInterfaceSet><item>"
        "<networkInterfaceId>eni-1</networkInterfaceId><subnetId>subnet-1</subnetId>"
        "<vpcId>vpc-0aa1</vpcId><status>in-use</status><macAddress>02:00:00:00:00:01</macAddress>"
        f"<privateIpAddress>{private}</privateIpAddress><groupSet>{group}</groupSet>{association}"
        f"<privateIpAddressesSet><item><privateIpAddress>{private}</privateIpAddress>"
        f"<primary>true</primary>{association}</item></privateIpAddressesSet></item>"
        "</networkInterfaceSet><ebsOptimized>false</ebsOptimized></item></instancesSet></item>"
    )


if __name__ == "__main__":
    sys.exit(main())
