//! The agent's life, in the order of the real one: state, signal handler, registration, introspection, websockets.

use super::{
    EXIT_ERROR, EXIT_TERMINAL,
    api::{Api, ApiError, Identity},
    config::Config,
    dial::Dialer,
    faults::Faults,
    serve,
    session::{Kind, Sessions},
    state::{self, Saved},
};
use crate::clock;
use std::{sync::Arc, time::Duration};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{Mutex, watch},
};

/// How often registration is tried before the agent gives up and leaves it to its supervisor.
const REGISTER_TRIES: u32 = 3;
/// What the real agent needs from its start until it has its handler of signals: it loads its state, asks the metadata
/// service many things and tries versions of the Docker API. It is long enough for the stop command of ecs-init to
/// find an agent that a SIGTERM simply ends, with exit code 143.
const STARTUP: Duration = Duration::from_millis(300);
/// How long the broken final save of 1.44.0 to 1.44.3 takes.
const BROKEN_SAVE: Duration = Duration::from_secs(5);

/// One line of the agent's log.
pub fn log(level: &str, message: &str) {
    println!("level={level} time={} msg=\"{message}\"", clock::iso(clock::unix_ms() / 1_000));
}

/// Runs until a signal or an error; the exit code.
pub async fn run(config: Config) -> u8 {
    let config = Arc::new(config);
    match life(&config).await {
        Ok(code) => code,
        Err((code, error)) => {
            log("critical", &format!("{error:#}"));
            code
        }
    }
}

type Failure = (u8, anyhow::Error);

async fn life(config: &Arc<Config>) -> Result<u8, Failure> {
    let terminal = |error: anyhow::Error| (EXIT_TERMINAL, error);
    log("info", &format!("{} starting", config.version_text()));
    let faults = Faults::read(config).map_err(terminal)?;
    // Still without a handler: a SIGTERM in here ends the process as it ends any other.
    tokio::time::sleep(STARTUP + faults.slow_start).await;
    if let Some(code) = faults.exit {
        return Err((code, anyhow::anyhow!("told to fail")));
    }

    let dialer = Arc::new(Dialer::new(config.clone()).map_err(terminal)?);
    let api = Arc::new(Api::new(config.clone(), dialer.clone()));
    let saved = state::load(config).map_err(terminal)?;
    let identity = retried("metadata service", || api.identity()).await.map_err(|error| (EXIT_ERROR, error))?;
    let saved = match saved {
        Some(saved) if saved.ec2_instance_id != identity.instance_id => {
            log("warn", "the saved state is another instance's: starting as a new one");
            None
        }
        other => other,
    };
    if let Some(saved) = &saved
        && saved.cluster != config.cluster_name()
    {
        let (was, is) = (&saved.cluster, config.cluster_name());
        let error = anyhow::anyhow!("data mismatch; saved cluster '{was}' does not match configured cluster '{is}'");
        return Err(terminal(error));
    }

    let mut signals = Signals::new().map_err(|error| (EXIT_ERROR, error.into()))?;
    let region = config.region.clone().unwrap_or_else(|| identity.region.clone());
    let known = saved.map(|saved| saved.container_instance_arn);
    let registered = tokio::select! {
        registered = register(&api, &region, &identity, known.as_deref(), &faults) => registered?,
        () = signals.stop() => return stopped(config, None).await,
    };
    let saved = Saved {
        cluster: config.cluster_name().to_string(),
        container_instance_arn: registered.clone(),
        ec2_instance_id: identity.instance_id.clone(),
        agent_version: config.version.clone(),
    };
    state::save(config, &saved).map_err(|error| (EXIT_ERROR, error))?;
    log("info", &format!("registered as {registered}"));

    let (credentials, brought) = watch::channel(false);
    let sessions = Sessions {
        config: config.clone(),
        dialer,
        api,
        region,
        arn: registered.clone(),
        cache: Mutex::default(),
        credentials,
    };
    tokio::select! {
        () = serve::introspection(config.clone(), registered.clone()) => {}
        () = serve::credentials(config.clone(), registered.clone(), brought) => {}
        () = sessions.keep(Kind::Acs) => {}
        () = sessions.keep(Kind::Tcs) => {}
        () = signals.stop() => return stopped(config, Some(&saved)).await,
    }
    Ok(EXIT_ERROR)
}

async fn register(
    api: &Api,
    region: &str,
    identity: &Identity,
    known: Option<&str>,
    faults: &Faults,
) -> Result<String, Failure> {
    if faults.never_register {
        log("warn", "told never to register");
        std::future::pending::<()>().await;
    }
    let registered = retried("registration", || api.register(region, identity, known)).await;
    registered.map_err(|error| {
        let terminal = error.downcast_ref::<ApiError>().is_some_and(is_terminal);
        (if terminal { EXIT_TERMINAL } else { EXIT_ERROR }, error)
    })
}

/// Errors after which the real agent does not want to be started again.
fn is_terminal(error: &ApiError) -> bool {
    matches!(error.kind.as_str(), "ClientException" | "InvalidParameterException")
}

async fn retried<T, F>(what: &str, mut attempt: impl FnMut() -> F) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<T>>,
{
    let mut pause = Duration::from_millis(250);
    for _ in 1..REGISTER_TRIES {
        match attempt().await {
            Err(error) if error.downcast_ref::<ApiError>().is_some_and(is_terminal) => return Err(error),
            Err(error) => log("error", &format!("{what}: {error:#}")),
            done => return done,
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    attempt().await
}

/// SIGTERM and SIGINT.
struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }

    async fn stop(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}

/// The end after a signal: a last save, then exit code 0.
async fn stopped(config: &Config, saved: Option<&Saved>) -> Result<u8, Failure> {
    log("info", "received termination signal");
    let version = config.version_numbers();
    if ((1, 44, 0)..=(1, 44, 3)).contains(&version) {
        tokio::time::sleep(config.scaled(BROKEN_SAVE)).await;
        let error = anyhow::anyhow!("final save: timed out waiting for TaskEngine to settle");
        return Err((EXIT_TERMINAL, error));
    }
    if let Some(saved) = saved {
        state::save(config, saved).map_err(|error| (EXIT_TERMINAL, error))?;
    }
    Ok(0)
}
