//! The service itself, its loop and its words on disk, with programs that answer nothing in hostagent's place.

use super::{restart, set};
use hostagent::{
    catalog::Service,
    config::{Settings, Source},
    decide::Decision,
    ports::store,
    watch::{
        driver,
        saved::{self, Saved},
        state::{Kind, Phase, State},
    },
};
use std::{fs, path::Path, time::Duration};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

/// Far above what anything here takes.
const BOUND: Duration = Duration::from_secs(120);

fn settings(dir: &TempDir) -> Settings {
    let mut settings = Settings::default();
    let at = |name: &str| dir.path().join(name);
    (settings.paths.state_dir, settings.paths.runtime_dir) = (at("state"), at("run"));
    settings.docker.host = format!("unix://{}", at("docker.sock").display());
    settings.watch.hooks_dir = at("hooks.d");
    settings.watch.pause_file = at("pause");
    settings.watch.metrics_file = Some(at("hostagent.prom"));
    settings.watch.inventory = hostagent::config::Inventory::Off;
    settings.watch.settled_interval_s = 1;
    for path in [&settings.paths.state_dir, &settings.paths.runtime_dir] {
        fs::create_dir_all(path).unwrap();
    }
    settings
}

/// The service runs until its words say this. `program` stands in hostagent's place.
async fn serves(settings: &Settings, source: Source, program: &str, until: impl Fn(&Saved) -> bool) -> Saved {
    let words = async {
        loop {
            if let Ok(Some(saved)) = saved::read(settings)
                && until(&saved)
            {
                return saved;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        ended = driver::watch(source, settings.clone(), program.into(), 0) => panic!("it ended: {ended:?}"),
        saved = timeout(BOUND, words) => saved.unwrap_or_else(|_| panic!("still {:?}", saved::read(settings))),
    }
}

fn no_files(dir: &TempDir) -> Source {
    let config = dir.path().join("config.d");
    fs::create_dir_all(&config).unwrap();
    Source::Dirs(vec![config])
}

#[tokio::test]
async fn a_look_that_is_lost_is_unknown_said_once_and_counted() {
    // One answers nothing, the other dies.
    for program in ["/bin/true", "/bin/false"] {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(&dir);
        let saved = serves(&settings, no_files(&dir), program, |saved| saved.looks_lost >= 3).await;
        let Some(Decision::Unknown { reasons }) = &saved.decision else { panic!("{:?}", saved.decision) };
        assert_eq!(reasons[0].rule, "look-lost");
        assert!(saved.words.contains("nothing came of a look at the host"), "{}", saved.words);
        assert_eq!((&saved.state.phase, saved.looked_at), (&Phase::Observing, None));
        assert!(saved.next_look.is_some(), "it looks again");
        let said = saved.time_line.iter().filter(|entry| entry.kind == Kind::Unknown).count();
        assert_eq!(said, 1, "{:?}", saved.time_line);
        let metrics = fs::read_to_string(settings.watch.metrics_file.unwrap()).unwrap();
        assert!(metrics.contains("hostagent_decision{decision=\"unknown\"} 1"), "{metrics}");
        let lost = metrics.lines().find_map(|line| line.strip_prefix("hostagent_looks_lost_total "));
        assert!(lost.is_some_and(|lost| lost.parse::<u64>().unwrap() >= 2), "{metrics}");
    }
}

#[tokio::test]
async fn a_lost_look_takes_the_leave_to_act_away_and_keeps_what_was_proved() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(&dir);
    let hold = hostagent::watch::state::Hold::Splay;
    // Its splay is over, its last look was in time: one more look that agreed, and it would act.
    let phase = Phase::Waiting { endpoints: set(0), since_ms: 0, splay_until_ms: 0, agrees: true, hold };
    let state = State { phase, ..State::default() };
    keep(&settings, Saved { state, decision: Some(restart(0)), ..Saved::default() });
    let saved = serves(&settings, no_files(&dir), "/bin/false", |saved| saved.looks_lost >= 2).await;
    let Phase::Waiting { endpoints, agrees: false, .. } = &saved.state.phase else { panic!("{saved:?}") };
    assert!(endpoints.0.iter().any(|(service, _)| *service == Service::Ecs));
    assert!(saved.time_line.iter().all(|entry| entry.kind != Kind::Acting), "{:?}", saved.time_line);
}

#[tokio::test]
async fn a_run_whose_follower_is_lost_is_followed_anew_five_times_at_most() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(&dir);
    let phase = Phase::Acting { endpoints: set(0), run: Some("r1".into()), recovering: false };
    keep(&settings, Saved { state: State { phase, ..State::default() }, ..Saved::default() });
    let ended = |saved: &Saved| saved.time_line.iter().any(|entry| entry.kind == Kind::NotActed);
    let saved = serves(&settings, no_files(&dir), "/bin/true", ended).await;
    let lost = saved.time_line.iter().find(|entry| entry.kind == Kind::NotActed).unwrap();
    assert!(lost.text.contains("run r1 was followed anew 5 times"), "{}", lost.text);
}

#[tokio::test]
async fn a_reload_that_moves_the_files_is_refused_and_the_old_configuration_kept() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(&dir);
    let Source::Dirs(dirs) = no_files(&dir) else { unreachable!() };
    let configured = |state: &Path, spread: u64| {
        let (state, run) = (state.display(), settings.paths.runtime_dir.display());
        let text =
            format!("[confirm]\nmin_spread_s = {spread}\n[paths]\nstate_dir = \"{state}\"\nruntime_dir = \"{run}\"\n");
        fs::write(dirs[0].join("50-mine.toml"), text).unwrap();
        // The service of this process, and every other of these tests, reads its own configuration again.
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::HUP).unwrap();
    };
    let elsewhere = dir.path().join("elsewhere");
    let step = std::cell::Cell::new(0);
    let told = |saved: &Saved, kind| saved.time_line.iter().any(|entry| entry.kind == kind);
    let saved = serves(&settings, Source::Dirs(dirs.clone()), "/bin/true", |saved| match step.get() {
        0 if told(saved, Kind::Started) => {
            step.set(1);
            configured(&elsewhere, 7);
            false
        }
        1 if told(saved, Kind::ReloadRefused) => {
            step.set(2);
            configured(&settings.paths.state_dir, 8);
            false
        }
        2 => told(saved, Kind::Reloaded),
        _ => false,
    })
    .await;
    let refused = saved.time_line.iter().find(|entry| entry.kind == Kind::ReloadRefused).unwrap();
    let place = dirs[0].join("50-mine.toml:4");
    for words in [&place.display().to_string(), "paths.state_dir: a reload cannot change it", "systemctl restart"] {
        assert!(refused.text.contains(words), "{words}: {}", refused.text);
    }
    assert!(!elsewhere.exists());
}

/// As an earlier service of this boot left it.
fn keep(settings: &Settings, saved: Saved) {
    let saved = Saved { boot_id: store::boot_id().unwrap(), ..saved };
    store::write(&saved::path(settings), &saved).unwrap();
}
