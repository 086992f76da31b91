//! The ECS control plane, asked with the instance role over a connection of its own.

use super::{
    ControlPlane, imds,
    words::{Span, chain, excerpt, root},
};
use crate::facts::{Discovery, Missing};
use async_trait::async_trait;
use aws_config::{
    BehaviorVersion, Region, default_provider::credentials::DefaultCredentialsChain, provider_config::ProviderConfig,
    retry::RetryConfig, timeout::TimeoutConfig,
};
use aws_sdk_ecs::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
};
use aws_smithy_http_client::{
    Builder as HttpBuilder,
    tls::{Provider, rustls_provider::CryptoMode},
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
        let region = Region::new(region.to_owned());
        let metadata = imds::client(&self.imds, self.deadline)
            .map_err(|why| Missing::new(format!("instance metadata ({})", self.imds), why, "correct instance.imds"))?;
        // No pool is shared with anything, so the connection is fresh and takes the path a new agent would.
        let http = HttpBuilder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
        let provider =
            ProviderConfig::without_region().with_region(Some(region.clone())).with_http_client(http.clone());
        let credentials = DefaultCredentialsChain::builder()
            .configure(provider)
            .imds_client(metadata)
            .region(region.clone())
            .build()
            .await;
        let timeouts = TimeoutConfig::builder().operation_timeout(self.deadline).connect_timeout(self.deadline).build();
        let config = aws_config::defaults(BehaviorVersion::latest())
            .region(region)
            .http_client(http)
            .credentials_provider(credentials)
            .retry_config(RetryConfig::standard().with_max_attempts(2))
            .timeout_config(timeouts)
            .load()
            .await;
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
            .map_err(|error| missing(region, error_words(&error), error_hint(&error)))?;
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

fn error_words<E, R>(error: &SdkError<E, R>) -> String
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug + 'static,
{
    match error {
        SdkError::ServiceError(context) => {
            let meta = context.err().meta();
            match (meta.code(), meta.message()) {
                (Some(code), Some(message)) => format!("{code}: {message}"),
                (Some(code), None) => code.to_owned(),
                _ => format!("the answer is not one of ECS: {}", chain(context.err())),
            }
        }
        SdkError::TimeoutError(_) => "no answer in time".into(),
        SdkError::ResponseError(_) => format!("the answer is not one of ECS: {}", root(error)),
        error if lacks_credentials(error) => {
            // The rest of the text lists every provider that was tried.
            let text = root(error);
            let first = text.lines().next().unwrap_or_default().trim_end_matches(" Attempted:");
            format!("there are no AWS credentials to ask with: {first}")
        }
        SdkError::DispatchFailure(_) => format!("no connection: {}", root(error)),
        error => chain(error).replace('\n', " "),
    }
}

/// The SDK has no variant for it: the failure of its chain of providers is text.
fn lacks_credentials(error: &(dyn std::error::Error + 'static)) -> bool {
    chain(error).contains("credential")
}

fn error_hint<E, R>(error: &SdkError<E, R>) -> String
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug + 'static,
{
    match error {
        SdkError::ResponseError(_) => ANSWER_HINT.into(),
        error if lacks_credentials(error) => "give the instance a role, or credentials in the environment".into(),
        SdkError::ServiceError(context) => match context.err().meta().code().unwrap_or_default() {
            code if code.starts_with("AccessDenied") => {
                format!("allow {ACTION} in the instance role, and in the policy of the ecs endpoint")
            }
            "UnrecognizedClientException"
            | "InvalidClientTokenId"
            | "ExpiredTokenException"
            | "InvalidSignatureException" => "see the instance role's credentials and this host's clock".into(),
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
