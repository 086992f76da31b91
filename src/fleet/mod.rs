//! A whole fleet: asked, moved by its runbook, and reported on.
//!
//! SSM does the distributed part: Run Command carries documents to hosts, Automation runs the runbook that moves them
//! wave by wave, Parameter Store holds the halt. Nothing here must stay alive for a rollout to go on.
//!
//! | file | what it holds |
//! |---|---|
//! | [`documents`] | the SSM documents, and what differs from those of an account |
//! | [`answer`] | what a host printed → what it stands at |
//! | [`check`] | every host asked, and put together |
//! | [`rollout`] | the runbook's parameters, and its state as it goes |
//! | [`ending`] | how a rollout ended: its line, its exit code, what to type next |
//! | [`find`] | the rollouts on record for some hosts |
//! | [`halt`] | the brake a cluster has |
//! | [`role`] | the role a rollout acts with |
//! | [`story`] | what a rollout did, from SSM's own records |

pub mod answer;
pub mod check;
pub mod documents;
pub mod ending;
pub mod find;
pub mod halt;
pub mod role;
pub mod rollout;
pub mod story;

use crate::ports::aws::{
    self, Operator, automation::Automation, cluster::Clusters, documents::Documents, halt::Brakes, identity::Identity,
    run_command::RunCommand,
};

/// AWS, as far as a fleet needs it.
#[derive(Debug, Clone)]
pub struct Cloud {
    pub run_command: RunCommand,
    pub clusters: Clusters,
    pub automation: Automation,
    pub documents: Documents,
    pub brakes: Brakes,
    pub identity: Identity,
    pub region: String,
}

impl Cloud {
    /// As an operator's tools reach it. Nothing is asked yet.
    pub async fn of_operator(operator: &Operator) -> aws::Result<Self> {
        let config = aws::of_operator(operator).await?;
        Ok(Self {
            run_command: RunCommand::new(&config),
            clusters: Clusters::new(&config),
            automation: Automation::new(&config),
            documents: Documents::new(&config),
            brakes: Brakes::new(&config),
            identity: Identity::new(&config),
            region: config.region().map(ToString::to_string).unwrap_or_default(),
        })
    }
}
