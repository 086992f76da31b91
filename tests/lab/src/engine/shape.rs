//! Containers as the API of Engine 20.10 writes them.

use super::container::{Container, Status};
use crate::clock;
use serde_json::{Value, json};

/// What this engine says it is.
pub const VERSION: &str = "20.10.24+lab";
pub const API: &str = "1.41";
pub const API_MIN: &str = "1.12";

pub fn version() -> Value {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    json!({
        "Platform": { "Name": "hostagent lab" },
        "Components": [{
            "Name": "Engine",
            "Version": VERSION,
            "Details": { "ApiVersion": API, "MinAPIVersion": API_MIN, "Os": "linux", "Arch": "amd64" },
        }],
        "Version": VERSION,
        "ApiVersion": API,
        "MinAPIVersion": API_MIN,
        "GitCommit": "",
        "GoVersion": "",
        "Os": "linux",
        "Arch": "amd64",
        "KernelVersion": kernel.trim(),
        "BuildTime": "2026-11-22T00:00:00.000000000+00:00",
    })
}

/// `GET /containers/{id}/json`
pub fn inspect(container: &Container) -> Value {
    let Container { spec, id, .. } = container;
    let view = container.view();
    let running = matches!(view.status, Status::Running | Status::Restarting);
    let policy = match spec.retries {
        Some(retries) => json!({ "Name": "on-failure", "MaximumRetryCount": retries }),
        None => json!({ "Name": "no", "MaximumRetryCount": 0 }),
    };
    let env: Vec<String> = spec.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let network = network(container);
    json!({
        "Id": id,
        "Created": clock::rfc3339_nanos(container.created_nanos),
        "Path": spec.path,
        "Args": spec.args,
        "State": {
            "Status": view.status.word(),
            "Running": running,
            "Paused": false,
            "Restarting": view.status == Status::Restarting,
            "OOMKilled": false,
            "Dead": false,
            "Pid": view.pid,
            "ExitCode": view.exit_code,
            "Error": "",
            "StartedAt": view.started_at,
            "FinishedAt": view.finished_at,
        },
        "Image": image_id(&spec.image),
        "ResolvConfPath": "",
        "HostnamePath": "",
        "HostsPath": "",
        "LogPath": spec.log,
        "Name": format!("/{}", spec.name),
        "RestartCount": view.restart_count,
        "Driver": "lab",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": null,
        "HostConfig": {
            "Binds": spec.binds,
            "ContainerIDFile": "",
            "LogConfig": { "Type": "json-file", "Config": {} },
            "NetworkMode": network,
            "PortBindings": {},
            "RestartPolicy": policy,
            "AutoRemove": false,
            "CapAdd": null,
            "CapDrop": null,
            "CgroupnsMode": "host",
            "IpcMode": "private",
            "PidMode": "",
            "Privileged": false,
            "ReadonlyRootfs": false,
            "Runtime": "runc",
            "Init": spec.init.then_some(true),
        },
        "GraphDriver": { "Data": {}, "Name": "lab" },
        "Mounts": mounts(container),
        "Config": {
            "Hostname": "lab",
            "Domainname": "",
            "User": "",
            "AttachStdin": false,
            "AttachStdout": false,
            "AttachStderr": false,
            "Tty": false,
            "OpenStdin": false,
            "StdinOnce": false,
            "Env": env,
            "Cmd": null,
            "Image": spec.image,
            "Volumes": null,
            "WorkingDir": "",
            "Entrypoint": [spec.path],
            "OnBuild": null,
            "Labels": spec.labels,
        },
        "NetworkSettings": {
            "Bridge": "",
            "SandboxID": "",
            "Ports": {},
            "Gateway": "",
            "IPAddress": "",
            "IPPrefixLen": 0,
            "MacAddress": "",
            "Networks": { network: endpoint() },
        },
    })
}

/// An entry of `GET /containers/json`
pub fn summary(container: &Container) -> Value {
    let Container { spec, id, .. } = container;
    let view = container.view();
    let network = network(container);
    let command: Vec<&str> = std::iter::once(spec.path.as_str()).chain(spec.args.iter().map(String::as_str)).collect();
    let words = match view.status {
        Status::Created => "Created".to_string(),
        Status::Running => "Up Less than a second".to_string(),
        Status::Restarting => format!("Restarting ({}) Less than a second ago", view.exit_code),
        Status::Exited => format!("Exited ({}) Less than a second ago", view.exit_code),
    };
    json!({
        "Id": id,
        "Names": [format!("/{}", spec.name)],
        "Image": spec.image,
        "ImageID": image_id(&spec.image),
        "Command": command.join(" "),
        "Created": container.created_nanos / 1_000_000_000,
        "Ports": [],
        "Labels": spec.labels,
        "State": view.status.word(),
        "Status": words,
        "HostConfig": { "NetworkMode": network },
        "NetworkSettings": { "Networks": { network: endpoint() } },
        "Mounts": mounts(container),
    })
}

fn network(container: &Container) -> &'static str {
    if container.spec.host_network { "host" } else { "default" }
}

fn endpoint() -> Value {
    json!({
        "IPAMConfig": null,
        "Links": null,
        "Aliases": null,
        "NetworkID": "",
        "EndpointID": "",
        "Gateway": "",
        "IPAddress": "",
        "IPPrefixLen": 0,
        "IPv6Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "MacAddress": "",
        "DriverOpts": null,
    })
}

fn mounts(container: &Container) -> Vec<Value> {
    let mount = |bind: &String| {
        let mut parts = bind.split(':');
        let (source, destination) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let mode = parts.next().unwrap_or_default();
        json!({
            "Type": "bind",
            "Source": source,
            "Destination": destination,
            "Mode": mode,
            "RW": mode != "ro",
            "Propagation": "rprivate",
        })
    };
    container.spec.binds.iter().map(mount).collect()
}

/// The same for the same name, and 64 hexadecimal digits.
fn image_id(image: &str) -> String {
    let mut digits = String::new();
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    while digits.len() < 64 {
        for byte in image.bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        digits.push_str(&format!("{hash:016x}"));
    }
    format!("sha256:{digits}")
}
