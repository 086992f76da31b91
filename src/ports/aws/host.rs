//! SSM as this host's role may use it: the brakes, the runbook, the compliance item.

use super::{AwsError, automation::Automation, failed, halt::Brakes, of_host};
use crate::{
    facts::{ExecutionStatus, Missing},
    ports::{ComplianceItem, Fleet, words::Span},
};
use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_ssm::{
    Client,
    primitives::DateTime,
    types::{
        ComplianceExecutionSummary, ComplianceItemEntry, ComplianceSeverity, ComplianceStatus, ComplianceUploadType,
    },
};
use std::{collections::BTreeMap, time::Duration};
use tokio::time::timeout;

type Result<T> = std::result::Result<T, Missing>;

/// Under which SSM Compliance files the item; the part after the colon is ours.
pub const COMPLIANCE_TYPE: &str = "Custom:Hostagent";
const ITEM: &str = "ecs-agent-on-privatelink";
/// Calls that are throttled are made again: a thousand hosts may ask at once.
const ATTEMPTS: u32 = 4;

/// Nothing is built, read or connected before it is asked.
#[derive(Debug, Clone)]
pub struct HostFleet {
    imds: String,
    deadline: Duration,
}

impl HostFleet {
    /// `imds` is the base URL of the metadata service, for the role's credentials. `deadline` bounds each question as a
    /// whole. The SDK's environment variables and profiles are honoured, `AWS_ENDPOINT_URL` among them.
    pub fn new(imds: &str, deadline: Duration) -> Self {
        Self { imds: imds.to_owned(), deadline }
    }

    async fn ask<T>(
        &self,
        region: &str,
        what: &str,
        question: impl AsyncFnOnce(&SdkConfig) -> super::Result<T>,
    ) -> Result<T> {
        let asked = async {
            let config = of_host(&self.imds, region, self.deadline, ATTEMPTS).await;
            let config = config.map_err(|why| {
                Missing::new(format!("instance metadata ({})", self.imds), why, "correct instance.imds")
            })?;
            question(&config).await.map_err(missing)
        };
        timeout(self.deadline, asked).await.unwrap_or_else(|_| {
            let why = format!("no answer within {}", Span(self.deadline));
            Err(Missing::new(what, why, "see that ssm is reachable on 443 and that the instance has a role"))
        })
    }
}

fn missing(error: AwsError) -> Missing {
    let about = if error.about.is_empty() { String::new() } else { format!(" ({})", error.about) };
    Missing::new(format!("{}{about}", error.action), error.why, error.remedy)
}

#[async_trait]
impl Fleet for HostFleet {
    async fn parameter(&self, region: &str, name: &str) -> Result<Option<String>> {
        self.ask(region, "ssm:GetParameter", async |config| Brakes::new(config).parameter(name).await).await
    }

    async fn put_parameter_once(&self, region: &str, name: &str, value: &str, description: &str) -> Result<()> {
        let put = async |config: &SdkConfig| Brakes::new(config).put_parameter_once(name, value, description).await;
        self.ask(region, "ssm:PutParameter", put).await.map(|_| ())
    }

    async fn is_open(&self, region: &str, calendars: &[String]) -> Result<bool> {
        self.ask(region, "ssm:GetCalendarState", async |config| Brakes::new(config).is_open(calendars).await).await
    }

    async fn start_runbook(
        &self,
        region: &str,
        document: &str,
        parameters: &BTreeMap<String, Vec<String>>,
        token: &str,
    ) -> Result<String> {
        let start = async |config: &SdkConfig| Automation::new(config).start(document, parameters, Some(token)).await;
        self.ask(region, "ssm:StartAutomationExecution", start).await
    }

    async fn execution(&self, region: &str, id: &str) -> Result<ExecutionStatus> {
        let look = async |config: &SdkConfig| Automation::new(config).execution(id).await;
        self.ask(region, "ssm:GetAutomationExecution", look).await.map(|execution| execution.status)
    }

    async fn put_compliance(&self, region: &str, item: &ComplianceItem) -> Result<()> {
        self.ask(region, "ssm:PutComplianceItems", async |config| put_compliance(config, item).await).await
    }
}

async fn put_compliance(config: &SdkConfig, item: &ComplianceItem) -> super::Result<()> {
    const ACTION: &str = "ssm:PutComplianceItems";
    let refused = |error: aws_sdk_ssm::error::BuildError| super::incomplete(ACTION, &error.to_string());
    let (status, severity) = match item.compliant {
        true => (ComplianceStatus::Compliant, ComplianceSeverity::Informational),
        false => (ComplianceStatus::NonCompliant, ComplianceSeverity::Medium),
    };
    let entry = ComplianceItemEntry::builder().id(ITEM).title(&item.title).status(status).severity(severity);
    let entry = entry.set_details(Some(item.details.clone().into_iter().collect())).build().map_err(refused)?;
    let now = DateTime::from(std::time::SystemTime::now());
    let summary = ComplianceExecutionSummary::builder().execution_time(now).build().map_err(refused)?;
    let request = Client::new(config).put_compliance_items().resource_id(&item.instance_id);
    let request = request.resource_type("ManagedInstance").compliance_type(COMPLIANCE_TYPE);
    let request = request.upload_type(ComplianceUploadType::Complete).execution_summary(summary).items(entry);
    request.send().await.map_err(failed(ACTION, item.instance_id.clone()))?;
    Ok(())
}
