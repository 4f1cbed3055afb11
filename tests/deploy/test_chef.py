"""The cookbook: its syntax, what its resources declare, its templates, its Ohai plugin.

Chef itself cannot be had as a Debian package, so the resources are evaluated by cookbook.rb, which
says what it is and is not. ERB, mixlib-shellout and Ohai are the real ones.
"""

import dataclasses
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from tests.deploy.test_ansible_collection import KEYS, rendered
from tests.support.playbooks import ROOT

from neti.agent.reloading import NEED_RESTART
from neti.cli import cli
from neti.config import load

COOKBOOK = ROOT / "deploy/chef/neti"
RUBY = sorted(path.relative_to(COOKBOOK) for path in COOKBOOK.rglob("*.rb"))
COMPLETE = yaml.safe_load((ROOT / "tests/data/neti-complete.yml").read_text())
OLD = yaml.safe_load((ROOT / "tests/data/neti-2014.yml").read_text())
EXAMPLE = yaml.safe_load((ROOT / "deploy/neti.yml.example").read_text())


@pytest.fixture(autouse=True)
def _programs() -> None:
    for program, package in (("ruby", "ruby"), ("ohai", "ohai")):
        if shutil.which(program) is None:
            reason = f"{program} is missing: install Debian's package {package!r}"
            if os.environ.get("CI") == "true":
                pytest.fail(reason)
            pytest.skip(reason)


def ask(**question: Any) -> "subprocess.CompletedProcess[str]":
    harness = [str(ROOT / "tests/deploy/cookbook.rb"), str(COOKBOOK)]
    return ruby(*harness, input=json.dumps(question))


def ruby(*words: str, input: str = "") -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["ruby", *words], input=input, capture_output=True, text=True, timeout=60, check=False
    )


def declared(**question: Any) -> list[dict[str, Any]]:
    answer = ask(**question)
    assert answer.returncode == 0, answer.stderr
    found: list[dict[str, Any]] = json.loads(answer.stdout)["declared"]
    return found


def template(found: list[dict[str, Any]]) -> dict[str, Any]:
    return next(one for one in found if one["type"] == "template")


@pytest.mark.parametrize("path", RUBY, ids=str)
def test_every_file_is_ruby(path: Path) -> None:
    """Without a warning, too."""
    checked = ruby("-wc", str(COOKBOOK / path))
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize("config", [COMPLETE, OLD, EXAMPLE], ids=["complete", "2014", "example"])
def test_a_rendered_configuration_means_what_the_hash_said(
    config: dict[str, Any], tmp_path: Path
) -> None:
    """`neti config check` accepts it, and it loads to the settings of the file it came from."""
    path, plain = tmp_path / "neti.yml", tmp_path / "plain.yml"
    path.write_text(template(declared(resource="agent", properties={"config": config}))["content"])
    plain.write_text(yaml.safe_dump(config))
    checked = CliRunner().invoke(cli, ["config", "check", "-c", str(path)])
    assert checked.exit_code == 0, checked.stderr
    same = {"path": Path("/"), "warnings": ()}
    assert dataclasses.replace(load(path), **same) == dataclasses.replace(load(plain), **same)  # type: ignore[arg-type]  # fields by name


@pytest.mark.parametrize("word", ["8000:8010", "80:59", "443/tcp", "0080", "53/udp"])
def test_words_that_yaml_could_take_for_something_else_stay_words(word: str) -> None:
    """Ruby's YAML and Python's agree on every spelling of a port."""
    content = template(declared(resource="agent", properties={"config": {"open_ports": [word]}}))[
        "content"
    ]
    assert yaml.safe_load(content) == {"open_ports": [word]}


@pytest.mark.parametrize(
    ("before", "change"),
    [
        (None, "reload"),
        ({"site": "ec2"}, "reload"),
        ({"site": "ec2", "open_ports": [80]}, "reload"),
        ({"site": "vpc"}, "restart"),
        ({"site": "ec2", "identity": {"id": "x", "private": "10.0.0.5"}}, "restart"),
    ],
)
def test_a_change_reloads_and_only_some_keys_restart(
    before: dict[str, Any] | None, change: str, tmp_path: Path
) -> None:
    """By the file that the host has; the new one is verified before it takes its place."""
    path = tmp_path / "neti.yml"
    if before is not None:
        path.write_text(yaml.safe_dump(before))
    found = declared(
        resource="agent", properties={"config": {"site": "ec2"}, "config_path": str(path)}
    )
    written = template(found)
    assert written["notifies"] == [[change, "systemd_unit[neti.service]", "delayed"]]
    assert written["attributes"]["verify"] == "/usr/bin/neti config check -c %{path}"
    order = [one["name"] for one in found]
    assert order.index("neti.service") < order.index(str(path)) < order.index("start neti.service")


def test_a_folder_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    """The file may be /etc/neti.yml: a host whose /etc only one group can read does not work."""
    for folder, there in ((tmp_path, True), (tmp_path / "neti", False)):
        properties = {"config": {}, "config_path": str(folder / "neti.yml")}
        found = declared(resource="agent", properties=properties)
        made = next(one for one in found if one["type"] == "directory")
        assert (made["name"], made["left_out"]) == (str(folder), there)


def test_keys_for_a_restart_are_those_of_the_agent() -> None:
    """As in the Ansible role."""
    library = COOKBOOK / "libraries/configuration.rb"
    said = ruby("-r", str(library), "-e", "puts Neti::Configuration::KEYS_FOR_RESTART")
    assert set(said.stdout.split()) == {KEYS.get(name, name) for name in NEED_RESTART}


def test_a_file_with_keys_is_not_shown_in_the_log() -> None:
    """Chef prints the differences of what is not sensitive."""
    for config, hidden in (({"aws_secret_key": "x"}, True), ({"site": "ec2"}, False)):
        written = template(declared(resource="agent", properties={"config": config}))
        assert written["attributes"]["sensitive"] is hidden


TLS = {"ca": "/etc/neti/ca.pem", "cert": "/etc/neti/host.pem", "key": "/etc/neti/host.key"}


def test_tls_files_are_written_where_the_configuration_says() -> None:
    """Before the configuration is checked; the key for the agent alone, and none in the log."""
    contents = {"ca": "A", "cert": "C", "key": "SECRET"}
    properties = {"config": {"registry_tls": TLS}, "tls": contents}
    found = declared(resource="agent", properties=properties)
    written = {one["name"]: one for one in found if one["type"] == "file"}
    assert {path: one["attributes"]["content"] for path, one in written.items()} == {
        TLS[key]: content for key, content in contents.items()
    }
    modes = {path: one["attributes"]["mode"] for path, one in written.items()}
    assert modes == {TLS["ca"]: "0644", TLS["cert"]: "0644", TLS["key"]: "0640"}
    for one in written.values():
        assert one["attributes"]["sensitive"] is True
        assert (one["attributes"]["owner"], one["attributes"]["group"]) == ("root", "neti")
        assert one["notifies"] == [["reload", "systemd_unit[neti.service]", "delayed"]]
    kinds = [one["type"] for one in found]
    assert kinds.index("file") < kinds.index("template")
    assert "SECRET" not in template(found)["content"]


@pytest.mark.parametrize("config", [{}, {"registry_tls": {"ca": "/etc/neti/ca.pem"}}])
def test_tls_files_without_a_place_are_refused(config: dict[str, Any]) -> None:
    refused = ask(resource="agent", properties={"config": config, "tls": {"key": "SECRET"}})
    assert refused.returncode == 1
    assert "expected keys of registry_tls" in refused.stderr
    assert "SECRET" not in refused.stderr


def test_a_package_from_elsewhere_needs_its_digest() -> None:
    """A URL alone is refused; with the digest it is fetched and installed."""
    properties = {"config": {}, "package_url": "https://example.com/neti.deb"}
    refused = ask(resource="agent", properties=properties)
    assert (refused.returncode, refused.stderr.strip()) == (
        1,
        "neti_agent: package_url needs package_checksum",
    )
    found = declared(resource="agent", properties={**properties, "package_checksum": "ab" * 32})
    fetched, installed = found[0], next(one for one in found if one["type"] == "dpkg_package")
    assert fetched["attributes"]["checksum"] == "ab" * 32
    assert installed["attributes"]["source"] == fetched["name"]


SERVERS = ["10.21.0.4:2181", "10.21.0.5:2181", "[2001:db8::5]:2181"]


def test_a_proxy_takes_the_package_from_a_url_too() -> None:
    """As an agent does, and not whatever package of that name a repository has."""
    package = {"url": "https://example.com/neti.deb", "checksum": "ab" * 32}
    node = {"neti": {"zk_proxy": {"servers": SERVERS}, "package": package}, "hostname": "zk-10"}
    found = declared(recipe="zk_proxy", node=node)
    fetched = next(one for one in found if one["type"] == "remote_file")
    assert fetched["attributes"] == {
        **fetched["attributes"],
        "source": package["url"],
        "checksum": package["checksum"],
    }
    installed = next(one for one in found if one["type"] == "dpkg_package")
    assert installed["attributes"]["source"] == fetched["name"]


def test_no_proxy_depends_on_its_hosts_name() -> None:
    """In 2014 host 10 took itself for host 1. The stand-in fails whoever asks for a name."""
    found = declared(
        recipe="zk_proxy", node={"neti": {"zk_proxy": {"servers": SERVERS}}, "hostname": "zk-10"}
    )
    own = next(one for one in found if one["type"] == "neti_zk_proxy")
    assert own["attributes"]["servers"] == SERVERS
    alike = {
        json.dumps(
            declared(
                resource="zk_proxy",
                properties={"servers": SERVERS},
                node={"hostname": name, "name": name, "fqdn": f"{name}.example.com"},
            )
        )
        for name in ("zk-proxy-1", "zk-proxy-10", "10", "proxy")
    }
    assert len(alike) == 1
    line = template(json.loads(alike.pop()))["content"].splitlines()[1]
    words = " ".join(f"--server {server}" for server in SERVERS)
    assert line == f'ARGUMENTS="--listen 0.0.0.0:2181 {words}"'


def test_no_recipe_touches_the_kernels_rules() -> None:
    """In 2014 the proxy's recipe flushed all NAT. Nothing here runs a command but to verify."""
    proxy = {"servers": SERVERS}
    kinds = {one["type"] for one in declared(resource="zk_proxy", properties=proxy)}
    kinds |= {one["type"] for one in declared(resource="agent", properties={"config": {}})}
    assert kinds == {"package", "directory", "systemd_unit", "template"}
    for path in COOKBOOK.rglob("*.rb"):
        assert not re.search(r"\b(iptables|nft|flush|execute|bash)\b", path.read_text()), path


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"servers": []}, "servers must have a server"),
        ({"servers": ["10.21.0.4"]}, "servers must be HOST:PORT, each"),
        ({"servers": ["a:1", "a:1"]}, "servers must have each server once"),
        ({"options": ["--drain 10"]}, "options must be words without blanks"),
        ({"listen": "2181"}, "listen does not match"),
        ({"server": []}, "no such property: server"),
    ],
)
def test_nonsense_is_refused(changed: dict[str, Any], said: str) -> None:
    """Before anything is declared."""
    answer = ask(resource="zk_proxy", properties={"servers": SERVERS, **changed})
    assert (answer.returncode, answer.stderr.strip()) == (1, said)


def test_the_proxys_unit_is_that_of_the_ansible_role() -> None:
    """One unit, whoever writes it."""
    found = declared(resource="zk_proxy", properties={"servers": SERVERS})
    unit = next(one for one in found if one["type"] == "systemd_unit")["attributes"]["content"]
    theirs = rendered("zk_proxy", "neti-zk-proxy.service", neti_command="/usr/bin/neti")
    assert {name: {k: str(v) for k, v in keys.items()} for name, keys in unit.items()} == theirs


@pytest.mark.parametrize("resource", ["agent", "zk_proxy"])
def test_resources_are_of_todays_kind(resource: str) -> None:
    """Each runs as it is read, under one name."""
    properties: dict[str, Any] = {"config": {}} if resource == "agent" else {"servers": SERVERS}
    facts = json.loads(ask(resource=resource, properties=properties).stdout)["facts"]
    name = f"neti_{resource}"
    assert facts == {"unified_mode": True, "resource_name": name, "provides": name}


def _program(folder: Path, script: str) -> Path:
    path = folder / "neti"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


KNOWN = """echo '{"overlay": "192.168.0.7"}'"""
UNKNOWN = "echo 'no overlay address yet' >&2; exit 1"


@pytest.mark.parametrize(
    ("script", "told"), [(KNOWN, {"overlay_ip": "192.168.0.7"}), (UNKNOWN, None), (None, None)]
)
def test_ohai_tells_the_overlay_address(
    script: str | None, told: dict[str, str] | None, tmp_path: Path
) -> None:
    """The real Ohai with the cookbook's plugin; without an address there is no attribute."""
    if script is not None:
        _program(tmp_path, script)
    asked = subprocess.run(
        ["ohai", "-d", str(COOKBOOK / "ohai"), "neti"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if told is None:
        assert "I cannot find an attribute named neti!" in asked.stderr
    else:
        assert json.loads(asked.stdout) == told


@pytest.mark.parametrize(
    ("script", "told"), [(KNOWN, "192.168.0.7"), (UNKNOWN, ""), (None, ""), ("echo x", "")]
)
def test_the_lazy_address_is_nil_without_one(script: str | None, told: str, tmp_path: Path) -> None:
    """Never an error: a template says what stands there meanwhile."""
    path = tmp_path / "neti" if script is None else _program(tmp_path, script)
    line = f"puts Neti::Overlay.address(command: '{path}').to_s"
    said = ruby("-r", str(COOKBOOK / "libraries/overlay.rb"), "-e", line)
    assert (said.returncode, said.stdout.strip()) == (0, told), said.stderr
