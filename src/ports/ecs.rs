//! The ECS control plane, asked with the instance role over a connection of its own.

use super::{
    ControlPlane, aws,
    words::{Span, excerpt},
};
use crate::facts::{Discovery, Missing};
use async_trait::async_trait;
use aws_sdk_ecs::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
};
use hyper::Uri;
use std::time::Duration;
use tokio::time::timeout;

type Result<T> = std::result::Result<T, Missing>;

/// Asks DiscoverPollEndpoint. Nothing is built, read or connected before it is asked.
#[derive(Debug, Clone)]
pub struct EcsControlPlane {
    imds: String,
    deadline: Duration,
}

impl EcsControlPlane {
    /// `imds` is the base URL of the metadata service, for the role's credentials. `deadline` bounds the whole
    /// question: credentials, connection and answer. The SDK's environment variables and profiles are honoured,
    /// `AWS_ENDPOINT_URL` among them.
    pub fn new(imds: &str, deadline: Duration) -> Self {
        Self { imds: imds.to_owned(), deadline }
    }

    async fn client(&self, region: &str) -> Result<Client> {
        let config = aws::of_host(&self.imds, region, self.deadline, 2)
            .await
            .map_err(|why| Missing::new(format!("instance metadata ({})", self.imds), why, "correct instance.imds"))?;
        Ok(Client::new(&config))
    }

    async fn ask(&self, region: &str, cluster: &str, container_instance_arn: &str) -> Result<Discovery> {
        roots_exist().await?;
        let answer = self
            .client(region)
            .await?
            .discover_poll_endpoint()
            .cluster(cluster)
            .container_instance(container_instance_arn)
            .send()
            .await
            .map_err(|error| missing(region, aws::words(&error, "ECS"), error_hint(&error)))?;
        let host = |field: &str, url: Option<&str>| {
            let url = url.unwrap_or_default();
            host_of(url).ok_or_else(|| {
                missing(region, format!("{field} in the answer is not a URL: {}", excerpt(url, 60)), ANSWER_HINT)
            })
        };
        Ok(Discovery {
            agent_host: host("endpoint", answer.endpoint())?,
            telemetry_host: host("telemetryEndpoint", answer.telemetry_endpoint())?,
        })
    }
}

#[async_trait]
impl ControlPlane for EcsControlPlane {
    async fn discover_poll_endpoint(
        &self,
        region: &str,
        cluster: &str,
        container_instance_arn: &str,
    ) -> Result<Discovery> {
        timeout(self.deadline, self.ask(region, cluster, container_instance_arn)).await.unwrap_or_else(|_| {
            let why = format!("no answer within {}", Span(self.deadline));
            Err(missing(region, why, "see that ecs is reachable on 443 and that the instance has a role"))
        })
    }
}

const ACTION: &str = "ecs:DiscoverPollEndpoint";
const ANSWER_HINT: &str = "see what answers under the ecs name, or AWS_ENDPOINT_URL";

fn missing(region: &str, why: impl std::fmt::Display, hint: impl Into<String>) -> Missing {
    Missing::new(format!("{ACTION} in {region}"), why, hint)
}

/// The SDK goes on without trusted certificates and then blames the server's.
async fn roots_exist() -> Result<()> {
    let count = tokio::task::spawn_blocking(|| rustls_native_certs::load_native_certs().certs.len()).await;
    match count {
        Ok(count) if count > 0 => Ok(()),
        _ => Err(Missing::new(
            "the host's trusted certificates",
            "there are none",
            "install ca-certificates, or set SSL_CERT_FILE",
        )),
    }
}

fn error_hint<E, R>(error: &SdkError<E, R>) -> String
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug + 'static,
{
    match error {
        SdkError::ResponseError(_) => ANSWER_HINT.into(),
        error if aws::lacks_credentials(error) => "give the instance a role, or credentials in the environment".into(),
        SdkError::ServiceError(context) => match context.err().meta().code().unwrap_or_default() {
            code if code.starts_with("AccessDenied") => {
                format!("allow {ACTION} in the instance role, and in the policy of the ecs endpoint")
            }
            code if aws::is_about_credentials(code) => {
                "see the instance role's credentials and this host's clock".into()
            }
            "" => ANSWER_HINT.into(),
            _ => String::new(),
        },
        _ => "see that ecs is reachable on 443 and that the instance has a role".into(),
    }
}

/// `https://ecs-a.eu-west-1.amazonaws.com/ws?x` → `ecs-a.eu-west-1.amazonaws.com`
fn host_of(url: &str) -> Option<String> {
    let uri: Uri = url.parse().ok()?;
    let secure = matches!(uri.scheme_str(), Some("https" | "wss"));
    let host = uri.host().filter(|host| secure && !host.is_empty())?;
    Some(host.trim_end_matches('.').to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hosts_are_taken_from_urls() {
        assert_eq!(
            host_of("https://ecs-a-3.eu-west-1.amazonaws.com/").as_deref(),
            Some("ecs-a-3.eu-west-1.amazonaws.com")
        );
        assert_eq!(
            host_of("https://ECS-T.eu-west-1.amazonaws.com:8443/x?y=z").as_deref(),
            Some("ecs-t.eu-west-1.amazonaws.com")
        );
        for url in ["", "ecs-a", "http://ecs-a.x", "https://", "<html>", "https:///x"] {
            assert_eq!(host_of(url), None, "{url}");
        }
    }

    proptest! {
        #[test]
        fn never_panics_on_garbage(url in "\\PC{0,80}") {
            let _ = host_of(&url);
            let _ = host_of(&format!("https://{url}"));
        }
    }
}
