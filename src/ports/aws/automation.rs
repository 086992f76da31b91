//! SSM Automation: runbooks started, followed and stopped.

use super::{Result, failed, incomplete, run_command::time};
use crate::facts::{Execution, ExecutionStatus};
use aws_config::SdkConfig;
use aws_sdk_ssm::{
    Client,
    types::{
        AutomationExecution, AutomationExecutionFilter, AutomationExecutionFilterKey, AutomationExecutionMetadata,
        AutomationExecutionStatus as Status, StopType,
    },
};
use std::collections::{BTreeMap, HashMap};

/// `DescribeAutomationExecutions` gives at most so many at a time.
const PAGE: i32 = 50;
/// Executions that are looked through: each may take a call of its own.
const MOST: usize = 500;

#[derive(Debug, Clone)]
pub struct Automation(Client);

impl Automation {
    pub fn new(config: &SdkConfig) -> Self {
        Self(Client::new(config))
    }

    /// Starts a runbook; the execution's ID. The same `token`, a UUID, starts it once: later calls get the first one's ID.
    pub async fn start(
        &self,
        document: &str,
        parameters: &BTreeMap<String, Vec<String>>,
        token: Option<&str>,
    ) -> Result<String> {
        const ACTION: &str = "ssm:StartAutomationExecution";
        let mut request = self.0.start_automation_execution().document_name(document);
        for (name, values) in parameters {
            request = request.parameters(name, values.clone());
        }
        let answer = request.set_client_token(token.map(str::to_owned)).send().await;
        let answer = answer.map_err(failed(ACTION, document))?;
        answer.automation_execution_id.ok_or_else(|| incomplete(ACTION, "execution ID"))
    }

    pub async fn execution(&self, id: &str) -> Result<Execution> {
        const ACTION: &str = "ssm:GetAutomationExecution";
        let answer = self.0.get_automation_execution().automation_execution_id(id).send().await;
        let answer = answer.map_err(failed(ACTION, id))?;
        answer.automation_execution.as_ref().and_then(whole).ok_or_else(|| incomplete(ACTION, "execution"))
    }

    /// The last 500 executions of a runbook, newest first. They come without variables; parameters are left out, too.
    pub async fn executions(&self, document: &str) -> Result<Vec<Execution>> {
        const ACTION: &str = "ssm:DescribeAutomationExecutions";
        let filter = AutomationExecutionFilter::builder()
            .key(AutomationExecutionFilterKey::DocumentNamePrefix)
            .values(document)
            .build()
            .map_err(|error| incomplete(ACTION, &error.to_string()))?;
        let mut pages =
            self.0.describe_automation_executions().filters(filter).max_results(PAGE).into_paginator().send();
        let mut found: Vec<Execution> = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(failed(ACTION, document))?;
            found.extend(page.automation_execution_metadata_list().iter().filter_map(|one| listed(one, document)));
            if found.len() >= MOST {
                break;
            }
        }
        found.sort_by_key(|execution| std::cmp::Reverse(execution.began_at));
        Ok(found)
    }

    /// Ends an execution: the step under way is cancelled, and none follows.
    pub async fn stop(&self, id: &str) -> Result<()> {
        let request = self.0.stop_automation_execution().automation_execution_id(id).r#type(StopType::Cancel);
        request.send().await.map_err(failed("ssm:StopAutomationExecution", id))?;
        Ok(())
    }
}

fn whole(execution: &AutomationExecution) -> Option<Execution> {
    let (status, word) = status(execution.automation_execution_status());
    Some(Execution {
        id: execution.automation_execution_id()?.to_owned(),
        status,
        word,
        began_at: execution.execution_start_time().and_then(time),
        ended_at: execution.execution_end_time().and_then(time),
        by: execution.executed_by().unwrap_or_default().to_owned(),
        step: execution.current_step_name().unwrap_or_default().to_owned(),
        failure: execution.failure_message().unwrap_or_default().to_owned(),
        parameters: sorted(execution.parameters()),
        outputs: sorted(execution.outputs()),
        variables: sorted(execution.variables()),
    })
}

fn listed(execution: &AutomationExecutionMetadata, document: &str) -> Option<Execution> {
    if execution.document_name() != Some(document) {
        return None;
    }
    let (status, word) = status(execution.automation_execution_status());
    Some(Execution {
        id: execution.automation_execution_id()?.to_owned(),
        status,
        word,
        began_at: execution.execution_start_time().and_then(time),
        ended_at: execution.execution_end_time().and_then(time),
        by: execution.executed_by().unwrap_or_default().to_owned(),
        step: execution.current_step_name().unwrap_or_default().to_owned(),
        failure: execution.failure_message().unwrap_or_default().to_owned(),
        parameters: BTreeMap::new(),
        outputs: sorted(execution.outputs()),
        variables: BTreeMap::new(),
    })
}

fn status(status: Option<&Status>) -> (ExecutionStatus, String) {
    let word = status.map(|status| status.as_str().to_owned()).unwrap_or_default();
    let status = match status {
        Some(Status::Success | Status::CompletedWithSuccess) => ExecutionStatus::Success,
        Some(Status::Cancelled) => ExecutionStatus::Stopped,
        Some(Status::Failed | Status::Timedout | Status::CompletedWithFailure | Status::Rejected | Status::Exited) => {
            ExecutionStatus::Failed
        }
        Some(Status::PendingApproval | Status::Waiting) => ExecutionStatus::WaitsForApproval,
        // One that SSM calls by a new name is not taken for ended.
        _ => ExecutionStatus::UnderWay,
    };
    (status, word)
}

fn sorted(map: Option<&HashMap<String, Vec<String>>>) -> BTreeMap<String, Vec<String>> {
    map.into_iter().flatten().map(|(name, values)| (name.clone(), values.clone())).collect()
}
