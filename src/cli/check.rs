//! `hostagent check` and `hostagent plan`: look and say; change nothing.

use super::{
    Context,
    args::{CheckArgs, PlanArgs},
    views,
};
use crate::{catalog::Requirement, decide, flow, ports::Ports};

pub async fn check(cli: &Context, args: &CheckArgs) -> u8 {
    let ports = Ports::of_this_host(&cli.settings);
    cli.steps.meanwhile("looking at the host");
    let seen = flow::check(&ports, &cli.settings, &args.require, true).await;
    let answer = decide::answer(seen.decision.clone(), &seen.assessment, &args.require);
    cli.print(&views::check(&seen, &answer, &args.require));
    answer.exit_code()
}

pub async fn plan(cli: &Context, args: &PlanArgs) -> u8 {
    let ports = Ports::of_this_host(&cli.settings);
    cli.steps.meanwhile("looking at the host");
    let seen = flow::check(&ports, &cli.settings, &[Requirement::Agent], args.repair).await;
    cli.print(&views::plan(&seen, &cli.settings));
    seen.decision.exit_code()
}
