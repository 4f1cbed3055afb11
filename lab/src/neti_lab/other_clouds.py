"""What the metadata services of Google and Azure tell of an instance, as JSON values. Pure."""

from typing import Any

from neti_lab.metadata_contents import Address, InstanceMetadata, Interface

GOOGLE_PATH = "/computeMetadata/v1/instance/"
AZURE_INSTANCE = "/metadata/instance"
AZURE_BALANCER = "/metadata/loadbalancer"


def google(instance: InstanceMetadata) -> dict[str, Any]:
    """``GET /computeMetadata/v1/instance/?recursive=true``. The number of the instance is a number
    here, and nic0 comes first."""
    return {
        "id": int(instance.instance_id),
        "machineType": f"projects/1234/machineTypes/{instance.instance_type}",
        "name": f"host-{instance.instance_id[-4:]}",
        "networkInterfaces": [
            {
                "accessConfigs": _access(one),
                "ip": str(one.addresses[0].private),
                "ipv6s": [str(address) for address in one.ipv6],
                "mac": one.mac,
                "mtu": 1460,
                "network": f"projects/1234/networks/{one.vpc_id or 'default'}",
            }
            for one in _interfaces(instance)
        ],
        "zone": f"projects/1234/zones/{instance.zone}",
    }


def _access(interface: Interface) -> list[dict[str, str]]:
    public = interface.addresses[0].public
    return [{"externalIp": str(public or ""), "type": "ONE_TO_ONE_NAT"}]


def azure(instance: InstanceMetadata) -> dict[str, Any]:
    """``GET /metadata/instance``: every value is text, and cards come in no order (the first one
    comes last here). A public address behind a load balancer is not told."""
    subscription, _, group = (instance.vpc_id or "sub-1/rg-1").partition("/")
    return {
        "compute": {
            "name": "host",
            "resourceGroupName": group,
            "subscriptionId": subscription,
            "vmId": instance.instance_id,
        },
        "network": {
            "interface": [
                {
                    "ipv4": {"ipAddress": [_pair(one, instance) for one in card.addresses]},
                    "ipv6": {"ipAddress": [{"privateIpAddress": str(a)} for a in card.ipv6]},
                    "macAddress": card.mac.replace(":", "").upper(),
                }
                for card in reversed(_interfaces(instance))
            ]
        },
    }


def azure_balancer(instance: InstanceMetadata) -> dict[str, Any] | None:
    """``GET /metadata/loadbalancer``; None: there is nothing of that kind, which is a 404."""
    if not instance.balanced or instance.public is None:
        return None
    return {
        "loadbalancer": {
            "publicIpAddresses": [
                {"frontendIpAddress": "2001:db8::1", "privateIpAddress": "fd00::1"},
                {
                    "frontendIpAddress": str(instance.public),
                    "privateIpAddress": str(instance.private),
                },
            ]
        }
    }


def _pair(address: Address, instance: InstanceMetadata) -> dict[str, str]:
    told = "" if instance.balanced else str(address.public or "")
    return {"privateIpAddress": str(address.private), "publicIpAddress": told}


def _interfaces(instance: InstanceMetadata) -> list[Interface]:
    primary = Interface(
        mac=instance.mac,
        addresses=(Address(private=instance.private, public=instance.public), *instance.further),
        vpc_id=instance.vpc_id,
        ipv6=instance.ipv6,
    )
    return [primary, *instance.interfaces]
