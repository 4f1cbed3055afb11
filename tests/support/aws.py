"""A strict moto server for one run of the tests, and how to fill it and look into it."""

import functools
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import pytest
from tests.support.run_end import at_the_end

ROOT = Path(__file__).parents[2]
REGION = "us-east-1"
IMAGE = "ami-12c6146b"
_START_SECONDS = 60.0


@dataclass(slots=True)
class MotoServer:
    """A process of its own on a free loopback port; it ends with ``close``, by its pid."""

    process: "subprocess.Popen[bytes]"
    url: str

    @classmethod
    def start(cls) -> "MotoServer":
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.moto_server", str(port)],
            cwd=ROOT,
            env={
                **os.environ,
                **environment(f"http://127.0.0.1:{port}"),
                # No test asks for an image; moto would look through 1,301 for each instance.
                "MOTO_EC2_LOAD_DEFAULT_AMIS": "false",
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        server = cls(process, f"http://127.0.0.1:{port}")
        deadline = time.monotonic() + _START_SECONDS
        while not server._answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                server.close()
                raise RuntimeError("moto's server did not start: is moto[server] installed?")
            time.sleep(0.05)
        return server

    def _answers(self, port: int) -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            return False
        return True

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(10)

    def order(self, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(
            f"{self.url}{path}", data=json.dumps(body).encode(), method="POST"
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read() or b"null")

    def reset(self) -> None:
        self.order("/moto-api/reset")
        self.order("/neti-test/reset")

    def fail(
        self,
        action: str,
        code: str,
        *,
        message: str = "refused by the test",
        status: int = 400,
        skip: int = 0,
        times: int = 1000,
    ) -> None:
        """From the call after ``skip`` on, ``times`` calls of the action fail so."""
        fault = {"action": action, "code": code, "message": message, "status": status}
        self.order("/neti-test/faults", [{**fault, "skip": skip, "times": times}])

    def allow_rules(self, quota: int) -> None:
        self.order("/neti-test/quota", quota)

    def calls(self) -> list[str]:
        made: list[str] = self.order("/neti-test/calls")
        return made

    def changes(self) -> list[str]:
        """Those of the calls that change something."""
        reads = ("Describe", "Get", "List", "AssumeRole")
        return [call for call in self.calls() if not call.startswith(reads)]


@functools.cache
def shared_server() -> MotoServer:
    server = MotoServer.start()
    at_the_end(server.close)
    return server


# The SDK reads what it knows of EC2 anew for every session, for longer than most tests take.
_shared_loader = functools.cache(botocore.session.create_loader)


def use_sdk(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """The SDK in this process talks to that server, and learns what AWS can do only once."""
    monkeypatch.setattr(botocore.session, "create_loader", _shared_loader)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION", "NETI_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment(url).items():
        monkeypatch.setenv(name, value)


def environment(url: str) -> dict[str, str]:
    """For the SDK: made-up keys, and nothing leaves this machine."""
    return {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_ENDPOINT_URL": url,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_MAX_ATTEMPTS": "3",
    }


@dataclass(slots=True)
class Account:
    """One account in one region, to be filled; the SDK itself, not Neti's way to it."""

    ec2: Any
    vpc_id: str
    subnet_id: str

    @classmethod
    def of(cls, url: str, region: str = REGION, role: str | None = None) -> "Account":
        session = _session(url, role)
        ec2 = session.client("ec2", region_name=region, endpoint_url=url)
        subnet = ec2.describe_subnets()["Subnets"][0]
        return cls(ec2, subnet["VpcId"], subnet["SubnetId"])

    def group(self, name: str, *, tags: dict[str, str] | None = None) -> str:
        group_id: str = self.ec2.create_security_group(
            GroupName=name, Description=name, VpcId=self.vpc_id
        )["GroupId"]
        if tags:
            self.ec2.create_tags(Resources=[group_id], Tags=_tags(tags))
        return group_id

    def instances(self, count: int, group: str, *, name: str = "", first: int = 1) -> list[str]:
        """Running instances, by name NAME-1, NAME-2, …"""
        ids: list[str] = []
        while len(ids) < count:  # a few hundred a call, as AWS
            some = min(500, count - len(ids))
            made = self.ec2.run_instances(
                ImageId=IMAGE,
                MinCount=some,
                MaxCount=some,
                SecurityGroupIds=[group],
                InstanceType="t3.micro",
            )
            ids += [instance["InstanceId"] for instance in made["Instances"]]
        if name:
            for number, instance_id in enumerate(ids, first):
                self.name(instance_id, f"{name}-{number}")
        return ids

    def name(self, instance_id: str, name: str) -> None:
        self.ec2.create_tags(Resources=[instance_id], Tags=_tags({"Name": name}))

    def elastic(self, instance_id: str) -> str:
        made = self.ec2.allocate_address(Domain="vpc")
        self.ec2.associate_address(AllocationId=made["AllocationId"], InstanceId=instance_id)
        address: str = made["PublicIp"]
        return address

    def addresses(self, instance_id: str) -> tuple[str, str | None]:
        found = self.ec2.describe_instances(InstanceIds=[instance_id])
        instance = found["Reservations"][0]["Instances"][0]
        return instance["PrivateIpAddress"], instance.get("PublicIpAddress")

    def rules(self, group_id: str) -> list[tuple[str, int | None, int | None, str, str]]:
        """(protocol, from, to, source, description) of each inbound rule, as AWS has it."""
        group = self.ec2.describe_security_groups(GroupIds=[group_id])["SecurityGroups"][0]
        kinds = (
            ("IpRanges", "CidrIp"),
            ("Ipv6Ranges", "CidrIpv6"),
            ("PrefixListIds", "PrefixListId"),
            ("UserIdGroupPairs", "GroupId"),
        )
        return sorted(
            (p["IpProtocol"], p.get("FromPort"), p.get("ToPort"), i[k], i.get("Description", ""))
            for p in group["IpPermissions"]
            for kind, k in kinds
            for i in p[kind]
        )

    def sources(self, group_id: str) -> set[str]:
        return {rule[3] for rule in self.rules(group_id)}

    def allow(
        self, group_id: str, cidr: str, port: int = 22, *, protocol: str = "tcp", text: str = ""
    ) -> None:
        item = {"CidrIp": cidr, **({"Description": text} if text else {})}
        self.ec2.authorize_security_group_ingress(
            GroupId=group_id,
            IpPermissions=[
                {"IpProtocol": protocol, "FromPort": port, "ToPort": port, "IpRanges": [item]}
            ],
        )

    def lists(self) -> dict[str, dict[str, Any]]:
        """Own prefix lists by name, with their entries."""
        lists = self.ec2.describe_managed_prefix_lists()["PrefixLists"]
        own = [one for one in lists if one["OwnerId"] != "AWS" and "delete" not in one["State"]]
        for one in own:
            entries = self.ec2.get_managed_prefix_list_entries(PrefixListId=one["PrefixListId"])
            one["Cidrs"] = {entry["Cidr"] for entry in entries["Entries"]}
        return {one["PrefixListName"]: one for one in own}


def _session(url: str, role: str | None) -> boto3.Session:
    session = boto3.Session(aws_access_key_id="testing", aws_secret_access_key="testing")
    if role is None:
        return session
    sts: Any = session.client("sts", region_name=REGION, endpoint_url=url)
    keys = sts.assume_role(RoleArn=role, RoleSessionName="test")["Credentials"]
    return boto3.Session(
        aws_access_key_id=keys["AccessKeyId"],
        aws_secret_access_key=keys["SecretAccessKey"],
        aws_session_token=keys["SessionToken"],
    )


def _tags(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


@contextmanager
def in_environment(variables: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def addresses_in(cidrs: Sequence[str]) -> int:
    """How many addresses the prefixes hold together."""
    from ipaddress import collapse_addresses, ip_network

    networks = [ip_network(cidr) for cidr in cidrs]
    fours = [n for n in networks if n.version == 4]
    return sum(n.num_addresses for n in collapse_addresses(fours))
