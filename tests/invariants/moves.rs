//! Invariants 7 to 9: what is found after a kill, and what counts as verified.

use crate::spoil::{BLANKS, Blank};
use crate::world::*;
use hostagent::config::Settings;
use hostagent::decide::Method;
use hostagent::decide::recover::{
    Identity, Intent, Late, Phase, Recovery, Seen, SeenContainer, SeenUnit, late, recover,
};
use hostagent::facts::*;
use hostagent::verify::{Outcome, verify, verify_late};
use proptest::prelude::*;

/// How far the world itself has come with a restart, whatever the worker knew when it was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Truth {
    /// The call never got there.
    Untouched,
    /// Taken in, nothing to see yet.
    Taken,
    Stopping,
    Stopped,
    /// The unit is up, its container not yet.
    Starting,
    Up,
    /// The start failed.
    Failed,
}

const TRUTHS: [Truth; 7] =
    [Truth::Untouched, Truth::Taken, Truth::Stopping, Truth::Stopped, Truth::Starting, Truth::Up, Truth::Failed];

fn methods() -> impl Strategy<Value = Method> {
    prop::sample::select(vec![
        Method::RestartUnit { unit: "ecs.service".into() },
        Method::StartUnit { unit: "ecs.service".into() },
        Method::DockerRestart { container_id: "c1".into(), stop_timeout_s: 30 },
    ])
}

fn identity(method: &Method) -> Identity {
    let running = matches!(method, Method::RestartUnit { .. } | Method::DockerRestart { .. });
    Identity {
        container: Some(SeenContainer { id: "c1".into(), started_at: "s1".into(), running }),
        invocation_id: method.unit().map(|_| "i1".into()),
        container_instance_arn: Some("arn".into()),
    }
}

/// What can be seen while the world is at `truth`.
fn seen(method: &Method, truth: Truth) -> Seen {
    let before = identity(method);
    let stopped_before = !before.container.as_ref().unwrap().running;
    let mut container = before.container.clone();
    let unit = method.unit().map(|_| {
        let active = if stopped_before { "inactive" } else { "active" };
        let mut unit =
            SeenUnit { active_state: active.into(), sub_state: "x".into(), job: None, invocation_id: "i1".into() };
        match truth {
            Truth::Untouched | Truth::Taken => {}
            Truth::Stopping => (unit.active_state, unit.job) = ("deactivating".into(), Some("restart".into())),
            Truth::Stopped => (unit.active_state, unit.job) = ("inactive".into(), Some("restart".into())),
            Truth::Starting | Truth::Up => (unit.active_state, unit.invocation_id) = ("active".into(), "i2".into()),
            Truth::Failed => (unit.active_state, unit.invocation_id) = ("failed".into(), "i2".into()),
        }
        unit
    });
    let new_id = if method.unit().is_some() { "c2" } else { "c1" };
    match truth {
        Truth::Untouched | Truth::Taken => {}
        Truth::Stopping if unit.is_none() => {}
        Truth::Stopping | Truth::Stopped | Truth::Failed => container.as_mut().unwrap().running = false,
        Truth::Starting if unit.is_some() => container = None,
        Truth::Starting => container.as_mut().unwrap().running = false,
        Truth::Up => container = Some(SeenContainer { id: new_id.into(), started_at: "s2".into(), running: true }),
    }
    Seen { boot_id: Fact::Known("b1".into()), container: Fact::Known(container), unit: Fact::Known(unit) }
}

/// How long after the call the world may be at `truth` at the latest, in seconds.
fn latest(method: &Method, truth: Truth) -> i64 {
    match (truth, method) {
        (Truth::Taken, Method::DockerRestart { .. }) | (Truth::Stopping, Method::DockerRestart { .. }) => 34,
        (Truth::Taken, _) => 4,
        _ => i64::MAX,
    }
}

fn intent(method: &Method, phase: Phase) -> Intent {
    Intent {
        run_id: "r1".into(),
        at: t0(),
        phase,
        method: method.clone(),
        before: identity(method),
        boot_id: "b1".into(),
    }
}

proptest! {
    #![proptest_config(crate::config())]

    /// "Not acted" strikes the record and lets the next run begin anew: it has to be true.
    #[test]
    fn inv9_killed_at_any_instant_it_is_never_restarted_twice(
        method in methods(),
        truth in prop::sample::select(TRUTHS.to_vec()),
        acted in any::<bool>(),
        age in prop_oneof![0_i64..8, 25_i64..45, 0_i64..600],
    ) {
        prop_assume!(age <= latest(&method, truth) && !(acted && matches!(truth, Truth::Untouched | Truth::Taken)));
        let phase = if acted { Phase::Acted } else { Phase::Acting };
        let found = recover(&intent(&method, phase), &seen(&method, truth), after(t0(), age));
        if found == Recovery::NotActed {
            prop_assert_eq!(truth, Truth::Untouched);
        }
        if truth == Truth::Up {
            prop_assert_eq!(&found, &Recovery::ActedUp);
        }
        // Nor is it left waiting for something that never happens.
        if truth == Truth::Untouched && age > 60 {
            prop_assert_eq!(found, Recovery::NotActed);
        }
    }

    /// What was up before is started again when it is found down, unless something is still at work on it.
    #[test]
    fn inv7_after_acting_the_agent_is_never_left_down(
        method in methods(),
        truth in prop::sample::select(vec![Truth::Stopped, Truth::Failed]),
        acted in any::<bool>(),
        age in 60_i64..6_000,
        job in any::<bool>(),
    ) {
        let phase = if acted { Phase::Acted } else { Phase::Acting };
        let mut now = seen(&method, truth);
        if let Fact::Known(Some(unit)) = &mut now.unit {
            unit.job = job.then(|| "restart".into());
        }
        let found = recover(&intent(&method, phase), &now, after(t0(), age));
        let same_as_before = matches!(method, Method::StartUnit { .. }) && truth == Truth::Stopped && !acted;
        match found {
            Recovery::ActedDown => {}
            Recovery::InProgress => prop_assert!(job && method.unit().is_some()),
            Recovery::NotActed => prop_assert!(same_as_before),
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn inv8_no_other_container_is_touched(
        kind in prop::sample::select(vec![Kind::EcsInit, Kind::Bare]),
        victim in 0_usize..3,
        how in 0_u8..5,
        at_end in any::<bool>(),
        killed in prop::sample::select(vec![129_i64, 130, 131, 137, 143]),
        code in prop::option::of(0_i64..256),
    ) {
        let (before, mut after_it, mut later) = around(kind);
        for seen in if at_end { vec![&mut later] } else { vec![&mut after_it, &mut later] } {
            let Fact::Known(workloads) = &mut seen.workloads else { unreachable!() };
            match how {
                0 => workloads[victim].pid += 1,
                // Started anew, whether it still runs or has ended since. Docker counts from there.
                1 => {
                    workloads[victim].started_at = "2026-09-01T12:01:00Z".into();
                    workloads[victim].restart_count = Some(0);
                    (workloads[victim].running, workloads[victim].exit_code) = (code.is_none(), code);
                }
                2 => (workloads[victim].running, workloads[victim].pid) = (false, 0),
                3 => (workloads[victim].running, workloads[victim].exit_code) = (false, Some(killed)),
                _ => { workloads.remove(victim); }
            }
        }
        let outcome = check(&before, &after_it, &later);
        prop_assert!(!outcome.verified);
        prop_assert_eq!(failed(&outcome), vec!["workloads-untouched"]);
    }

    #[test]
    fn inv6_what_could_not_be_seen_is_not_verified(
        blank in prop::sample::select(BLANKS.to_vec()),
        side in 0_u8..2,
    ) {
        let (before, mut after_it, mut later) = around(Kind::EcsInit);
        blank.apply(if side == 0 { &mut after_it } else { &mut later });
        let not_looked_at = match blank {
            Blank::Cache | Blank::Persistence | Blank::ConfigFile | Blank::EcsInit => true,
            // Read once, at the end.
            Blank::Version | Blank::Tasks => side == 0,
            _ => false,
        };
        let outcome = check(&before, &after_it, &later);
        prop_assert!(outcome.verified == not_looked_at, "{:?} {:#?}", blank, outcome);
    }
}

#[test]
fn a_restart_that_was_only_begun_touched_nothing() {
    let method = Method::RestartUnit { unit: "ecs.service".into() };
    for truth in TRUTHS {
        assert_eq!(recover(&intent(&method, Phase::Begun), &seen(&method, truth), t0()), Recovery::NotActed);
    }
}

#[test]
fn what_cannot_be_told_is_unclear() {
    let method = Method::RestartUnit { unit: "ecs.service".into() };
    let acting = intent(&method, Phase::Acting);
    let late = after(t0(), 600);
    let blind = |change: fn(&mut Seen)| {
        let mut now = seen(&method, Truth::Stopped);
        change(&mut now);
        assert!(matches!(recover(&acting, &now, late), Recovery::Unclear { .. }), "{now:?}");
    };
    blind(|now| now.boot_id = unknown("boot_id"));
    blind(|now| now.container = unknown("container"));
    blind(|now| now.unit = unknown("unit"));
    blind(|now| now.unit = Fact::Known(None));
    // After a reboot nothing that is down is down because of us.
    let mut rebooted = seen(&method, Truth::Failed);
    rebooted.boot_id = Fact::Known("b2".into());
    assert!(matches!(recover(&acting, &rebooted, late), Recovery::Unclear { .. }));
    let docker = Method::DockerRestart { container_id: "c1".into(), stop_timeout_s: 30 };
    let mut replaced = seen(&docker, Truth::Up);
    replaced.container = Fact::Known(Some(SeenContainer { id: "c9".into(), started_at: "s9".into(), running: true }));
    assert!(matches!(recover(&intent(&docker, Phase::Acting), &replaced, late), Recovery::Unclear { .. }));
}

/// Before, after and later of a restart that went well.
fn around(kind: Kind) -> (Observation, Observation, Observation) {
    let before = movable(kind);
    let after_it = moved(&before, kind, after(t0(), 120));
    let mut later = after_it.clone();
    later.at = after(t0(), 130);
    (before, after_it, later)
}

fn check(before: &Observation, after: &Observation, later: &Observation) -> Outcome {
    verify(before, after, later, &Settings::default())
}

fn failed(outcome: &Outcome) -> Vec<&str> {
    outcome.failed().map(|c| c.name.as_str()).collect()
}

#[test]
fn a_good_restart_is_verified() {
    for kind in [Kind::EcsInit, Kind::Bare] {
        let (before, after, later) = around(kind);
        let outcome = check(&before, &after, &later);
        assert!(outcome.verified, "{kind:?} {outcome:#?}");
    }
    // On a host of Docker alone nobody but root may read the rules, and nothing of ours touches them.
    let (mut before, mut after, mut later) = around(Kind::Bare);
    for seen in [&mut before, &mut after, &mut later] {
        Blank::Rules.apply(seen);
    }
    assert!(check(&before, &after, &later).verified);
}

#[test]
fn a_repair_is_verified_without_what_a_dead_agent_could_not_tell() {
    for running in [false, true] {
        let before = broken(running);
        let after_it = moved(&movable(Kind::EcsInit), Kind::EcsInit, after(t0(), 120));
        let outcome = check(&before, &after_it, &after_it);
        assert!(outcome.verified, "{outcome:#?}");
        // While the endpoints are not ready it only has to be connected and stay so.
        let mut public = after_it.clone();
        for (service, _, _) in NAMES {
            *name_mut(&mut public.names, service) = answer(&["198.51.100.10".parse().unwrap()], 60);
        }
        public.reach = reach(&public.names);
        public.sockets = Fact::Known(public_sockets());
        assert!(check(&before, &public, &public).verified);
        let mut cut = public.clone();
        cut.sockets = Fact::Known(vec![]);
        assert!(!check(&before, &public, &cut).verified);
    }
}

#[test]
fn what_a_reboot_stops_is_not_held_against_the_restart_and_everything_else_is() {
    let (before, mut after, mut later) = around(Kind::EcsInit);
    for seen in [&mut after, &mut later] {
        let Fact::Known(workloads) = &mut seen.workloads else { unreachable!() };
        workloads[0].running = false;
        let Fact::Known(tasks) = &mut seen.agent.tasks else { unreachable!() };
        tasks.clear();
    }
    let settings = Settings::default();
    assert_eq!(failed(&check(&before, &after, &later)), ["same-tasks", "workloads-untouched"]);
    for late in [Late::Rebooted, Late::LongAgo] {
        let compare = |after: &Observation, later: &Observation| verify_late(&before, after, later, &settings, late);
        let outcome = compare(&after, &later);
        assert!(outcome.verified && outcome.checks.iter().any(|c| c.text.contains(late.words())), "{outcome:#?}");
        // Another version was installed since.
        let mut upgraded = later.clone();
        let Fact::Known(version) = &mut upgraded.agent.version else { unreachable!() };
        version.version = "1.106.0".parse().unwrap();
        assert!(compare(&after, &upgraded).verified);
        assert_eq!(failed(&check(&before, &after, &upgraded))[0], "version");
        let mut public = later.clone();
        public.sockets = Fact::Known(public_sockets());
        assert!(failed(&compare(&public, &public)).contains(&"websockets-moved"));
        // Where the endpoints are gone, an agent that is connected is all there can be.
        for (service, _, _) in NAMES {
            *name_mut(&mut public.names, service) = answer(&["198.51.100.10".parse().unwrap()], 60);
        }
        public.reach = reach(&public.names);
        let outcome = compare(&public, &public);
        assert!(outcome.verified, "{outcome:#?}");
        assert!(!verify(&before, &public, &public, &settings).verified);
        public.sockets = Fact::Known(vec![]);
        assert!(!compare(&public, &public).verified);
    }
}

#[test]
fn what_became_of_an_old_intent_may_be_anybody_s_doing() {
    let acted = intent(&Method::RestartUnit { unit: "ecs.service".into() }, Phase::Acted);
    let boot = |id: &str| Fact::Known(id.to_owned());
    assert_eq!(late(&acted, &boot("b1"), after(t0(), 3_599)), None);
    assert_eq!(late(&acted, &boot("b1"), after(t0(), 3_601)), Some(Late::LongAgo));
    assert_eq!(late(&acted, &boot("b2"), t0()), Some(Late::Rebooted));
    // Of an intent from the future nothing can be said by its time.
    assert_eq!(late(&acted, &boot("b1"), after(t0(), -86_400)), None);
    assert_eq!(late(&acted, &unknown("boot_id"), t0()), None);
}

/// What ends a container while the agent is restarted.
fn end(seen: &mut Observation, victim: usize, code: i64) {
    let Fact::Known(workloads) = &mut seen.workloads else { unreachable!() };
    let ended = &mut workloads[victim];
    (ended.running, ended.pid, ended.exit_code) = (false, 0, Some(code));
}

proptest! {
    #![proptest_config(crate::fewer())]

    /// A job that is done, or that failed, in just that minute is no harm, and is named.
    #[test]
    fn inv8_what_ends_by_itself_was_not_touched(
        kind in prop::sample::select(vec![Kind::EcsInit, Kind::Bare]),
        victim in 0_usize..3,
        code in 0_i64..256,
        at_end in any::<bool>(),
    ) {
        let killed = [129, 130, 131, 137, 143].contains(&code);
        let (before, mut after_it, mut later) = around(kind);
        for seen in if at_end { vec![&mut later] } else { vec![&mut after_it, &mut later] } {
            end(seen, victim, code);
        }
        let outcome = check(&before, &after_it, &later);
        prop_assert_eq!(outcome.verified, !killed, "{:#?}", outcome);
        let said = outcome.checks.iter().find(|c| c.name == "workloads-untouched").unwrap();
        let words = format!("ended by itself meanwhile: web-{} (000000000000), exit code {code}", victim + 1);
        prop_assert!(killed || (said.text.starts_with("2 other") && said.text.contains(&words)), "{}", said.text);
        // It does not come back by itself.
        prop_assert!(at_end || !check(&before, &after_it, &moved(&before, kind, later.at)).verified);
    }

    /// Docker counts what a container's own restart policy started again, and counts anew from a start by anybody else.
    #[test]
    fn inv8_what_its_own_restart_policy_started_again_was_not_touched(
        victim in 0_usize..3,
        count in prop::sample::select(vec![None, Some(0_i64), Some(2), Some(3), Some(9)]),
        at_end in any::<bool>(),
        waits in any::<bool>(),
        ended in prop::sample::select(vec![None, Some(1_i64), Some(143)]),
    ) {
        let (before, mut after_it, mut later) = around(Kind::EcsInit);
        for seen in if at_end { vec![&mut later] } else { vec![&mut after_it, &mut later] } {
            let Fact::Known(workloads) = &mut seen.workloads else { unreachable!() };
            let again = &mut workloads[victim];
            (again.restart_count, again.running, again.exit_code) = (count, ended.is_none(), ended);
            again.pid = if waits || ended.is_some() { 0 } else { 77 };
            if !waits {
                again.started_at = "2026-09-01T12:01:00Z".into();
            }
        }
        let outcome = check(&before, &after_it, &later);
        let by_policy = count.is_some_and(|count| count > 2);
        let harmless = match ended {
            None => by_policy,
            Some(1) => waits || by_policy,
            Some(_) => false,
        };
        prop_assert_eq!(outcome.verified, harmless, "{:#?}", outcome);
        let said = &outcome.checks.iter().find(|c| c.name == "workloads-untouched").unwrap().text;
        let words = "and was started again by its own restart policy (restart count 2, now ";
        prop_assert!(!harmless || ended.is_some() || said.contains(words), "{}", said);
    }

    /// The agent stops the containers of a task that is to end, by signals too, and may remove them.
    #[test]
    fn inv8_what_the_agent_itself_stopped_was_not_touched(
        victim in 0_usize..3,
        code in prop::sample::select(vec![0_i64, 1, 137, 143]),
        removed in any::<bool>(),
        known in prop::sample::select(vec!["RUNNING", "STOPPED"]),
        desired in prop::sample::select(vec![None, Some("RUNNING"), Some("STOPPED")]),
        forgotten in any::<bool>(),
    ) {
        let (mut before, mut after_it, mut later) = around(Kind::EcsInit);
        let id = |n: usize| format!("{:064x}", n + 1);
        for seen in [&mut before, &mut after_it, &mut later] {
            seen.agent.tasks = Fact::Known(vec![
                task("job", Some("RUNNING"), "RUNNING", &[&id(victim)]),
                task("web", Some("RUNNING"), "RUNNING", &[&id((victim + 1) % 3)]),
            ]);
        }
        for seen in [&mut after_it, &mut later] {
            end(seen, victim, code);
        }
        let Fact::Known(workloads) = &mut later.workloads else { unreachable!() };
        if removed {
            workloads.remove(victim);
        }
        let Fact::Known(tasks) = &mut later.agent.tasks else { unreachable!() };
        tasks[0] = task("job", desired, known, &[&id(victim)]);
        if forgotten {
            tasks.remove(0);
        }
        let stopped = !forgotten && (known == "STOPPED" || desired == Some("STOPPED"));
        let by_itself = !removed && code < 128;
        let outcome = check(&before, &after_it, &later);
        prop_assert_eq!(!failed(&outcome).contains(&"workloads-untouched"), stopped || by_itself, "{:#?}", outcome);
        // A task that the agent knows nothing of any more is lost, whatever became of its containers.
        prop_assert_eq!(!failed(&outcome).contains(&"same-tasks"), !forgotten, "{:#?}", outcome);
    }
}

#[test]
fn each_check_can_fail_by_itself() {
    type Change = fn(&mut Observation);
    let cases: [(&str, Change); 11] = [
        ("supervised", |seen| units(seen)[0].invocation_id = "aaaa0009".into()),
        ("one-agent-container", |seen| agent_container(seen).started_at = "2026-09-01T12:02:09Z".into()),
        ("same-container-instance", |seen| {
            let Fact::Known(i) = &mut seen.agent.introspection else { unreachable!() };
            i.container_instance_arn = Some("arn:other".into());
        }),
        ("same-cluster", |seen| {
            let Fact::Known(i) = &mut seen.agent.introspection else { unreachable!() };
            i.cluster = "other".into();
        }),
        ("version", |seen| {
            let Fact::Known(v) = &mut seen.agent.version else { unreachable!() };
            v.version = "1.106.0".parse().unwrap();
        }),
        ("same-tasks", |seen| {
            let Fact::Known(tasks) = &mut seen.agent.tasks else { unreachable!() };
            tasks.remove(0);
        }),
        ("same-tasks", |seen| {
            let Fact::Known(tasks) = &mut seen.agent.tasks else { unreachable!() };
            tasks[0].containers = vec!["another".into()];
        }),
        ("credential-rules", |seen| {
            let Fact::Known(c) = &mut seen.credentials else { unreachable!() };
            c.rules = Fact::Known(CredentialRules { prerouting: 2, output: 1 });
        }),
        ("credential-port", |seen| {
            let Fact::Known(c) = &mut seen.credentials else { unreachable!() };
            c.port_answers = Fact::Known(false);
        }),
        ("websockets-held", |seen| {
            let Fact::Known(sockets) = &mut seen.sockets else { unreachable!() };
            sockets[1].local.set_port(50_099);
        }),
        ("workloads-untouched", |seen| {
            let Fact::Known(workloads) = &mut seen.workloads else { unreachable!() };
            workloads[0].pid = 1;
        }),
    ];
    for (name, change) in cases {
        let (before, after, mut later) = around(Kind::EcsInit);
        change(&mut later);
        let outcome = check(&before, &after, &later);
        assert_eq!(failed(&outcome), [name], "{outcome:#?}");
    }
    let (before, mut after, mut later) = around(Kind::EcsInit);
    for seen in [&mut after, &mut later] {
        seen.sockets = Fact::Known(public_sockets());
    }
    assert_eq!(failed(&check(&before, &after, &later)), ["websockets-moved", "websockets-held"]);
    // A bare container keeps its ID.
    let (before, mut after, mut later) = around(Kind::Bare);
    for seen in [&mut after, &mut later] {
        agent_container(seen).id = "another".into();
    }
    assert_eq!(failed(&check(&before, &after, &later)), ["one-agent-container"]);
    // A new version is right if it was staged.
    let (mut before, mut after, mut later) = around(Kind::EcsInit);
    for seen in [&mut after, &mut later] {
        let Fact::Known(v) = &mut seen.agent.version else { unreachable!() };
        v.version = "1.106.0".parse().unwrap();
    }
    let Fact::Known(cache) = &mut before.agent.cache else { unreachable!() };
    (cache.state, cache.staged) = (CacheState::ReloadNeeded, Some("1.106.0".parse().unwrap()));
    assert!(check(&before, &after, &later).verified);
}
