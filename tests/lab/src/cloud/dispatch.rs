//! Which operation is answered where.

use super::{
    associations, automation, command, compliance, documents, ec2, ecs,
    error::ApiError,
    event::Event,
    fault::{Met, throttled},
    gates, nodes, parameters,
    state::{Shared, State},
    sts, tags,
};
use serde_json::Value;
use std::sync::Arc;

/// Answers a call, and tells what faults it met on the way.
pub(super) fn call(shared: &Arc<Shared>, service: &str, action: &str, input: &Value) -> (Met, Result<Value, ApiError>) {
    let mut state = shared.state();
    let mut met = state.faults.meet(service, action);
    let rate = state.options.rates.iter().find(|(of, _)| of == action).map(|(_, rate)| *rate);
    let now_s = state.now_s();
    if met.refused.is_none() && rate.is_some_and(|rate| !state.faults.take(action, rate, now_s)) {
        met.refused = Some(throttled(service));
    }
    let done = match met.refused.take() {
        Some(error) => Err(error),
        None if service == "ssm" && automation::OPERATIONS.contains(&action) => {
            // It makes calls of its own.
            drop(state);
            let done = automation::handle(shared, action, input);
            state = shared.state();
            done
        }
        None => answer(&mut state, service, action, input),
    };
    state.note(service, action, done.as_ref().err());
    (met, done)
}

fn answer(state: &mut State, service: &str, action: &str, input: &Value) -> Result<Value, ApiError> {
    match (service, action) {
        ("ssm", "GetParameter") => parameters::get(state, input),
        ("ssm", "GetParameters") => parameters::get_several(state, input),
        ("ssm", "GetParametersByPath") => parameters::by_path(state, input),
        ("ssm", "PutParameter") => parameters::put(state, input),
        ("ssm", "DeleteParameter") => parameters::delete(state, input),
        ("ssm", "CreateDocument") => documents::create(state, input),
        ("ssm", "UpdateDocument") => documents::update(state, input),
        ("ssm", "UpdateDocumentDefaultVersion") => documents::set_default(state, input),
        ("ssm", "DescribeDocument") => documents::describe(state, input),
        ("ssm", "GetDocument") => documents::get(state, input),
        ("ssm", "DeleteDocument") => documents::delete(state, input),
        ("ssm", "ListDocuments") => documents::list(state, input),
        ("ssm", "ListDocumentVersions") => documents::list_versions(state, input),
        ("ssm", "AddTagsToResource") => tags::add(state, input),
        ("ssm", "RemoveTagsFromResource") => tags::remove(state, input),
        ("ssm", "ListTagsForResource") => tags::list(state, input),
        ("ssm", "SendCommand") => command::send(state, input),
        ("ssm", "CancelCommand") => command::cancel(state, input),
        ("ssm", "ListCommands") => command::list(state, input),
        ("ssm", "ListCommandInvocations") => command::list_invocations(state, input),
        ("ssm", "GetCommandInvocation") => command::get_invocation(state, input),
        ("ssm", "DescribeInstanceInformation") => nodes::describe(state, input),
        ("ssm", "GetCalendarState") => gates::get_calendar_state(state, input),
        ("ssm", "CreateAssociation") => associations::create(state, input),
        ("ssm", "UpdateAssociation") => associations::update(state, input),
        ("ssm", "DeleteAssociation") => associations::delete(state, input),
        ("ssm", "DescribeAssociation") => associations::describe(state, input),
        ("ssm", "ListAssociations") => associations::list(state, input),
        ("ssm", "DescribeAssociationExecutions") => associations::describe_executions(state, input),
        ("ssm", "DescribeAssociationExecutionTargets") => associations::describe_execution_targets(state, input),
        ("ssm", "StartAssociationsOnce") => associations::start_once(state, input),
        ("ssm", "PutComplianceItems") => compliance::put_items(state, input),
        ("ssm", "ListComplianceItems") => compliance::list_items(state, input),
        ("ssm", "ListResourceComplianceSummaries") => compliance::list_summaries(state, input),
        ("ssm", "PutInventory") => compliance::put_inventory(state, input),
        ("ssm", "ListInventoryEntries") => compliance::list_inventory(state, input),
        ("ecs", "ListClusters") => ecs::list_clusters(state, input),
        ("ecs", "DescribeClusters") => ecs::describe_clusters(state, input),
        ("ecs", "ListContainerInstances") => ecs::list_container_instances(state, input),
        ("ecs", "DescribeCapacityProviders") => ecs::describe_capacity_providers(state, input),
        ("ecs", "DescribeContainerInstances") => ecs::describe_container_instances(state, input),
        ("ec2", "DescribeInstances") => ec2::describe_instances(state, input),
        ("monitoring", "DescribeAlarms") => gates::describe_alarms(state, input),
        ("sts", "GetCallerIdentity") => sts::get_caller_identity(input),
        ("sts", "AssumeRole") => sts::assume_role(state, input),
        _ => Err(ApiError::new("UnknownOperationException", format_args!("the test cloud has no {service} {action}"))),
    }
}

impl State {
    /// Counts a call and puts it in the log.
    pub(super) fn note(&mut self, service: &str, action: &str, error: Option<&ApiError>) {
        *self.calls.entry(action.to_owned()).or_default() += 1;
        let at_s = self.now_s();
        let error = error.map(|error| error.kind.clone());
        self.events.push(Event::Api { service: service.into(), action: action.into(), at_s, error });
    }
}
