"""Parts of a drill in EC2: what counts as a way out where AWS shows less than it should."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

from suite.remedies import remedy, told
from warmspare.recover.aws.ec2 import Ec2
from warmspare.recover.drills.ec2.isolation import ways_out
from warmspare.recover.failover.plan import Network

NETWORK = Network("drill", "subnet-01234567", ("sg-01234567",))


class Shown:
    """What AWS shows, by operation."""

    def __init__(self, **shown: list[dict[str, Any]]) -> None:
        self._shown = shown

    async def ask(self, operation: str, **_: object) -> dict[str, Any]:
        key = {"describe_route_tables": "RouteTables", "describe_subnets": "Subnets"}[operation]
        return {key: self._shown.get(key, [])}

    async def pages(self, operation: str, key: str, **_: object) -> AsyncIterator[dict[str, Any]]:
        for each in self._shown.get(key, []):
            yield each


def found(**shown: list[dict[str, Any]]) -> list[str]:
    return asyncio.run(ways_out(cast("Ec2", Shown(**shown)), NETWORK))


@remedy("take a subnet of a VPC of this account")
def test_a_route_table_that_is_not_shown_is_a_way_out() -> None:
    [said] = found(Subnets=[{"SubnetId": NETWORK.subnet, "VpcId": "vpc-1"}])  # of a VPC of another account, for one
    assert "no route table" in said and NETWORK.subnet in said
    told(said)
    assert found(Subnets=[{"SubnetId": NETWORK.subnet, "VpcId": "vpc-2"}], RouteTables=[{"RouteTableId": "rtb"}]) == []


def test_a_subnet_that_does_not_exist_has_none() -> None:
    assert found() == []


def test_only_local_routes_are_none() -> None:
    local = [
        {"DestinationCidrBlock": "10.99.0.0/16", "GatewayId": "local", "State": "active"},
        {"DestinationIpv6CidrBlock": "fd00::/56", "GatewayId": "local", "State": "active"},
    ]
    assert found(RouteTables=[{"RouteTableId": "rtb-1", "Routes": local}]) == []
    ways = [
        {"DestinationPrefixListId": "pl-1", "GatewayId": "vpce-1"},
        {"DestinationIpv6CidrBlock": "::/0", "EgressOnlyInternetGatewayId": "eigw-1"},
        {"DestinationCidrBlock": "10.99.0.0/16", "NetworkInterfaceId": "eni-1"},
        {"DestinationCidrBlock": "192.168.0.0/16", "LocalGatewayId": "lgw-1"},
        {"DestinationCidrBlock": "0.0.0.0/0", "CoreNetworkArn": "arn:aws:networkmanager::1:core-network/c"},
    ]
    said = found(RouteTables=[{"RouteTableId": "rtb-1", "Routes": [*local, *ways]}])
    assert len(said) == len(ways)
    for clause, thing in zip(said, ("vpce-1", "eigw-1", "eni-1", "lgw-1", "core-network"), strict=True):
        assert thing in clause


def test_each_kind_of_rule_is_one() -> None:
    rules = [
        {"IpProtocol": "tcp", "Ipv6Ranges": [{"CidrIpv6": "::/0"}]},
        {"IpProtocol": "tcp", "PrefixListIds": [{"PrefixListId": "pl-1"}]},
        {"IpProtocol": "tcp", "UserIdGroupPairs": [{"GroupId": "sg-2", "UserId": "1"}]},
    ]
    said = found(SecurityGroups=[{"GroupId": "sg-01234567", "IpPermissionsEgress": rules}])
    assert len(said) == 3 and "::/0" in said[0] and "pl-1" in said[1] and "sg-2" in said[2]
