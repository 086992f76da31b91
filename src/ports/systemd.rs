//! systemd over the system bus: a hand-written proxy of the few methods used.
//!
//! Amazon Linux 2 has systemd 219. What came later and is used here is done without there: units listed by a pattern
//! (230), the ID of an invocation (232), and most properties of a transient unit (see [`properties`]).

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
use zbus::{Connection, OwnedObjectPath, OwnedVariant, Variant, fdo, proxy, proxy::CacheProperties};

/// One look may take this long.
const READ_DEADLINE: Duration = Duration::from_secs(5);
/// Present exactly where systemd is the init system (`sd_booted(3)`).
const BOOTED: &str = "/run/systemd/system";
/// The first systemd with `Type=exec`; it takes all else that a transient unit is given here, too.
const TAKES_ALL: u32 = 240;
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
    fn list_units(&self) -> zbus::Result<Vec<ListedUnit>>;
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
    #[zbus(property(emits_changed_signal = "false"))]
    fn version(&self) -> zbus::Result<String>;
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
        let listed = bounded("list of units", READ_DEADLINE, services(&manager)).await?;
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
/// manager that went away with the request in its hands. An answer by one of the bus's own names comes as `FDO`, by any
/// other as `MethodError`.
fn turned_down(error: &zbus::Error) -> bool {
    use fdo::Error as E;
    match error {
        zbus::Error::MethodError(..) => true,
        zbus::Error::FDO(error) => {
            !matches!(**error, E::ZBus(_) | E::NoReply(_) | E::Timeout(_) | E::TimedOut(_) | E::Disconnected(_))
        }
        _ => false,
    }
}

/// All service units that are loaded.
async fn services(manager: &ManagerProxy<'_>) -> zbus::Result<Vec<ListedUnit>> {
    match manager.list_units_by_patterns(&[], &["*.service"]).await {
        Err(zbus::Error::FDO(error)) if matches!(*error, fdo::Error::UnknownMethod(_)) => {
            let mut all = manager.list_units().await?;
            all.retain(|unit| unit.0.ends_with(".service"));
            Ok(all)
        }
        other => other,
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
    use fdo::Error as E;
    let hint = match error {
        zbus::Error::FDO(error) if matches!(**error, E::AccessDenied(_)) => "run as root",
        zbus::Error::FDO(error) if matches!(**error, E::InteractiveAuthorizationRequired(_)) => "run as root",
        zbus::Error::MethodError(..) => "",
        // An answer of the manager, too, but for those of the bus in its place.
        zbus::Error::FDO(error) if !absent(error) => "",
        _ => "is D-Bus running? systemctl status dbus",
    };
    Missing::new(what, error, hint)
}

/// Whether nobody was there to answer.
fn absent(error: &fdo::Error) -> bool {
    use fdo::Error as E;
    matches!(error, E::ZBus(_) | E::ServiceUnknown(_) | E::NameHasNoOwner(_) | E::NoReply(_) | E::NoServer(_))
        || matches!(error, E::Disconnected(_) | E::Timeout(_) | E::TimedOut(_))
}

/// The number of a version as the manager words it: `219`, `systemd 237`, `252.39-1~deb12u1`, `v256`.
fn major(version: &str) -> Option<u32> {
    let digits = version.trim_start_matches(|c: char| !c.is_ascii_digit());
    digits.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// The properties of a transient unit: all of them from [`TAKES_ALL`] on, before that the few that systemd 219 takes over
/// the bus. It refuses a unit with any other.
///
/// There a failure of the command counts as success, so that nothing is left of a unit whose worker answered with
/// another code than 0. A worker that is killed is not started again by systemd, and no limit of systemd's ends it: the
/// next run finds its intent, and its own waits are bounded.
fn properties(unit: &TransientUnit, systemd: u32) -> Vec<(&'static str, Variant<'_>)> {
    let all = systemd >= TAKES_ALL;
    let program = unit.command.first().cloned().unwrap_or_default();
    let environment: Vec<String> = unit.environment.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let second = 1_000_000_u64;
    let mut properties: Vec<(&str, Variant<'_>)> = vec![
        ("Description", unit.description.as_str().into()),
        ("Type", if all { "exec" } else { "simple" }.into()),
        // The third says whether a failure is ignored.
        ("ExecStart", vec![(program, unit.command.clone(), !all)].into()),
        ("Environment", environment.into()),
    ];
    if all {
        properties.extend([
            ("SuccessExitStatus", (unit.success_codes.clone(), Vec::<i32>::new()).into()),
            ("RuntimeMaxUSec", (unit.runtime_max_s * second).into()),
            ("CollectMode", "inactive-or-failed".into()),
            // Killed half-way, it comes back, finds its own intent on disk and finishes. Bounded.
            ("Restart", "on-failure".into()),
            ("RestartUSec", second.into()),
            ("StartLimitIntervalUSec", (600 * second).into()),
            ("StartLimitBurst", 5_u32.into()),
        ]);
    }
    properties
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
    let inactive_exit_us = get(unit, "InactiveExitTimestampMonotonic")?;
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
        inactive_exit_us,
        invocation_id: invocation_id(unit, inactive_exit_us)?,
        job: (job.0 != 0).then(|| job.1.to_string()),
        role,
    }))
}

/// What tells one run of a unit from another on this boot. Where systemd gives no ID, that is when the run began.
fn invocation_id(unit: &HashMap<String, OwnedVariant>, began_us: u64) -> std::result::Result<String, String> {
    if !unit.contains_key("InvocationID") {
        return Ok(if began_us == 0 { String::new() } else { format!("began-{began_us}") });
    }
    let id: Vec<u8> = get(unit, "InvocationID")?;
    Ok(id.iter().map(|b| format!("{b:02x}")).collect())
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

    async fn start_transient(&self, unit: &TransientUnit) -> Acted<()> {
        let manager = self.manager().await.map_err(Undone::NotTaken)?;
        let version = bounded("version of systemd", READ_DEADLINE, manager.version()).await;
        let version = version.map_err(Undone::NotTaken)?;
        // One that words it in another way is newer than all that are known.
        let properties = properties(unit, major(&version).unwrap_or(u32::MAX));
        let result = self
            .job(&format!("start of {}", unit.name), |m| {
                let name = unit.name.clone();
                async move { m.start_transient_unit(&name, "fail", &properties, &[]).await }
            })
            .await?;
        if result == "done" {
            return Ok(());
        }
        // The command itself was not run.
        let why = format!("its job ended as {result}");
        let look = format!("journalctl -u {}", unit.name);
        Err(Undone::NotTaken(Missing::new(format!("start of {}", unit.name), why, look)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transient() -> TransientUnit {
        TransientUnit {
            name: "hostagent-restart-1.service".into(),
            description: "a restart".into(),
            command: vec!["/usr/bin/hostagent".into(), "worker".into()],
            environment: vec![("PATH".into(), "/usr/bin".into())],
            success_codes: vec![10],
            runtime_max_s: 600,
        }
    }

    #[test]
    fn versions_are_read_as_managers_word_them() {
        for (text, number) in [("219", 219), ("systemd 237", 237), ("252.39-1~deb12u1", 252), ("v256~rc1", 256)] {
            assert_eq!(major(text), Some(number), "{text}");
        }
        assert_eq!(major("unknown"), None);
    }

    /// What `bus_service_set_transient_property` and its like of systemd 219 know, and no more.
    #[test]
    fn an_old_systemd_is_given_only_what_it_takes() {
        let unit = transient();
        let names = |version| properties(&unit, version).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        for old in [219, 237, 239] {
            assert_eq!(names(old), ["Description", "Type", "ExecStart", "Environment"]);
        }
        assert_eq!(names(240), names(u32::MAX));
        assert!(names(252).starts_with(&names(219)) && names(252).len() == 11, "{:?}", names(252));
        let value = |version, name| {
            let all = properties(&unit, version);
            let (_, value) = all.into_iter().find(|(n, _)| *n == name).expect(name);
            OwnedVariant::try_from(value).expect(name)
        };
        for (version, kind, ignores) in [(219, "simple", true), (252, "exec", false)] {
            assert_eq!(String::try_from(value(version, "Type")).unwrap(), kind);
            let exec: Vec<(String, Vec<String>, bool)> = value(version, "ExecStart").try_into().unwrap();
            assert_eq!(exec, [("/usr/bin/hostagent".into(), unit.command.clone(), ignores)]);
        }
    }

    fn bag(properties: Vec<(&str, Variant<'_>)>) -> HashMap<String, OwnedVariant> {
        properties
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.try_into().expect("no descriptor")))
            .collect()
    }

    /// The properties of a unit as systemd 219 has them: nothing that came later is needed.
    #[test]
    fn a_unit_without_an_invocation_id_has_when_it_began() {
        let unit = |began: u64| {
            bag(vec![
                ("Id", "ecs.service".into()),
                ("LoadState", "loaded".into()),
                ("ActiveState", "active".into()),
                ("SubState", "running".into()),
                ("FragmentPath", "/usr/lib/systemd/system/ecs.service".into()),
                ("InactiveExitTimestampMonotonic", began.into()),
                ("Job", (0_u32, zbus::ObjectPath::try_from("/").unwrap()).into()),
            ])
        };
        let init = "/usr/libexec/amazon-ecs-init";
        let exec: Exec = (init.into(), vec![init.into(), "start".into()], false, 0, 0, 0, 0, 0, 0, 0);
        let service = bag(vec![
            ("ExecStart", vec![exec].into()),
            ("Result", "success".into()),
            ("MainPID", 7_u32.into()),
            ("ExecMainStatus", 0_i32.into()),
        ]);
        let read = |unit: &HashMap<_, _>| read_unit(unit, &service, true).unwrap().unwrap();
        let found = read(&unit(5_000_000));
        assert_eq!((found.role, found.invocation_id.as_str()), (UnitRole::EcsInit, "began-5000000"));
        assert_ne!(read(&unit(6_000_000)).invocation_id, found.invocation_id, "another run");
        assert_eq!(read(&unit(0)).invocation_id, "", "never ran");
        let mut newer = unit(5_000_000);
        newer.extend(bag(vec![("InvocationID", vec![0xab_u8, 0x01].into())]));
        assert_eq!(read(&newer).invocation_id, "ab01");
    }

    /// What comes of a call that is answered with the error of this name.
    fn answered(name: &str) -> zbus::Error {
        use zbus::message::Message;
        let call = Message::method_call("/", "Any").destination(":1.2").build(&()).unwrap();
        Message::error(&call.header(), name).build(&"why").unwrap().into()
    }

    #[test]
    fn what_is_wrong_comes_with_what_to_do() {
        let hint = |name: &str| missing("x", &answered(name)).hint;
        for name in ["AccessDenied", "InteractiveAuthorizationRequired"] {
            assert_eq!(hint(&format!("org.freedesktop.DBus.Error.{name}")), "run as root");
        }
        assert!(hint("org.freedesktop.DBus.Error.ServiceUnknown").starts_with("is D-Bus running?"));
        for name in ["org.freedesktop.DBus.Error.PropertyReadOnly", "org.freedesktop.systemd1.NoSuchUnit"] {
            assert_eq!(hint(name), "");
        }
    }

    #[test]
    fn a_request_whose_answer_is_lost_may_have_been_taken() {
        let of_the_bus = |name: &str| answered(&format!("org.freedesktop.DBus.Error.{name}"));
        assert!(turned_down(&answered("org.freedesktop.systemd1.NoSuchUnit")));
        for name in ["AccessDenied", "InteractiveAuthorizationRequired", "ServiceUnknown", "Failed"] {
            assert!(turned_down(&of_the_bus(name)), "{name}");
        }
        for name in ["NoReply", "Timeout", "TimedOut", "Disconnected"] {
            assert!(!turned_down(&of_the_bus(name)), "{name}");
        }
        assert!(!turned_down(&zbus::Error::Failure("the bus closed before the job ended".into())));
    }
}
