"""Whether what starts in a subnet reaches nothing: by its routes and its security groups; changes neither.

A drill starts a VM that has the name, the addresses and the jobs of one that works elsewhere at this moment, so both
must hold: no route leads out of the VPC, and no security group lets anything out, to neighbours in the VPC either. What
no route and no group can keep away is AWS's own on link-local addresses: metadata, DNS and time. AWS documents: "Route
tables", "Security group rules", "Control DNS traffic".
"""

from __future__ import annotations

from typing import Any

from warmspare.recover.aws.ec2 import Ec2
from warmspare.recover.failover.plan import Network

_DESTINATIONS = ("DestinationCidrBlock", "DestinationIpv6CidrBlock", "DestinationPrefixListId")
_ALLOWED = (
    ("IpRanges", "CidrIp"),
    ("Ipv6Ranges", "CidrIpv6"),
    ("PrefixListIds", "PrefixListId"),
    ("UserIdGroupPairs", "GroupId"),
)


async def ways_out(ec2: Ec2, network: Network) -> list[str]:
    """Every way that is open for what starts there, as a clause with what to do; also what could not be seen. AwsError.

    A subnet or a security group that does not exist has no way out: that it is missing, others say.
    """
    out = []
    tables = await _route_tables(ec2, network.subnet)
    if tables == []:  # there always is one; that of another account's VPC may be hidden
        out.append(
            f"AWS shows no route table of subnet {network.subnet}, so nobody can tell where it leads; take a subnet of "
            "a VPC of this account"
        )
    for table in tables or []:
        for route in table.get("Routes", []):
            if route.get("GatewayId") != "local":
                to = next((route[key] for key in _DESTINATIONS if key in route), "somewhere")
                out.append(
                    f"subnet {network.subnet} has a route to {to} ({_target(route)}) in {table['RouteTableId']}; give "
                    "it a route table without one"
                )
    filters = [{"Name": "group-id", "Values": list(network.security_groups)}]
    groups = ec2.pages("describe_security_groups", "SecurityGroups", about=network.subnet, Filters=filters)
    async for group in groups:
        for rule in group.get("IpPermissionsEgress", []):
            ends = [each[key] for kind, key in _ALLOWED for each in rule.get(kind, [])]
            out.append(
                f"security group {group['GroupId']} lets traffic out to {', '.join(ends) or 'somewhere'}; take its "
                "outbound rules away, or name another"
            )
    return out


async def _route_tables(ec2: Ec2, subnet: str) -> list[dict[str, Any]] | None:
    """The route table of the subnet: its own, else its VPC's main one; None if there is no such subnet."""
    own = await ec2.ask("describe_route_tables", about=subnet, Filters=[_filter("association.subnet-id", subnet)])
    if own.get("RouteTables"):
        return list(own["RouteTables"])
    found = await ec2.ask("describe_subnets", about=subnet, Filters=[_filter("subnet-id", subnet)])
    for each in found.get("Subnets", []):
        filters = [_filter("vpc-id", each["VpcId"]), _filter("association.main", "true")]
        main = await ec2.ask("describe_route_tables", about=each["VpcId"], Filters=filters)
        return list(main.get("RouteTables", []))
    return None


def _filter(name: str, value: str) -> dict[str, Any]:
    return {"Name": name, "Values": [value]}


def _target(route: dict[str, Any]) -> str:
    """What a route leads to: a gateway of some kind, an interface, a peering."""
    other = (*_DESTINATIONS, "Origin", "State", "InstanceOwnerId")
    return next((str(value) for key, value in sorted(route.items()) if key not in other and value), "unknown")
