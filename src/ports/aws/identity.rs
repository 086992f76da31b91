//! STS: who asks.

use super::{Result, failed, incomplete};
use aws_config::SdkConfig;
use aws_sdk_sts::Client;

#[derive(Debug, Clone)]
pub struct Identity(Client);

impl Identity {
    pub fn new(config: &SdkConfig) -> Self {
        Self(Client::new(config))
    }

    /// ARN of whom the credentials are of. Needs no permission.
    pub async fn caller(&self) -> Result<String> {
        const ACTION: &str = "sts:GetCallerIdentity";
        let answer = self.0.get_caller_identity().send().await.map_err(failed(ACTION, ""))?;
        answer.arn.ok_or_else(|| incomplete(ACTION, "ARN"))
    }
}
