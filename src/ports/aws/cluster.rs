//! The container instances of a cluster, as ECS lists them.

use super::{AwsError, ErrorKind, Result, failed};
use crate::facts::Member;
use aws_config::SdkConfig;
use aws_sdk_ecs::{
    Client,
    types::{ContainerInstance, ContainerInstanceStatus},
};
use futures_util::{StreamExt, TryStreamExt, stream};
use std::collections::BTreeMap;

/// `ListContainerInstances` gives at most so many, and `DescribeContainerInstances` takes as many.
const PAGE: usize = 100;
/// Descriptions asked for at once.
const AT_ONCE: usize = 4;
const ZONE: &str = "ecs.availability-zone";

/// ECS, asked about one cluster after another.
#[derive(Debug, Clone)]
pub struct Clusters(Client);

impl Clusters {
    pub fn new(config: &SdkConfig) -> Self {
        Self(Client::new(config))
    }

    /// Every container instance that is not deregistered, ordered by zone and instance ID: two calls for each 100.
    pub async fn members(&self, cluster: &str) -> Result<Vec<Member>> {
        let mut pages =
            self.0.list_container_instances().cluster(cluster).max_results(PAGE as i32).into_paginator().send();
        let mut arns = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(failed("ecs:ListContainerInstances", cluster))?;
            arns.extend(page.container_instance_arns.unwrap_or_default());
        }
        let described = stream::iter(arns.chunks(PAGE).map(|some| self.describe(cluster, some)));
        let pages: Vec<Vec<Member>> = described.buffer_unordered(AT_ONCE).try_collect().await?;
        let mut members: Vec<Member> = pages.into_iter().flatten().collect();
        members.sort_by(|a, b| (&a.zone, &a.instance_id).cmp(&(&b.zone, &b.instance_id)));
        Ok(members)
    }

    /// The Auto Scaling group behind each of these capacity providers, by the provider's name: a call for each 100.
    /// One that has none, such as one of managed instances, is left out.
    pub async fn groups(&self, providers: &[String]) -> Result<BTreeMap<String, String>> {
        const ACTION: &str = "ecs:DescribeCapacityProviders";
        let mut groups = BTreeMap::new();
        for some in providers.chunks(PAGE) {
            let request = self.0.describe_capacity_providers().set_capacity_providers(Some(some.to_vec()));
            let answer = request.send().await.map_err(failed(ACTION, some.join(", ")))?;
            groups.extend(answer.capacity_providers().iter().filter_map(|provider| {
                let group = group_name(provider.auto_scaling_group_provider()?.auto_scaling_group_arn());
                Some((provider.name()?.to_owned(), group.to_owned()))
            }));
        }
        Ok(groups)
    }

    /// One of them that went away in between is left out.
    async fn describe(&self, cluster: &str, arns: &[String]) -> Result<Vec<Member>> {
        let request = self.0.describe_container_instances().cluster(cluster);
        let request = request.set_container_instances(Some(arns.to_vec()));
        let answer = request.send().await.map_err(failed("ecs:DescribeContainerInstances", cluster))?;
        if let Some(failure) = answer.failures().iter().find(|f| f.reason() != Some("MISSING")) {
            return Err(AwsError {
                action: "ecs:DescribeContainerInstances",
                about: failure.arn().unwrap_or(cluster).to_owned(),
                kind: ErrorKind::Other,
                why: failure.reason().unwrap_or("no reason is given").to_owned(),
                remedy: String::new(),
            });
        }
        Ok(answer.container_instances().iter().filter(|i| !is_gone(i)).filter_map(member).collect())
    }
}

fn is_gone(instance: &ContainerInstance) -> bool {
    matches!(
        instance.status().map(ContainerInstanceStatus::from),
        Some(ContainerInstanceStatus::Deregistering | ContainerInstanceStatus::RegistrationFailed)
    )
}

fn member(instance: &ContainerInstance) -> Option<Member> {
    let zone = instance.attributes().iter().find(|a| a.name() == ZONE).and_then(|a| a.value());
    Some(Member {
        instance_id: instance.ec2_instance_id()?.to_owned(),
        zone: zone.map(str::to_owned),
        arn: instance.container_instance_arn()?.to_owned(),
        agent_connected: instance.agent_connected(),
        capacity_provider: instance.capacity_provider_name().map(str::to_owned),
    })
}

/// `arn:…:autoScalingGroup:…:autoScalingGroupName/hosts-a` is `hosts-a`. ECS may give the name itself.
fn group_name(arn: &str) -> &str {
    arn.split_once(":autoScalingGroupName/").map_or(arn, |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_named_by_its_arn_or_itself() {
        let arn = "arn:aws:autoscaling:eu-west-1:123456789012:autoScalingGroup:4b1f:autoScalingGroupName/hosts/a";
        assert_eq!((group_name(arn), group_name("hosts-a")), ("hosts/a", "hosts-a"));
    }
}
