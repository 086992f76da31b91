//! What `check --require` answers: for the agent, and for the other needs of a container instance.

use super::{Decision, Reason};
use crate::assess::{Assessment, NamePath, Readiness, ServiceReport, path_text};
use crate::catalog::{Requirement, Service, services};

/// Whether the answer is about the agent itself.
pub fn about_the_agent(needs: &[Requirement]) -> bool {
    needs.iter().any(|need| matches!(need, Requirement::Agent | Requirement::All))
}

/// The answer for `needs`, given the decision about the agent.
///
/// What is to be done about the agent comes first; where that is nothing, or was not asked, the endpoints of the
/// other needs are judged: all there and answering, or waiting for some, or (a look-up failed) not to be told. S3 by a
/// gateway endpoint cannot be told from S3 over the internet; while it answers, it holds nothing up.
pub fn answer(decision: Decision, assessment: &Assessment, needs: &[Requirement]) -> Decision {
    if about_the_agent(needs) && decision != Decision::Settled {
        return decision;
    }
    let wanted = services(needs);
    let others = || assessment.services.iter().filter(|r| wanted.contains(&r.service) && !r.service.is_control_plane());
    let lacking: Vec<Reason> = others().filter(|r| r.readiness == Readiness::NotReady).map(reason).collect();
    if !lacking.is_empty() {
        return Decision::Waiting { reasons: lacking };
    }
    let looked_at = |service: &Service| assessment.services.iter().any(|r| r.service == *service);
    let mut unseen: Vec<Reason> = others()
        .filter(|r| r.readiness == Readiness::CannotTell && (r.service != Service::S3 || failed(r)))
        .map(reason)
        .collect();
    unseen.extend(wanted.iter().filter(|service| !looked_at(service)).map(|service| {
        let text = format!("{service}: its name is not known without the instance metadata");
        Reason::new("name-unknown", text, "see that the metadata service answers: hostagent check -v")
    }));
    // The control plane is in no other need than the agent's.
    if unseen.is_empty() { Decision::Settled } else { Decision::Unknown { reasons: unseen } }
}

fn failed(report: &ServiceReport) -> bool {
    matches!(report.path, NamePath::Failed(_) | NamePath::Unplaced(_))
}

fn reason(report: &ServiceReport) -> Reason {
    let unreached = report.addresses.iter().find_map(|a| {
        let outcome = a.reach.as_ref().filter(|outcome| !outcome.reached())?;
        Some(format!("; {}: {}", a.ip, crate::assess::outcome_text(outcome)))
    });
    let text =
        format!("{}: {} {}{}", report.service, report.host, path_text(&report.path), unreached.unwrap_or_default());
    Reason::new("need-not-private", text, report.remedy.clone())
}
