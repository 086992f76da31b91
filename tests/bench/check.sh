#!/bin/bash
# What `hostagent check` asks, asked as an operator would: with the usual programs, one question after the other.
# Ends with the first question that has no answer.
set -euo pipefail

region=eu-west-1
imds=http://169.254.169.254

# The agent, and what runs beside it.
docker inspect ecs-agent
docker ps --all --quiet --no-trunc | xargs docker inspect
systemctl show ecs.service
curl --silent --show-error --fail http://127.0.0.1:51678/v1/metadata
curl --silent --show-error --fail http://127.0.0.1:51678/v1/tasks

# Where it is. Only an address family that the VPC does not have may be absent.
token=$(curl --silent --show-error --fail --request PUT --header 'X-aws-ec2-metadata-token-ttl-seconds: 60' \
    "$imds/latest/api/token")
ask() { curl --silent --show-error --fail --header "X-aws-ec2-metadata-token: $token" "$imds/latest/$1"; }
ask dynamic/instance-identity/document
for path in instance-id placement/region placement/availability-zone services/domain services/partition; do
    ask "meta-data/$path"
done
for mac in $(ask meta-data/network/interfaces/macs/); do
    ask "meta-data/network/interfaces/macs/${mac}vpc-ipv4-cidr-blocks"
    ask "meta-data/network/interfaces/macs/${mac}vpc-ipv6-cidr-blocks" || true
done

# Where the names lead, and whether what is there answers with a certificate for the name.
for host in ecs.$region.amazonaws.com ecs-a.$region.amazonaws.com ecs-t.$region.amazonaws.com; do
    addresses=$(dig +short "$host" A; dig +short "$host" AAAA)
    [ -n "$addresses" ]
    for address in $addresses; do
        openssl s_client -connect "$address:443" -servername "$host" -verify_hostname "$host" \
            -verify_return_error </dev/null
    done
done

# Where the agent goes, and whether tasks get their credentials.
ss --tcp --numeric --processes state established
iptables -w 2 -t nat -S
