//! Rollouts: what is moved, what is not, and what is said of it.

use super::support::{Fleet, id, said};
use hostagent_lab::cloud::{Event, HostState, Online, RestartBehaviour};
use std::{collections::BTreeSet, fs, time::Duration};

const ROLLOUT: [&str; 7] = ["rollout", "--cluster", "prod", "--every", "1s", "--pause", "5s"];
/// Real time within which anything that is to come has come.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_rollout_moves_every_host_once_and_never_two_zones_at_once() {
    let fleet = Fleet::rolling(9);
    fleet.cloud.change(&id(2), |host| host.state = HostState::Settled);
    fleet.cloud.change(&id(3), |host| host.online = Online::ConnectionLost);
    let words = ["DONE: cluster prod: 7 moved, 1 settled before, 1 not reached", &id(3), "takes up what is left"];
    fleet.says(10, &ROLLOUT, &words);
    let restarted = fleet.restarted();
    let once: BTreeSet<&String> = restarted.iter().collect();
    assert_eq!((restarted.len(), once.len()), (7, 7), "{restarted:?}");
    // A tenth of three hosts is one.
    assert_eq!(fleet.most_away(), (1, false));

    fleet.cloud.change(&id(3), |host| host.online = Online::Yes);
    fleet.says(0, &ROLLOUT, &["MOVED: cluster prod: 1 moved, 8 settled before"]);
    assert_eq!(fleet.restarted().len(), 8, "what is settled is not touched again");
    fleet.says(0, &ROLLOUT, &["SETTLED: cluster prod: 9 settled before"]);
    fleet.says(0, &["status", "--cluster", "prod"], &["the last rollout ended: 9 settled before", "not set"]);

    let page = fleet.path("rollout.html");
    fleet.says(0, &["report", "--output", page.to_str().unwrap()], &["9 hosts, 0 waves"]);
    let page = fs::read_to_string(page).unwrap();
    assert!(page.contains("<h1>Rollout to cluster prod</h1>") && page.contains(&id(9)), "{page}");
    for reference in ["http://", "https://", "src=", "<link", "<script"] {
        assert!(!page.contains(reference), "the page needs {reference}");
    }
}

#[test]
fn a_canary_that_fails_is_the_only_host_touched() {
    let fleet = Fleet::rolling(9);
    fleet.cloud.change(&id(1), |host| host.restart = RestartBehaviour::DoesNotComeBack);
    let words = ["HALTED: cluster prod: halted:", &id(1), "fleet resume", "fleet report"];
    fleet.says(13, &ROLLOUT, &words);
    assert_eq!(fleet.restarted(), [id(1)]);
    let halt = fleet.cloud.parameter("/hostagent/prod/halt").expect("the cluster is halted");
    assert!(halt.contains(&id(1)) && halt.contains("hostagent/halt/1"), "{halt}");

    // Nothing is started while the halt is set.
    fleet.says(12, &ROLLOUT, &["nothing was started", "halted by rollout"]);
    fleet.says(12, &["status", "--cluster", "prod"], &["HALTED: cluster prod is halted by rollout", &id(1)]);
    let page = fleet.path("halted.html");
    fleet.says(0, &["report", "--output", page.to_str().unwrap()], &["1 waves"]);
    let page = fs::read_to_string(page).unwrap();
    assert!(page.contains(">halted</p>") && page.contains("Why it ended there") && page.contains(&id(1)), "{page}");

    fleet.cloud.change(&id(1), |host| (host.restart, host.state) = (RestartBehaviour::Works, HostState::NeedsRestart));
    fleet.says(0, &["resume", "--cluster", "prod"], &["may move again; it was halted by rollout"]);
    fleet.says(0, &ROLLOUT, &["MOVED: cluster prod: 9 moved"]);
}

#[test]
fn a_host_that_stays_away_in_a_later_wave_halts_the_rest() {
    let fleet = Fleet::rolling(12);
    // The third of its zone: one host is moved at a time.
    fleet.cloud.change(&id(7), |host| host.restart = RestartBehaviour::StaysDisconnected);
    fleet.says(13, &ROLLOUT, &["HALTED", &id(7), "2 moved"]);
    assert_eq!(fleet.restarted(), [id(1), id(4), id(7)], "the others are left");
}

#[test]
fn who_follows_may_go_away_and_come_back() {
    let fleet = Fleet::rolling(6);
    let mut laptop = fleet.spawn(&ROLLOUT);
    fleet.cloud.wait_for(PATIENCE, |event| matches!(event, Event::RestartBegan { .. })).unwrap();
    laptop.kill().unwrap();
    laptop.wait().unwrap();
    fleet.says(0, &["follow", "--every", "1s"], &["MOVED: cluster prod: 6 moved"]);
    fleet.says(1, &["follow", "00000000-0000-0000-0000-000000000000"], &["AutomationExecutionNotFoundException"]);
}

#[test]
fn of_two_rollouts_at_once_one_moves_the_hosts() {
    let fleet = Fleet::rolling(6);
    let first = fleet.spawn(&ROLLOUT);
    fleet.cloud.wait_for(PATIENCE, |event| matches!(event, Event::RestartBegan { .. })).unwrap();
    fleet.says(75, &ROLLOUT, &["BUSY", "another rollout for the same hosts is under way"]);
    let first = said(first.wait_with_output().unwrap());
    assert_eq!(first.code, 0, "{}{}", first.out, first.err);
    assert_eq!(fleet.restarted().len(), 6);
}

#[test]
fn a_rollout_that_is_stopped_is_taken_up_again() {
    let fleet = Fleet::rolling(9);
    let rollout = fleet.spawn(&ROLLOUT);
    fleet.cloud.wait_for(PATIENCE, |event| matches!(event, Event::RestartEnded { .. })).unwrap();
    fleet.says(0, &["stop", "--cluster", "prod", "--why", "INC-123 <b>"], &["cluster prod is halted", "INC-123"]);
    fleet.says(0, &["stop", "--cluster", "prod", "--why", "later"], &["was halted already", "INC-123"]);
    let rollout = said(rollout.wait_with_output().unwrap());
    assert_eq!(rollout.code, 12, "{}{}", rollout.out, rollout.err);
    assert!(rollout.out.contains("INC-123"), "{}", rollout.out);
    let moved = fleet.restarted().len();
    assert!((1..9).contains(&moved), "{moved}");
    fleet.ok(&["resume", "--cluster", "prod"]);
    fleet.says(0, &ROLLOUT, &[&format!("MOVED: cluster prod: {} moved, {moved} settled before", 9 - moved)]);
    assert_eq!(fleet.restarted().len(), 9, "none twice");
}

#[test]
fn nobody_to_move_is_said() {
    let fleet = Fleet::rolling(0);
    fleet.says(1, &ROLLOUT, &["no host of cluster prod was found"]);
    let none = ["rollout", "--cluster", "nope", "--every", "1s"];
    fleet.says(1, &none, &["ClusterNotFoundException"]);
    let fleet = Fleet::of(3);
    fleet.says(1, &ROLLOUT, &["hostagent fleet install puts it there"]);
}
