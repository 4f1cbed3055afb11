"""The CloudFormation template, linted and created; user-data, down to the files that it writes."""

import base64
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from cfnlint.decode import decode
from click.testing import CliRunner
from tests.deploy.test_ansible_collection import _unit, rendered
from tests.support.aws import REGION, MotoServer, shared_server, use_sdk
from tests.support.playbooks import ROOT

from neti.cli import cli
from neti_lab.zookeeper import LIMITS

TEMPLATE = ROOT / "deploy/cloudformation/neti.yml"
USER_DATA = ROOT / "deploy/cloud-init/agent.yml"
OPERATORS, DIGEST = "203.0.113.0/24", "ab" * 32


@pytest.fixture(name="server")
def _server(monkeypatch: pytest.MonkeyPatch) -> Iterator[MotoServer]:
    server = shared_server()
    server.reset()
    use_sdk(monkeypatch, server.url)
    yield server
    server.reset()


class Cloud:
    """One account, by the SDK itself."""

    def __init__(self, url: str) -> None:
        session: Any = boto3.Session(region_name=REGION)
        self.ec2 = session.client("ec2", endpoint_url=url)
        self.iam = session.client("iam", endpoint_url=url)
        self.stacks = session.client("cloudformation", endpoint_url=url)

    def vpc(self, cidr: str, subnets: int) -> tuple[str, list[str]]:
        vpc: str = self.ec2.create_vpc(CidrBlock=cidr)["Vpc"]["VpcId"]
        ranges = list(ip_network(cidr).subnets(new_prefix=24))[:subnets]
        return vpc, [
            self.ec2.create_subnet(VpcId=vpc, CidrBlock=str(each))["Subnet"]["SubnetId"]
            for each in ranges
        ]

    def create(self, **parameters: str) -> dict[str, str]:
        """The stack's outputs."""
        given = {"Image": "ami-12c6146b", **parameters}
        self.stacks.create_stack(
            StackName="neti",
            TemplateBody=TEMPLATE.read_text(),
            Parameters=[{"ParameterKey": k, "ParameterValue": v} for k, v in given.items()],
            Capabilities=["CAPABILITY_IAM"],
        )
        stack = self.stacks.describe_stacks(StackName="neti")["Stacks"][0]
        assert stack["StackStatus"] == "CREATE_COMPLETE"
        return {one["OutputKey"]: one["OutputValue"] for one in stack["Outputs"]}

    def made(self) -> dict[str, str]:
        """Physical ids by logical ones."""
        found = self.stacks.describe_stack_resources(StackName="neti")["StackResources"]
        return {
            one["LogicalResourceId"]: one["PhysicalResourceId"]
            for one in found
            if "PhysicalResourceId" in one
        }

    def private(self, interface: str) -> str:
        found = self.ec2.describe_network_interfaces(NetworkInterfaceIds=[interface])
        address: str = found["NetworkInterfaces"][0]["PrivateIpAddress"]
        return address

    def instances(self) -> dict[str, dict[str, Any]]:
        """By name."""
        found = self.ec2.describe_instances()["Reservations"]
        return {
            next(tag["Value"] for tag in instance["Tags"] if tag["Key"] == "Name"): instance
            for reservation in found
            for instance in reservation["Instances"]
        }

    def user_data(self, instance: dict[str, Any]) -> str:
        told = self.ec2.describe_instance_attribute(
            InstanceId=instance["InstanceId"], Attribute="userData"
        )
        return base64.b64decode(told["UserData"]["Value"]).decode()

    def rules(self, group: str) -> set[tuple[int, int, str]]:
        """(from, to, source) of all that is let in."""
        found = self.ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"][0]
        return {
            (each["FromPort"], each["ToPort"], source.get("CidrIp") or source["GroupId"])
            for each in found["IpPermissions"]
            for source in [*each["IpRanges"], *each["UserIdGroupPairs"]]
        }


@pytest.fixture(name="cloud")
def _cloud(server: MotoServer) -> Cloud:
    return Cloud(server.url)


def test_the_template_passes_the_linter() -> None:
    """Without an error or a warning."""
    lint = [str(Path(sys.executable).parent / "cfn-lint"), str(TEMPLATE)]
    done = subprocess.run(lint, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout


def test_both_sides_in_one_stack(cloud: Cloud) -> None:
    """Three servers and two proxies, each with its Elastic IP, that let in each other."""
    ensemble, ensemble_subnets = cloud.vpc("10.21.0.0/16", 3)
    proxy, proxy_subnets = cloud.vpc("10.0.0.0/16", 2)
    told = cloud.create(
        EnsembleVpc=ensemble,
        EnsembleSubnets=",".join(ensemble_subnets),
        ProxyVpc=proxy,
        ProxySubnets=",".join(proxy_subnets),
        PackageUrl="https://example.com/neti.deb",
        PackageSha256=DIGEST,
        Operators=OPERATORS,
    )
    instances = cloud.instances()
    servers = [instances[f"neti-zookeeper-{number}"] for number in (1, 2, 3)]
    proxies = [instances[f"neti-zk-proxy-{number}"] for number in (1, 2)]
    assert len(instances) == 5
    made = cloud.made()
    elastic = [made[f"EnsembleAddress{number}"] for number in (1, 2, 3)]
    elastic_of_proxies = [made[f"ProxyAddress{number}"] for number in (1, 2)]
    held = {each["PublicIp"] for each in cloud.ec2.describe_addresses()["Addresses"]}
    assert held == {*elastic, *elastic_of_proxies}

    group = told["EnsembleGroup"]
    assert cloud.rules(group) == {
        (22, 22, OPERATORS),
        (2181, 2181, "10.21.0.0/16"),
        (2888, 3888, group),
        *((2181, 2181, f"{address}/32") for address in elastic_of_proxies),
    }
    assert cloud.rules(told["ProxyGroup"]) == {
        (22, 22, OPERATORS),
        (2181, 2181, "10.0.0.0/16"),
        *((2181, 2181, f"{address}/32") for address in elastic),
    }
    private = [cloud.private(made[f"EnsembleInterface{number}"]) for number in (1, 2, 3)]
    assert told["EnsembleHosts"] == ",".join(f"{address}:2181" for address in private)
    assert told["EnsembleElasticHosts"] == ",".join(f"{address}:2181" for address in elastic)
    proxies_private = [cloud.private(made[f"ProxyInterface{number}"]) for number in (1, 2)]
    assert told["ProxyHosts"] == ",".join(f"{address}:2181" for address in proxies_private)
    _servers_know_each_other(cloud, servers, private)
    _proxies_are_alike(cloud, proxies, elastic)


@pytest.mark.parametrize("server", ["Ensemble1", "Ensemble2", "Ensemble3", "Proxy1", "Proxy2"])
def test_each_server_has_its_own_interface_and_address(server: str) -> None:
    """From the template's text: moto makes neither associations nor an instance's interfaces."""
    side, number = server[:-1], server[-1]
    resources = decode(str(TEMPLATE))[0]["Resources"]
    interface, address = f"{side}Interface{number}", f"{side}Address{number}"
    assert resources[f"{side}Association{number}"]["Properties"] == {
        "AllocationId": {"Fn::GetAtt": [address, "AllocationId"]},
        "NetworkInterfaceId": {"Ref": interface},
    }
    assert resources[f"{side}Server{number}"]["DependsOn"] == f"{side}Association{number}"
    instance = resources[f"{side}Server{number}"]["Properties"]
    assert instance["NetworkInterfaces"] == [
        {"DeviceIndex": "0", "NetworkInterfaceId": {"Ref": interface}}
    ]
    assert resources[interface]["Properties"]["GroupSet"] == [
        {"Fn::GetAtt": [f"{side}Group", "GroupId"]}
    ]
    template = {"LaunchTemplateId": {"Ref": "Server"}}
    assert template.items() <= instance["LaunchTemplate"].items()
    metadata = resources["Server"]["Properties"]["LaunchTemplateData"]["MetadataOptions"]
    assert metadata["HttpTokens"] == "required"


def _servers_know_each_other(
    cloud: Cloud, servers: list[dict[str, Any]], private: list[str]
) -> None:
    for number, server in enumerate(servers, 1):
        files = written(cloud.user_data(server))
        assert files["/var/lib/zookeeper/myid"] == f"{number}\n"
        ensemble = [
            line
            for line in files["/etc/zookeeper/conf/zoo.cfg"].splitlines()
            if line.startswith("server.")
        ]
        assert ensemble == [f"server.{n}={a}:2888:3888" for n, a in enumerate(private, 1)]
        java = files["/etc/default/zookeeper"].splitlines()
        assert [line for line in java if line.startswith("JAVA_OPTS=")] == [
            f'JAVA_OPTS="$JAVA_OPTS {limit}"' for limit in LIMITS
        ]


def _proxies_are_alike(cloud: Cloud, proxies: list[dict[str, Any]], elastic: list[str]) -> None:
    texts = {cloud.user_data(proxy) for proxy in proxies}
    assert len(texts) == 1
    text = texts.pop()
    files = written(text)
    words = " ".join(f"--server {address}:2181" for address in elastic)
    assert files["/etc/default/neti-zk-proxy"] == f'ARGUMENTS="{words}"\n'
    unit = _unit(files["/etc/systemd/system/neti-zk-proxy.service"])
    theirs = rendered("zk_proxy", "neti-zk-proxy.service", neti_command="/usr/bin/neti")
    assert unit["Service"]["ExecStart"] == theirs["Service"]["ExecStart"]
    assert unit["Service"].items() <= theirs["Service"].items()
    assert f'echo "{DIGEST}  /run/neti.deb" | sha256sum -c' in text


def test_proxies_alone_relay_to_another_stacks_ensemble(cloud: Cloud) -> None:
    """In another account or region: no ensemble is made, and its addresses are told."""
    proxy, subnets = cloud.vpc("10.0.0.0/16", 2)
    told = cloud.create(
        EnsembleSubnets="-",
        ProxyVpc=proxy,
        ProxySubnets=",".join(subnets),
        EnsembleServers="198.51.100.4:2181,198.51.100.5:2181",
        PackageUrl="https://example.com/neti.deb",
        PackageSha256=DIGEST,
    )
    instances = cloud.instances()
    assert set(instances) == {"neti-zk-proxy-1", "neti-zk-proxy-2"}
    assert cloud.rules(told["ProxyGroup"]) == {(2181, 2181, "10.0.0.0/16")}
    options = written(cloud.user_data(instances["neti-zk-proxy-1"]))["/etc/default/neti-zk-proxy"]
    assert '"--server 198.51.100.4:2181 --server 198.51.100.5:2181"' in options


def test_the_agents_role_may_tag_its_own_instance_and_nothing_else(cloud: Cloud) -> None:
    """One action, two tags, and only where the asking instance is the one that is tagged."""
    told = cloud.create(EnsembleSubnets="-", ProxySubnets="-")
    assert cloud.instances() == {}
    profile = cloud.iam.get_instance_profile(InstanceProfileName=told["AgentProfile"])
    role = profile["InstanceProfile"]["Roles"][0]["RoleName"]
    assert cloud.iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"] == []
    names = cloud.iam.list_role_policies(RoleName=role)["PolicyNames"]
    assert names == ["tag-itself"]
    policy = cloud.iam.get_role_policy(RoleName=role, PolicyName="tag-itself")["PolicyDocument"]
    (statement,) = yaml.safe_load(policy)["Statement"]  # moto keeps it as Python prints it
    itself = "arn:aws:ec2:*:123456789012:instance/${ec2:InstanceID}"
    assert statement == {
        "Effect": "Allow",
        "Action": "ec2:CreateTags",
        "Resource": "arn:aws:ec2:*:123456789012:instance/*",
        "Condition": {
            "ArnLike": {"ec2:SourceInstanceARN": itself},
            "ForAllValues:StringEquals": {"aws:TagKeys": ["overlay_ip", "neti_version"]},
        },
    }


def written(user_data: str) -> dict[str, str]:
    """The files that cloud-init would write, by path."""
    first, _, _ = user_data.partition("\n")
    assert first == "#cloud-config"
    document = yaml.safe_load(user_data)
    for command in document["runcmd"]:
        if isinstance(command, str):
            subprocess.run(["sh", "-n"], input=command, text=True, check=True)
        else:
            assert all(isinstance(word, str) for word in command), command
    return {file["path"]: file["content"] for file in document["write_files"]}


def test_the_agents_user_data_has_a_valid_configuration(tmp_path: Path) -> None:
    """What `neti config check` on the instance would say."""
    files = written(USER_DATA.read_text())
    path = tmp_path / "neti.yml"
    path.write_text(files["/etc/neti/neti.yml"])
    checked = CliRunner().invoke(cli, ["config", "check", "-c", str(path)])
    assert (checked.exit_code, checked.stderr.replace("\n", "")) == (0, "")
