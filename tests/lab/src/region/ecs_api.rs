//! The ECS API as far as the agent and hostagent use it: JSON 1.1 over POST.

use super::{
    https::{Call, ERROR_TYPE, Reply, error, json},
    place::{ACCOUNT, CLUSTER, REGION, Service},
    sigv4,
    state::Shared,
    switch::{ArnMode, Instance, What},
};
use crate::clock;
use http_body_util::{BodyExt as _, Limited};
use hyper::{Method, Request, StatusCode, body::Incoming};
use serde_json::{Value, json};
use std::sync::Arc;

const TARGET: &str = "AmazonEC2ContainerServiceV20141113.";
/// Bytes of a request body that are read.
const BODY_LIMIT: usize = 1 << 20;

type Answer = Result<(Value, String), Box<Reply>>;

pub(super) async fn respond(shared: &Arc<Shared>, call: Call, request: Request<Incoming>) -> Reply {
    let target = request.headers().get("x-amz-target").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let Some(action) = target.strip_prefix(TARGET).map(str::to_string) else {
        let status = if request.method() == Method::POST { StatusCode::BAD_REQUEST } else { StatusCode::NOT_FOUND };
        return error(status, "UnknownOperationException", "");
    };
    let (reply, detail) = match answer(shared, call, &action, request).await {
        Ok((body, detail)) => (json(StatusCode::OK, &body), detail),
        Err(reply) => {
            let kind =
                reply.headers().get(ERROR_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default().to_string();
            (*reply, kind)
        }
    };
    let status = reply.status().as_u16();
    shared.log(What::Api { action, local: call.local, peer: call.peer, status, detail });
    reply
}

async fn answer(shared: &Arc<Shared>, call: Call, action: &str, request: Request<Incoming>) -> Answer {
    if request.method() != Method::POST {
        return refuse("UnknownOperationException", "");
    }
    let content_type = request.headers().get("content-type").and_then(|value| value.to_str().ok());
    if content_type != Some("application/x-amz-json-1.1") {
        return refuse("UnknownOperationException", "Content-Type must be application/x-amz-json-1.1");
    }
    sigv4::check(shared, request.headers(), &["ecs"])?;
    let input = read(request).await?;
    if let Some(fault) = shared.api_fault(action) {
        let status = StatusCode::from_u16(fault.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        return Err(Box::new(error(status, &fault.kind, &fault.message)));
    }
    match action {
        "RegisterContainerInstance" => register(shared, &input),
        "DiscoverPollEndpoint" => Ok(discover(call)),
        "SubmitTaskStateChange" | "SubmitContainerStateChange" | "SubmitAttachmentStateChanges" => {
            Ok((json!({ "acknowledgment": "ACK" }), String::new()))
        }
        "ListContainerInstances" => {
            cluster(&input)?;
            let arns: Vec<String> = shared.instances().into_iter().map(|instance| instance.arn).collect();
            Ok((json!({ "containerInstanceArns": arns }), String::new()))
        }
        "DescribeContainerInstances" => describe(shared, &input),
        "UpdateContainerInstancesState" => update_state(shared, &input),
        _ => refuse("UnknownOperationException", ""),
    }
}

/// The object that a request holds.
pub(super) async fn read(request: Request<Incoming>) -> Result<Value, Box<Reply>> {
    let malformed = |why: String| Box::new(error(StatusCode::BAD_REQUEST, "SerializationException", &why));
    let body = Limited::new(request.into_body(), BODY_LIMIT).collect().await;
    let body = body.map_err(|why| malformed(why.to_string()))?.to_bytes();
    match serde_json::from_slice(&body) {
        Ok(input @ Value::Object(_)) => Ok(input),
        Ok(_) => Err(malformed("the body is not an object".into())),
        Err(why) => Err(malformed(why.to_string())),
    }
}

fn refuse(kind: &str, message: &str) -> Answer {
    Err(Box::new(error(StatusCode::BAD_REQUEST, kind, message)))
}

fn text<'a>(input: &'a Value, name: &str) -> Option<&'a str> {
    input.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// The cluster named, as a bare name; an absent one is `default`, as in the real API.
fn cluster(input: &Value) -> Result<String, Box<Reply>> {
    let named = text(input, "cluster").unwrap_or("default");
    let name = named.rsplit('/').next().unwrap_or(named);
    if name == CLUSTER || name == "default" {
        return Ok(name.to_string());
    }
    Err(Box::new(error(StatusCode::BAD_REQUEST, "ClusterNotFoundException", "Cluster not found.")))
}

fn register(shared: &Shared, input: &Value) -> Answer {
    // This one action has no error type of its own for it.
    let Ok(cluster) = cluster(input) else { return refuse("ClientException", "Cluster not found.") };
    let document = text(input, "instanceIdentityDocument").unwrap_or_default();
    let identity: Value = serde_json::from_str(document).unwrap_or_default();
    if identity.get("instanceId").and_then(Value::as_str) != Some(&shared.instance) {
        return refuse("ClientException", "Instance identity document is not valid.");
    }
    let named = text(input, "containerInstanceArn");
    let known = named.and_then(|arn| shared.instance(arn));
    if named.is_some() && known.as_ref().is_none_or(|instance| instance.status == "INACTIVE") {
        return refuse("ClientException", "Container instance is not active, or is not known.");
    }
    if known.as_ref().is_some_and(|instance| instance.cluster != cluster) {
        return refuse("ClientException", "Container instance is registered to another cluster.");
    }
    let version = input.pointer("/versionInfo/agentVersion").and_then(Value::as_str).unwrap_or_default().to_string();
    let stable = shared.switches().arn == ArnMode::Stable;
    let instance = match known {
        Some(known) if stable => Instance { registrations: known.registrations + 1, agent_version: version, ..known },
        _ => {
            let id = clock::random_hex(32);
            Instance {
                arn: format!("arn:aws:ecs:{REGION}:{ACCOUNT}:container-instance/{cluster}/{id}"),
                cluster,
                agent_version: version,
                agent_connected: false,
                status: "ACTIVE".into(),
                registrations: 1,
            }
        }
    };
    shared.put_instance(instance.clone());
    Ok((json!({ "containerInstance": shape(shared, &instance) }), instance.arn))
}

/// By the address the request came in on: through an endpoint the plain names, else the numbered ones.
fn discover(call: Call) -> (Value, String) {
    let host = |service: Service| match service.numbered_host() {
        Some(numbered) if !call.door.is_endpoint() => numbered,
        _ => service.host(),
    };
    let agent = host(Service::EcsAgent);
    let body = json!({
        "endpoint": format!("https://{agent}/"),
        "telemetryEndpoint": format!("https://{}/", host(Service::EcsTelemetry)),
    });
    (body, agent)
}

fn describe(shared: &Shared, input: &Value) -> Answer {
    cluster(input)?;
    let Some(wanted) = input.get("containerInstances").and_then(Value::as_array) else {
        return refuse("InvalidParameterException", "Container instances cannot be empty.");
    };
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    for name in wanted.iter().filter_map(Value::as_str) {
        let all = shared.instances();
        match all.iter().find(|instance| instance.arn == name || instance.arn.rsplit('/').next() == Some(name)) {
            Some(instance) => found.push(shape(shared, instance)),
            None => failures.push(json!({ "arn": name, "reason": "MISSING" })),
        }
    }
    Ok((json!({ "containerInstances": found, "failures": failures }), String::new()))
}

fn update_state(shared: &Shared, input: &Value) -> Answer {
    cluster(input)?;
    let status = match text(input, "status") {
        Some(status @ ("ACTIVE" | "DRAINING")) => status.to_string(),
        _ => {
            return refuse(
                "InvalidParameterException",
                "Container instances status should be one of [DRAINING,ACTIVE]",
            );
        }
    };
    let mut changed = Vec::new();
    for arn in input.get("containerInstances").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
    {
        if let Some(instance) = shared.instance(arn) {
            let instance = Instance { status: status.clone(), ..instance };
            shared.put_instance(instance.clone());
            changed.push(shape(shared, &instance));
        }
    }
    Ok((json!({ "containerInstances": changed, "failures": [] }), status))
}

fn shape(shared: &Shared, instance: &Instance) -> Value {
    json!({
        "containerInstanceArn": instance.arn,
        "ec2InstanceId": shared.instance,
        "version": instance.registrations,
        "versionInfo": { "agentVersion": instance.agent_version },
        "status": instance.status,
        "agentConnected": instance.agent_connected,
        "runningTasksCount": 0,
        "pendingTasksCount": 0,
        "attributes": [],
    })
}
