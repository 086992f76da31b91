//! The cluster's halt: written where a restart cannot be verified, until it stands.

use crate::host::{HALT, Host, Request, refused, throttled};
use hostagent::{config::Brake, decide::exit, facts::Fact, progress::ClusterHalt};

/// A host whose restart stops one of its other containers.
fn harmful() -> Host {
    let host = Host::movable();
    {
        let mut state = host.state();
        let Fact::Known(workloads) = &mut state.moved.workloads else { unreachable!() };
        (workloads[0].running, workloads[0].exit_code) = (false, Some(137));
    }
    host
}

#[tokio::test]
async fn a_restart_that_cannot_be_verified_halts_the_cluster() {
    let host = harmful();
    let done = host.run().await;
    assert_eq!(done.exit_code, exit::BROKEN);
    assert_eq!(done.halt, ClusterHalt::Written { parameter: HALT.into() });
    let value = host.state().parameters[HALT].clone();
    assert!(value.contains("workloads-untouched") && value.contains("i-0f00dfacade00001"), "{value}");
}

#[tokio::test]
async fn it_is_written_until_it_stands() {
    let host = harmful();
    host.state().puts.push_back(throttled());
    let done = host.run().await;
    assert_eq!(done.halt, ClusterHalt::Written { parameter: HALT.into() });
    assert_eq!(host.state().put, 2);
}

#[tokio::test]
async fn it_is_written_while_the_agent_is_mended() {
    let host = Host::movable();
    host.state().requests.push_back(Request::LeftDown);
    let done = host.run().await;
    // Mended by the second start, and the halt stays: the restart left the agent down.
    assert_eq!(host.state().touched, 2);
    assert_eq!(done.halt, ClusterHalt::Written { parameter: HALT.into() });
    assert_eq!(host.state().put, 1);
    let away = done.outage.and_then(|outage| outage.agent_s);
    assert!(away.is_some_and(|s| s > 0.0) && host.history().restarts[0].outage_s == away, "{away:?}");
}

#[tokio::test]
async fn why_it_could_not_be_written_is_told() {
    let host = harmful();
    host.state().puts.push_back(refused());
    let done = host.run().await;
    let ClusterHalt::NotWritten { why } = &done.halt else { panic!("{:?}", done.halt) };
    assert!(why.contains("AccessDeniedException"), "{why}");
    assert_eq!(host.state().put, 1, "a refusal does not change");

    let mut host = harmful();
    host.settings.fleet.brake = Brake::Off;
    let done = host.run().await;
    assert!(matches!(&done.halt, ClusterHalt::NotWritten { why } if why.contains("fleet.brake")), "{:?}", done.halt);
    assert_eq!(host.state().put, 0);
}

#[tokio::test]
async fn a_container_that_ends_by_itself_halts_nothing() {
    let host = harmful();
    {
        let mut state = host.state();
        let Fact::Known(workloads) = &mut state.moved.workloads else { unreachable!() };
        workloads[0].exit_code = Some(0);
    }
    let done = host.run().await;
    assert_eq!((done.exit_code, done.halt), (exit::SETTLED, ClusterHalt::NotNeeded));
    let checks = done.outcome.unwrap().checks;
    assert!(checks.iter().any(|check| check.text.contains("ended by itself meanwhile: web-1")), "{checks:?}");
}
