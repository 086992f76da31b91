//! systemd over the system bus: a hand-written proxy of the few methods used.

use super::{Acted, Init, Result, TransientUnit, Undone};
use crate::facts::{Missing, Systemd, Unit, UnitRole};
use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt, future::try_join_all, stream};
use std::{
    collections::HashMap,
    fs,
    future::Future,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use tokio::{sync::Mutex, time::timeout};
use zbus::{Connection, OwnedObjectPath, OwnedVariant, Variant, proxy, proxy::CacheProperties};

/// One look may take this long.
const READ_DEADLINE: Duration = Duration::from_secs(5);
/// Present exactly where systemd is the init system (`sd_booted(3)`).
const BOOTED: &str = "/run/systemd/system";
/// Property reads under way at once.
const READS: usize = 16;

#[proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Manager {
    fn subscribe(&self) -> zbus::Result<()>;
    fn load_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    fn list_units_by_patterns(&self, states: &[&str], patterns: &[&str]) -> zbus::Result<Vec<ListedUnit>>;
    fn restart_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn reset_failed_unit(&self, name: &str) -> zbus::Result<()>;
    fn start_transient_unit(
        &self,
        name: &str,
        mode: &str,
        properties: &[(&str, Variant<'_>)],
        aux: &[(&str, &[(&str, Variant<'_>)])],
    ) -> zbus::Result<OwnedObjectPath>;
    #[zbus(signal)]
    fn job_removed(&self, id: u32, job: OwnedObjectPath, unit: String, result: String) -> zbus::Result<()>;
}

#[proxy(interface = "org.freedesktop.DBus.Properties", default_service = "org.freedesktop.systemd1")]
trait UnitProperties {
    fn get_all(&self, interface: &str) -> zbus::Result<HashMap<String, OwnedVariant>>;
}

/// name, description, load state, active state, sub state, followed unit, object, job id, job type, job
type ListedUnit = (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);
/// path, argv, ignore failure, four time stamps, pid, code, status
type Exec = (String, Vec<String>, bool, u64, u64, u64, u64, u32, i32, i32);

/// The manager's answer to a second subscription over the same connection.
const SUBSCRIBED: &str = "org.freedesktop.systemd1.AlreadySubscribed";

/// The system bus; connects at the first call, and again when the bus was restarted.
pub struct SystemBus {
    connection: Mutex<Option<Connection>>,
    /// A stop and start of the agent's unit may take this long.
    job_deadline: Duration,
}

impl SystemBus {
    /// `job_deadline` bounds the wait for a job of the manager.
    pub fn new(job_deadline: Duration) -> Self {
        Self { connection: Mutex::new(None), job_deadline }
    }

    async fn connection(&self) -> Result<Connection> {
        let mut kept = self.connection.lock().await;
        if let Some(connection) = kept.as_ref().filter(|connection| !connection.is_closed()) {
            return Ok(connection.clone());
        }
        let connection = bounded("systemd over the system bus", READ_DEADLINE, Connection::system()).await?;
        Ok(kept.insert(connection).clone())
    }

    async fn manager(&self) -> Result<ManagerProxy<'static>> {
        let connection = self.connection().await?;
        bounded("systemd over the system bus", READ_DEADLINE, ManagerProxy::new(&connection)).await
    }

    async fn unit(&self, path: OwnedObjectPath, usual: bool) -> Result<Option<Unit>> {
        let connection = self.connection().await?;
        let what = format!("properties of {}", path.as_str());
        let read = async {
            let proxy = UnitPropertiesProxy::builder(&connection).path(path).build().await?;
            let unit = proxy.get_all("org.freedesktop.systemd1.Unit").await?;
            let service = proxy.get_all("org.freedesktop.systemd1.Service").await?;
            Ok((unit, service))
        };
        let (unit, service) = bounded(&what, READ_DEADLINE, read).await?;
        read_unit(&unit, &service, usual).map_err(|why| Missing::new(what, why, "systemctl show tells the same"))
    }

    /// Object paths of the service units whose command holds one of `words`.
    async fn naming(&self, words: &[String]) -> Result<Vec<OwnedObjectPath>> {
        if words.is_empty() {
            return Ok(Vec::new());
        }
        let connection = self.connection().await?;
        let manager = self.manager().await?;
        let listed =
            bounded("list of units", READ_DEADLINE, manager.list_units_by_patterns(&[], &["*.service"])).await?;
        // What is only mentioned by others, or switched off, has no command.
        let loaded = listed.into_iter().filter(|unit| !matches!(unit.2.as_str(), "not-found" | "masked"));
        let connection = &connection;
        let commands = stream::iter(loaded)
            .map(|unit| async move {
                // With a cache it would read every property of the unit and subscribe to their changes.
                let proxy = zbus::proxy::Builder::<zbus::Proxy<'_>>::new(connection)
                    .destination("org.freedesktop.systemd1")
                    .path(unit.6.clone())
                    .interface("org.freedesktop.systemd1.Service")
                    .cache_properties(CacheProperties::No)
                    .build()
                    .await?;
                // One that was unloaded meanwhile has no command.
                let exec: Vec<Exec> = proxy.get_property("ExecStart").await.unwrap_or_default();
                Ok::<_, zbus::Error>((unit.6, exec))
            })
            .buffer_unordered(READS)
            .try_collect::<Vec<_>>();
        let commands = bounded("commands of the service units", READ_DEADLINE, commands).await?;
        Ok(commands
            .into_iter()
            .filter(|(_, exec)| exec.iter().any(|e| e.1.iter().any(|arg| words.iter().any(|w| arg.contains(w)))))
            .map(|(path, _)| path)
            .collect())
    }

    /// Asks for a job and waits until the manager has removed it; the job's result.
    async fn job<F>(&self, what: &str, ask: impl FnOnce(ManagerProxy<'static>) -> F) -> Acted<String>
    where
        F: Future<Output = zbus::Result<OwnedObjectPath>>,
    {
        let manager = self.manager().await.map_err(Undone::NotTaken)?;
        let sent = AtomicBool::new(false);
        let run = async {
            // Without a subscription the manager sends no signals. Listening comes first: the job may end at once.
            // One that stands from an earlier job will do.
            match manager.subscribe().await {
                Err(zbus::Error::MethodError(name, ..)) if name.as_str() == SUBSCRIBED => {}
                other => other?,
            }
            let mut removed = manager.receive_job_removed().await?;
            sent.store(true, Ordering::Relaxed);
            let job = match ask(manager.clone()).await {
                Err(error) if turned_down(&error) => {
                    sent.store(false, Ordering::Relaxed);
                    return Err(error);
                }
                other => other?,
            };
            while let Some(signal) = removed.next().await {
                let args = signal.args()?;
                if args.job == job {
                    return Ok(args.result);
                }
            }
            Err(zbus::Error::Failure("the bus closed before the job ended".into()))
        };
        let undone = if_sent(&sent);
        bounded(what, self.job_deadline, run).await.map_err(undone)
    }
}

/// A request that was sent may have been taken, whatever became of its answer.
fn if_sent(sent: &AtomicBool) -> impl FnOnce(Missing) -> Undone {
    |missing| if sent.load(Ordering::Relaxed) { Undone::Unclear(missing) } else { Undone::NotTaken(missing) }
}

/// Whether the manager, or the bus in its place, answered that it does not take the request. The bus also answers for a
/// manager that went away with the request in its hands.
fn turned_down(error: &zbus::Error) -> bool {
    const LOST: [&str; 4] = ["NoReply", "Timeout", "TimedOut", "Disconnected"];
    match error {
        zbus::Error::MethodError(name, ..) => {
            let of_the_bus = name.as_str().strip_prefix("org.freedesktop.DBus.Error.");
            !of_the_bus.is_some_and(|name| LOST.contains(&name))
        }
        _ => false,
    }
}

async fn bounded<T>(what: &str, deadline: Duration, call: impl Future<Output = zbus::Result<T>>) -> Result<T> {
    match timeout(deadline, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(missing(what, &error)),
        Err(_) => {
            let why = format!("no answer within {} s", deadline.as_secs());
            Err(Missing::new(what, why, "systemctl status, and journalctl -u dbus"))
        }
    }
}

fn missing(what: &str, error: &zbus::Error) -> Missing {
    let hint = match error {
        zbus::Error::MethodError(name, _, _)
            if name.contains("AccessDenied") || name.contains("InteractiveAuthorizationRequired") =>
        {
            "run as root"
        }
        zbus::Error::MethodError(..) => "",
        _ => "is D-Bus running? systemctl status dbus",
    };
    Missing::new(what, error, hint)
}

fn read_unit(
    unit: &HashMap<String, OwnedVariant>,
    service: &HashMap<String, OwnedVariant>,
    usual: bool,
) -> std::result::Result<Option<Unit>, String> {
    let load_state: String = get(unit, "LoadState")?;
    if load_state == "not-found" {
        return Ok(None);
    }
    let exec: Vec<Exec> = get(service, "ExecStart")?;
    let exec_start: Vec<String> = exec.iter().map(|e| e.1.join(" ")).collect();
    let program = exec.first().map(|e| e.0.rsplit('/').next().unwrap_or_default().to_owned()).unwrap_or_default();
    let role = match program.as_str() {
        "amazon-ecs-init" if usual => UnitRole::EcsInit,
        "amazon-ecs-agent" | "agent" if usual => UnitRole::AgentProcess,
        _ => UnitRole::Foreign,
    };
    let invocation: Vec<u8> = get(unit, "InvocationID")?;
    let job: (u32, OwnedObjectPath) = get(unit, "Job")?;
    Ok(Some(Unit {
        name: get(unit, "Id")?,
        load_state,
        active_state: get(unit, "ActiveState")?,
        sub_state: get(unit, "SubState")?,
        result: get(service, "Result")?,
        main_pid: get(service, "MainPID")?,
        exec_main_status: get(service, "ExecMainStatus")?,
        exec_start,
        fragment_path: get(unit, "FragmentPath")?,
        inactive_exit_us: get(unit, "InactiveExitTimestampMonotonic")?,
        invocation_id: invocation.iter().map(|b| format!("{b:02x}")).collect(),
        job: (job.0 != 0).then(|| job.1.to_string()),
        role,
    }))
}

fn get<T>(properties: &HashMap<String, OwnedVariant>, name: &str) -> std::result::Result<T, String>
where
    T: TryFrom<OwnedVariant>,
    T::Error: std::fmt::Display,
{
    let value = properties.get(name).ok_or_else(|| format!("no property {name}"))?;
    let value = value.try_clone().map_err(|error| format!("property {name}: {error}"))?;
    T::try_from(value).map_err(|error| format!("property {name}: {error}"))
}

/// Whether systemd is the init system.
///
/// # Errors
///
/// When that cannot be told.
pub fn booted() -> Result<bool> {
    match fs::symlink_metadata(BOOTED) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Missing::new(BOOTED, error, "run as root")),
    }
}

#[async_trait]
impl Init for SystemBus {
    async fn units(&self, names: &[String], words: &[String]) -> Result<Systemd> {
        if !booted()? {
            return Ok(Systemd::NotBooted);
        }
        let manager = self.manager().await?;
        let load = try_join_all(names.iter().map(|name| bounded(name, READ_DEADLINE, manager.load_unit(name))));
        let (mut paths, naming) = tokio::try_join!(load, self.naming(words))?;
        let usual = paths.len();
        for path in naming {
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
        let read = paths.into_iter().enumerate().map(|(n, path)| self.unit(path, n < usual));
        let mut units: Vec<Unit> = Vec::new();
        for unit in try_join_all(read).await?.into_iter().flatten() {
            // Two names may be aliases of one unit.
            if !units.iter().any(|u| u.name == unit.name) {
                units.push(unit);
            }
        }
        Ok(Systemd::Booted { units })
    }

    async fn restart_unit(&self, unit: &str) -> Acted<String> {
        // "replace" is systemctl's own mode: a queued job that conflicts gives way.
        self.job(&format!("restart of {unit}"), |m| async move { m.restart_unit(unit, "replace").await }).await
    }

    async fn start_unit(&self, unit: &str) -> Acted<String> {
        self.job(&format!("start of {unit}"), |m| async move { m.start_unit(unit, "replace").await }).await
    }

    async fn reset_failed(&self, unit: &str) -> Result<()> {
        let manager = self.manager().await?;
        bounded(&format!("reset-failed of {unit}"), READ_DEADLINE, manager.reset_failed_unit(unit)).await
    }

    async fn start_transient(&self, unit: &TransientUnit) -> Result<()> {
        let program = unit.command.first().cloned().unwrap_or_default();
        let environment: Vec<String> = unit.environment.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let second = 1_000_000_u64;
        let properties: Vec<(&str, Variant<'_>)> = vec![
            ("Description", unit.description.as_str().into()),
            ("Type", "exec".into()),
            ("ExecStart", vec![(program, unit.command.clone(), false)].into()),
            ("Environment", environment.into()),
            ("SuccessExitStatus", (unit.success_codes.clone(), Vec::<i32>::new()).into()),
            ("RuntimeMaxUSec", (unit.runtime_max_s * second).into()),
            ("CollectMode", "inactive-or-failed".into()),
            // Killed half-way, it comes back, finds its own intent on disk and finishes. Bounded.
            ("Restart", "on-failure".into()),
            ("RestartUSec", second.into()),
            ("StartLimitIntervalUSec", (600 * second).into()),
            ("StartLimitBurst", 5_u32.into()),
        ];
        let result = self
            .job(&format!("start of {}", unit.name), |m| {
                let name = unit.name.clone();
                async move { m.start_transient_unit(&name, "fail", &properties, &[]).await }
            })
            .await?;
        if result == "done" {
            return Ok(());
        }
        let why = format!("its job ended as {result}");
        Err(Missing::new(format!("start of {}", unit.name), why, format!("journalctl -u {}", unit.name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_whose_answer_is_lost_may_have_been_taken() {
        let answered = |name: &str| {
            let name = zbus::names::OwnedErrorName::try_from(name).unwrap();
            let message = zbus::message::Message::method_call("/", "Any").build(&()).unwrap();
            zbus::Error::MethodError(name, None, message)
        };
        for name in ["org.freedesktop.systemd1.NoSuchUnit", "org.freedesktop.DBus.Error.AccessDenied"] {
            assert!(turned_down(&answered(name)), "{name}");
        }
        for name in ["org.freedesktop.DBus.Error.NoReply", "org.freedesktop.DBus.Error.Disconnected"] {
            assert!(!turned_down(&answered(name)), "{name}");
        }
        assert!(!turned_down(&zbus::Error::Failure("the bus closed before the job ended".into())));
    }
}
