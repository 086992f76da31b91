//! The AWS services a container instance talks to, their host names, and which needs want which.
//!
//! Names are those of AWS's "interface VPC endpoints" pages. S3 is special: its usual
//! endpoint is a gateway, which is a route and does not show in DNS.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A service with an endpoint of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Service {
    Ecs,
    EcsAgent,
    EcsTelemetry,
    EcrApi,
    EcrDkr,
    S3,
    Logs,
    Ssm,
    Ssmmessages,
    Ec2messages,
    Secretsmanager,
    Kms,
}

/// The three names that gate a restart. The agent moves only if all of them are private.
pub const CONTROL_PLANE: [Service; 3] = [Service::Ecs, Service::EcsAgent, Service::EcsTelemetry];

/// A need, as asked for with `--require`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Requirement {
    /// The agent's control plane: ecs, ecs-agent, ecs-telemetry
    Agent,
    /// Image pulls from ECR: ecr.api, ecr.dkr, S3
    Images,
    /// The awslogs driver: logs
    Logs,
    /// ECS Exec: ssmmessages
    Exec,
    /// Secrets in task definitions: secretsmanager, ssm, kms
    Secrets,
    /// The SSM agent: ssm, ssmmessages, ec2messages
    Ssm,
    /// Fargate tasks in this VPC: ecr.api, ecr.dkr, S3, logs
    Fargate,
    /// All of the above
    All,
}

impl Requirement {
    /// The services the need wants, in the order to create their endpoints.
    pub fn services(self) -> &'static [Service] {
        use Service::*;
        match self {
            Requirement::Agent => &[EcsAgent, EcsTelemetry, Ecs],
            Requirement::Images => &[EcrApi, EcrDkr, S3],
            Requirement::Logs => &[Logs],
            Requirement::Exec => &[Ssmmessages],
            Requirement::Secrets => &[Secretsmanager, Ssm, Kms],
            Requirement::Ssm => &[Ssm, Ssmmessages, Ec2messages],
            Requirement::Fargate => &[EcrApi, EcrDkr, S3, Logs],
            Requirement::All => &[
                EcsAgent,
                EcsTelemetry,
                Ecs,
                EcrApi,
                EcrDkr,
                S3,
                Logs,
                Ssm,
                Ssmmessages,
                Ec2messages,
                Secretsmanager,
                Kms,
            ],
        }
    }
}

/// What the names depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place<'a> {
    pub region: &'a str,
    pub dns_suffix: &'a str,
    pub account: &'a str,
    pub partition: &'a str,
}

impl<'a> Place<'a> {
    /// The DNS suffix of dual-stack API names, which IPv6-only hosts use.
    pub fn dual_stack_suffix(&self) -> &'a str {
        match self.partition {
            "aws-cn" => "api.amazonwebservices.com.cn",
            _ => "api.aws",
        }
    }
}

impl Service {
    /// Whether it is one of the three that gate a restart.
    pub fn is_control_plane(self) -> bool {
        CONTROL_PLANE.contains(&self)
    }

    /// The last part of the endpoint service name.
    pub fn id(self) -> &'static str {
        match self {
            Service::Ecs => "ecs",
            Service::EcsAgent => "ecs-agent",
            Service::EcsTelemetry => "ecs-telemetry",
            Service::EcrApi => "ecr.api",
            Service::EcrDkr => "ecr.dkr",
            Service::S3 => "s3",
            Service::Logs => "logs",
            Service::Ssm => "ssm",
            Service::Ssmmessages => "ssmmessages",
            Service::Ec2messages => "ec2messages",
            Service::Secretsmanager => "secretsmanager",
            Service::Kms => "kms",
        }
    }

    /// The name clients dial, which private DNS of the endpoint covers.
    pub fn host(self, place: &Place<'_>) -> String {
        let Place { region, dns_suffix, account, .. } = place;
        match self {
            Service::EcsAgent => format!("ecs-a.{region}.{dns_suffix}"),
            Service::EcsTelemetry => format!("ecs-t.{region}.{dns_suffix}"),
            Service::EcrApi => format!("api.ecr.{region}.{dns_suffix}"),
            Service::EcrDkr => format!("{account}.dkr.ecr.{region}.{dns_suffix}"),
            // Layers come from this bucket; its virtual-host name follows the gateway's route too.
            Service::S3 => format!("prod-{region}-starport-layer-bucket.s3.{region}.{dns_suffix}"),
            other => format!("{}.{region}.{dns_suffix}", other.id()),
        }
    }

    /// The endpoint service to name when creating the endpoint.
    pub fn endpoint_service(self, place: &Place<'_>) -> String {
        let prefix = match (place.partition, self) {
            // China: these services are named with the partition's own prefix.
            (
                "aws-cn",
                Service::Ecs | Service::EcsAgent | Service::EcsTelemetry | Service::EcrApi | Service::EcrDkr,
            ) => "cn.com.amazonaws",
            _ => "com.amazonaws",
        };
        format!("{prefix}.{}.{}", place.region, self.id())
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.id())
    }
}

/// The DNS suffix of a partition, where it is known.
pub fn dns_suffix(partition: &str) -> Option<&'static str> {
    Some(match partition {
        "aws" | "aws-us-gov" => "amazonaws.com",
        "aws-cn" => "amazonaws.com.cn",
        "aws-iso" => "c2s.ic.gov",
        "aws-iso-b" => "sc2s.sgov.gov",
        "aws-iso-e" => "cloud.adc-e.uk",
        "aws-iso-f" => "csp.hci.ic.gov",
        "aws-eusc" => "amazonaws.eu",
        _ => return None,
    })
}

/// The services of several needs, each once, in the catalog's order.
pub fn services(requirements: &[Requirement]) -> Vec<Service> {
    let mut all: Vec<Service> = requirements.iter().flat_map(|r| r.services()).copied().collect();
    all.sort();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place<'_> =
        Place { region: "eu-west-1", dns_suffix: "amazonaws.com", account: "111122223333", partition: "aws" };

    #[test]
    fn names_are_the_documented_ones() {
        let host = |service: Service| service.host(&PLACE);
        assert_eq!(host(Service::Ecs), "ecs.eu-west-1.amazonaws.com");
        assert_eq!(host(Service::EcsAgent), "ecs-a.eu-west-1.amazonaws.com");
        assert_eq!(host(Service::EcsTelemetry), "ecs-t.eu-west-1.amazonaws.com");
        assert_eq!(host(Service::EcrApi), "api.ecr.eu-west-1.amazonaws.com");
        assert_eq!(host(Service::EcrDkr), "111122223333.dkr.ecr.eu-west-1.amazonaws.com");
        assert_eq!(host(Service::S3), "prod-eu-west-1-starport-layer-bucket.s3.eu-west-1.amazonaws.com");
        assert_eq!(Service::EcsAgent.endpoint_service(&PLACE), "com.amazonaws.eu-west-1.ecs-agent");
        let china = Place { region: "cn-north-1", dns_suffix: "amazonaws.com.cn", partition: "aws-cn", ..PLACE };
        assert_eq!(Service::Ecs.host(&china), "ecs.cn-north-1.amazonaws.com.cn");
        assert_eq!(Service::Ecs.endpoint_service(&china), "cn.com.amazonaws.cn-north-1.ecs");
        assert_eq!(Service::Logs.endpoint_service(&china), "com.amazonaws.cn-north-1.logs");
    }

    #[test]
    fn all_holds_every_need() {
        let all = Requirement::All.services();
        for need in Requirement::value_variants() {
            assert!(need.services().iter().all(|s| all.contains(s)), "{need:?}");
        }
    }
}
