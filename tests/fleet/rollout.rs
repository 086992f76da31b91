//! Rollouts: what is moved, what is not, and what is said of it.

use super::support::{Fleet, id, said};
use hostagent_lab::cloud::{Event, Fault, HostState, Online, RestartBehaviour};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use std::{collections::BTreeSet, fs, time::Duration};

const ROLLOUT: [&str; 7] = ["rollout", "--cluster", "prod", "--every", "1s", "--pause", "5s"];
/// Of whoever calls in the lab.
const ROLE: &str = "arn:aws:iam::111122223333:role/HostAgent-Rollout";
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
    fleet.says(
        0,
        &["status", "--cluster", "prod"],
        &["the last rollout ended: 9 settled before", "not set", "nothing to do"],
    );

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
    let words = ["HALTED: cluster prod: halted by the rollout: ", &id(1), "fleet resume", "fleet report"];
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
    assert!(page.contains(">halted</p>") && page.contains("How it ended.") && page.contains(&id(1)), "{page}");

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
fn who_follows_is_heard_while_aws_does_not_answer() {
    let fleet = Fleet::rolling(6);
    let laptop = fleet.spawn(&ROLLOUT);
    fleet.cloud.wait_for(PATIENCE, |event| matches!(event, Event::RestartBegan { .. })).unwrap();
    // Longer than the rollout takes: who was not heard would see its end.
    let slow = "GetAutomationExecution";
    fleet.cloud.fault(Fault::Slow { action: slow.into(), delay: PATIENCE, times: 1 });
    let (before, mut calls) = (fleet.cloud.calls(slow), 0);
    let more = |event: &Event| {
        calls += usize::from(matches!(event, Event::Api { action, .. } if action == slow));
        calls > before
    };
    fleet.cloud.wait_for(PATIENCE, more).unwrap();
    kill_process(Pid::from_child(&laptop), Signal::INT).unwrap();
    let said = said(laptop.wait_with_output().unwrap());
    assert_eq!(said.code, 10, "{said:?}");
    assert!(said.out.contains("UNDER WAY"), "{said:?}");
}

#[test]
fn of_two_rollouts_at_once_one_moves_the_hosts() {
    let fleet = Fleet::rolling(6);
    let first = fleet.spawn(&ROLLOUT);
    fleet.cloud.wait_for(PATIENCE, |event| matches!(event, Event::RestartBegan { .. })).unwrap();
    let started = fleet.executions();
    let one = format!("not started: another rollout for the same hosts is under way: {}", started[0]);
    let words = ["BUSY: cluster prod: ", &one, &format!("hostagent fleet follow {}", started[0])];
    fleet.says(75, &ROLLOUT, &words);
    fleet.says(75, &[&ROLLOUT[..], &["--detach"]].concat(), &words);
    assert_eq!(fleet.executions(), started, "nothing was started");
    // Of those that begin in the same instant the runbook is the judge.
    let parameters = json!({ "Cluster": ["prod"], "AutomationAssumeRole": [ROLE] });
    let start = json!({ "DocumentName": "HostAgent-Rollout", "Parameters": parameters });
    let second = fleet.cloud.client().ssm("StartAutomationExecution", &start).unwrap();
    fleet.says(75, &["follow", second["AutomationExecutionId"].as_str().unwrap(), "--every", "1s"], &words);
    let first = said(first.wait_with_output().unwrap());
    assert_eq!(first.code, 0, "{}{}", first.out, first.err);
    assert_eq!(fleet.restarted().len(), 6);
}

#[test]
fn a_start_whose_answer_is_lost_starts_one_rollout() {
    let fleet = Fleet::rolling(3);
    let lost = || Fault::LostAnswer { action: "StartAutomationExecution".into(), times: 2 };
    fleet.cloud.fault(lost());
    fleet.says(0, &ROLLOUT, &["MOVED: cluster prod: 3 moved"]);
    assert_eq!((fleet.cloud.calls("StartAutomationExecution"), fleet.executions().len()), (3, 1));
    // Another one is another one.
    fleet.says(0, &ROLLOUT, &["SETTLED"]);
    assert_eq!(fleet.executions().len(), 2);
}

#[test]
fn a_rollout_acts_with_the_role_of_the_callers_account_unless_another_is_named() {
    let fleet = Fleet::rolling(1);
    let role = |fleet: &Fleet| {
        let id = json!({ "AutomationExecutionId": fleet.executions()[0] });
        let execution = fleet.cloud.client().ssm("GetAutomationExecution", &id).unwrap();
        execution["AutomationExecution"]["Parameters"]["AutomationAssumeRole"][0].as_str().unwrap().to_owned()
    };
    fleet.says(0, &ROLLOUT, &["MOVED"]);
    assert_eq!(role(&fleet), ROLE);
    let other = ROLE.replace("HostAgent-Rollout", "another/role");
    fleet.says(0, &[&ROLLOUT[..], &["--role", &other]].concat(), &["SETTLED"]);
    assert_eq!(role(&fleet), other);

    let kind = "RegionDisabledException".to_owned();
    let message = "STS is not activated in this region".to_owned();
    fleet.cloud.fault(Fault::Error { action: "GetCallerIdentity".into(), kind, message, times: 1 });
    let words = ["name it with --role", "sts:GetCallerIdentity", "STS is not activated"];
    fleet.says(1, &ROLLOUT, &words);
    assert_eq!(fleet.executions().len(), 2, "nothing was started");
}

#[test]
fn rollouts_are_found_by_whom_they_are_for() {
    let fleet = Fleet::rolling(2);
    fleet.says(1, &["follow"], &["there is no rollout on record in eu-west-1"]);
    fleet.says(0, &ROLLOUT, &["MOVED"]);
    let first = fleet.executions().remove(0);
    let one = ["rollout", "--instance", &id(2), "--every", "1s", "--pause", "5s"];
    fleet.says(0, &one, &["SETTLED"]);
    let second = fleet.executions().remove(0);
    assert_ne!(first, second);

    fleet.says(0, &["follow", "--cluster", "prod"], &[&first]);
    fleet.says(0, &["follow", "--instance", &format!("{},{}", id(1), id(2))], &[&second]);
    fleet.says(0, &["follow"], &[&second]);
    let page = fleet.path("prod.html");
    fleet.says(0, &["report", "--cluster", "prod", "--output", page.to_str().unwrap()], &[&first]);
    let words = ["no rollout for tag a=b on record", "hostagent fleet rollout --tag 'a=b'"];
    fleet.says(1, &["report", "--tag", "a=b", "--output", page.to_str().unwrap()], &words);
}

#[test]
fn a_rollout_behind_many_others_is_found() {
    const OTHER: &str = "HostAgent-Rollout-of-others";
    let fleet = Fleet::rolling(1);
    fleet.says(0, &ROLLOUT, &["MOVED"]);
    let first = fleet.executions().remove(0);
    // SSM lists the executions of all runbooks whose names begin like ours, a page at a time.
    let ssm = |action: &str, input| fleet.cloud.client().ssm(action, &input).unwrap();
    let steps = json!([{"name": "Rest", "action": "aws:sleep", "inputs": {"Duration": "PT1S"}, "isEnd": true}]);
    let content = json!({"schemaVersion": "0.3", "mainSteps": steps}).to_string();
    let made = json!({"Name": OTHER, "DocumentType": "Automation", "DocumentFormat": "JSON", "Content": content});
    ssm("CreateDocument", made);
    for _ in 0..51 {
        ssm("StartAutomationExecution", json!({ "DocumentName": OTHER }));
    }
    assert!(!fleet.executions().contains(&first), "it is on the first page");
    fleet.says(0, &["follow", "--cluster", "prod"], &[&first]);
    fleet.says(0, &["status", "--cluster", "prod"], &["the last rollout ended: 1 moved"]);
}

#[test]
fn status_tells_of_the_rollout_that_goes_on_and_of_what_holds_it() {
    let fleet = Fleet::rolling(3);
    fleet.cloud.calendar("freeze", false, None);
    let held = fleet.says(0, &[&ROLLOUT[..], &["--calendar", "freeze", "--detach"]].concat(), &["UNDER WAY"]);
    let id = fleet.executions().remove(0);
    assert!(held.contains(&id), "{held}");
    let words = ["HALTED: cluster prod is held: the calendar freeze is closed", "closed freeze", "under way", &id];
    fleet.says(12, &["status", "--cluster", "prod"], &words);
    fleet.cloud.calendar("freeze", true, None);
    fleet.says(0, &["follow", "--cluster", "prod", "--every", "1s"], &["MOVED: cluster prod: 3 moved"]);
    fleet.says(0, &["status", "--cluster", "prod"], &["cluster prod is not halted; the last rollout ended: 3 moved"]);
}

#[test]
fn a_rollout_whose_execution_is_cancelled_says_so() {
    let fleet = Fleet::rolling(9);
    let rollout = fleet.spawn(&ROLLOUT);
    fleet.cloud.wait_for(PATIENCE, |event| matches!(event, Event::RestartEnded { .. })).unwrap();
    let stop = json!({ "AutomationExecutionId": fleet.executions()[0], "Type": "Cancel" });
    fleet.cloud.client().ssm("StopAutomationExecution", &stop).unwrap();
    let rollout = said(rollout.wait_with_output().unwrap());
    assert_eq!(rollout.code, 12, "{}{}", rollout.out, rollout.err);
    for word in ["HALTED: cluster prod: its execution was cancelled", "takes up what is left"] {
        assert!(rollout.out.contains(word), "{word}: {}", rollout.out);
    }
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
    assert!(rollout.out.contains("HALTED: cluster prod: stopped by tester: INC-123"), "{}", rollout.out);
    let moved = fleet.restarted().len();
    assert!((1..9).contains(&moved), "{moved}");
    fleet.ok(&["resume", "--cluster", "prod"]);
    fleet.says(0, &ROLLOUT, &[&format!("MOVED: cluster prod: {} moved, {moved} settled before", 9 - moved)]);
    assert_eq!(fleet.restarted().len(), 9, "none twice");
}

#[test]
fn who_stops_from_where_no_user_is_signs_with_their_credentials() {
    let fleet = Fleet::of(1);
    let mut ci = fleet.command(&["stop", "--cluster", "prod", "--why", "INC-123"]);
    let ci = said(ci.env_remove("USER").output().unwrap());
    assert_eq!(ci.code, 0, "{}{}", ci.out, ci.err);
    assert!(ci.out.contains("halted by arn:aws:iam::111122223333:user/engineer at "), "{}", ci.out);
}

#[test]
fn nobody_to_move_is_said() {
    let fleet = Fleet::rolling(0);
    fleet.says(1, &ROLLOUT, &["cluster prod: no host was found"]);
    let none = ["rollout", "--cluster", "nope", "--every", "1s"];
    fleet.says(1, &none, &["ClusterNotFoundException"]);
    let fleet = Fleet::of(3);
    fleet.says(1, &ROLLOUT, &["hostagent fleet install puts it there"]);
}
