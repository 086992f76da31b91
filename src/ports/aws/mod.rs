//! AWS over its SDK: how clients are made, its failures in the words of a person, and one adapter a file.

pub mod automation;
pub mod cluster;
pub mod documents;
pub mod halt;
pub mod host;
pub mod identity;
pub mod run_command;

use super::{
    imds,
    words::{chain, root},
};
use aws_config::{
    BehaviorVersion, ConfigLoader, Region, SdkConfig, default_provider::credentials::DefaultCredentialsChain,
    provider_config::ProviderConfig, retry::RetryConfig, timeout::TimeoutConfig,
};
use aws_sdk_ssm::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_http_client::{
    Builder as HttpBuilder,
    tls::{Provider, rustls_provider::CryptoMode},
};
use std::{fmt, time::Duration};

/// One attempt of one call of an operator's. The SDK tries again what may be tried again.
const ATTEMPT: Duration = Duration::from_secs(30);
/// A whole fleet is asked in hundreds of calls, some of which are throttled.
const ATTEMPTS: u32 = 10;
/// All attempts of one call of an operator's.
const CALL: Duration = Duration::from_secs(180);

pub type Result<T> = std::result::Result<T, AwsError>;

/// How a person's own tools reach AWS; what is `None` comes from the environment and the profile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Operator {
    pub profile: Option<String>,
    pub region: Option<String>,
    /// For every service: a proxy, an endpoint of one's own, or a stand-in.
    pub endpoint_url: Option<String>,
}

/// The SDK's configuration for an operator: profile (SSO, role or process), environment, region, endpoint URL.
pub async fn of_operator(operator: &Operator) -> Result<SdkConfig> {
    let timeouts = TimeoutConfig::builder().operation_attempt_timeout(ATTEMPT).operation_timeout(CALL).build();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http())
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
        .timeout_config(timeouts);
    let set = |loader: ConfigLoader, value: &Option<String>, to: fn(ConfigLoader, String) -> ConfigLoader| match value {
        Some(value) => to(loader, value.clone()),
        None => loader,
    };
    loader = set(loader, &operator.profile, |loader, name| loader.profile_name(name));
    loader = set(loader, &operator.region, |loader, name| loader.region(Region::new(name)));
    loader = set(loader, &operator.endpoint_url, |loader, url| loader.endpoint_url(url));
    let config = loader.load().await;
    if config.region().is_none() {
        return Err(AwsError {
            action: "AWS",
            about: String::new(),
            kind: ErrorKind::Invalid,
            why: "no region is set".into(),
            remedy: "give --region, or set AWS_REGION or the profile's region".into(),
        });
    }
    Ok(config)
}

/// The SDK's configuration for this host: its role, over connections of its own. `imds` is the base URL of the metadata
/// service; `deadline` bounds each call. The SDK's environment variables and profiles are honoured.
pub(super) async fn of_host(
    imds: &str,
    region: &str,
    deadline: Duration,
    attempts: u32,
) -> std::result::Result<SdkConfig, String> {
    let region = Region::new(region.to_owned());
    let metadata = imds::client(imds, deadline)?;
    // No pool is shared with anything, so the connection is fresh and takes the path a new agent would.
    let http = http();
    let provider = ProviderConfig::without_region().with_region(Some(region.clone())).with_http_client(http.clone());
    let credentials = DefaultCredentialsChain::builder()
        .configure(provider)
        .imds_client(metadata)
        .region(region.clone())
        .build()
        .await;
    let timeouts = TimeoutConfig::builder().operation_timeout(deadline).connect_timeout(deadline).build();
    Ok(aws_config::defaults(BehaviorVersion::latest())
        .region(region)
        .http_client(http)
        .credentials_provider(credentials)
        .retry_config(RetryConfig::standard().with_max_attempts(attempts))
        .timeout_config(timeouts)
        .load()
        .await)
}

fn http() -> aws_sdk_ssm::config::SharedHttpClient {
    HttpBuilder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https()
}

/// A call that did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsError {
    /// `ssm:SendCommand`
    pub action: &'static str,
    /// What it was about; empty where the action says it all.
    pub about: String,
    pub kind: ErrorKind,
    pub why: String,
    /// Empty where nothing can be said.
    pub remedy: String,
}

/// What a caller may want to tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The caller's policy does not allow it.
    Denied,
    /// What it was about is not there.
    Missing,
    /// It is there already.
    Exists,
    /// Too many calls, also after the SDK's own attempts.
    Throttled,
    /// Credentials that are missing, wrong or expired.
    Credentials,
    /// The request itself.
    Invalid,
    /// No answer, or not one of AWS.
    Unreachable,
    Other,
}

impl fmt::Display for AwsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.action)?;
        if !self.about.is_empty() {
            write!(f, " ({})", self.about)?;
        }
        write!(f, ": {}", self.why)?;
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        Ok(())
    }
}

impl std::error::Error for AwsError {}

/// Names an SDK error: `.map_err(failed("ssm:SendCommand", "HostAgent-Check"))`.
fn failed<E, R>(action: &'static str, about: impl Into<String>) -> impl FnOnce(SdkError<E, R>) -> AwsError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: fmt::Debug + 'static,
{
    let about = about.into();
    move |error| {
        let kind = kind(&error);
        let remedy = match kind {
            ErrorKind::Denied => format!("allow {action} in the policy of whoever asks"),
            ErrorKind::Credentials => {
                "log in again (aws sso login), or see AWS_PROFILE and this machine's clock".into()
            }
            ErrorKind::Throttled => "run this again in a few minutes".into(),
            ErrorKind::Unreachable => "see the network, the region and the endpoint URL".into(),
            ErrorKind::Missing if lacks_document(&error) => "hostagent fleet install puts it there".into(),
            ErrorKind::Missing | ErrorKind::Exists | ErrorKind::Invalid | ErrorKind::Other => String::new(),
        };
        AwsError { action, about, kind, why: words(&error, "AWS"), remedy }
    }
}

/// What is wrong with an answer that lacks what it must have.
fn incomplete(action: &'static str, field: &str) -> AwsError {
    let why = format!("the answer has no {field}");
    AwsError { action, about: String::new(), kind: ErrorKind::Unreachable, why, remedy: String::new() }
}

fn kind<E, R>(error: &SdkError<E, R>) -> ErrorKind
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: fmt::Debug + 'static,
{
    match error {
        SdkError::ServiceError(context) => match context.err().meta().code().unwrap_or_default() {
            "" => ErrorKind::Unreachable,
            code if code.starts_with("AccessDenied") => ErrorKind::Denied,
            code if is_about_credentials(code) => ErrorKind::Credentials,
            code if code.contains("Throttl") || code == "RateExceeded" => ErrorKind::Throttled,
            code if is_no_document(code) => ErrorKind::Missing,
            "ParameterNotFound"
            | "AutomationExecutionNotFoundException"
            | "ClusterNotFoundException"
            | "AssociationDoesNotExist"
            | "InvalidCommandId"
            | "InvalidDocumentVersion" => ErrorKind::Missing,
            code if code.contains("AlreadyExists") || code.starts_with("Duplicate") => ErrorKind::Exists,
            code if code.starts_with("Invalid") || code == "ValidationException" => ErrorKind::Invalid,
            _ => ErrorKind::Other,
        },
        error if lacks_credentials(error) => ErrorKind::Credentials,
        SdkError::TimeoutError(_) | SdkError::ResponseError(_) | SdkError::DispatchFailure(_) => ErrorKind::Unreachable,
        _ => ErrorKind::Other,
    }
}

fn is_no_document(code: &str) -> bool {
    matches!(code, "InvalidDocument" | "AutomationDefinitionNotFoundException")
}

fn lacks_document<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> bool {
    error.as_service_error().and_then(|error| error.code()).is_some_and(is_no_document)
}

/// Whether the service turned the credentials down, not what was asked with them.
pub(super) fn is_about_credentials(code: &str) -> bool {
    matches!(
        code,
        "UnrecognizedClientException"
            | "InvalidClientTokenId"
            | "ExpiredToken"
            | "ExpiredTokenException"
            | "InvalidSignatureException"
            | "IncompleteSignatureException"
            | "MissingAuthenticationTokenException"
    )
}

/// The failure in a line; `service` is who should have answered.
pub(super) fn words<E, R>(error: &SdkError<E, R>, service: &str) -> String
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: fmt::Debug + 'static,
{
    match error {
        SdkError::ServiceError(context) => {
            let meta = context.err().meta();
            match (meta.code(), meta.message()) {
                (Some(code), Some(message)) => format!("{code}: {message}"),
                (Some(code), None) => code.to_owned(),
                _ => format!("the answer is not one of {service}: {}", chain(context.err())),
            }
        }
        SdkError::TimeoutError(_) => "no answer in time".into(),
        SdkError::ResponseError(_) => format!("the answer is not one of {service}: {}", root(error)),
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
pub(super) fn lacks_credentials(error: &(dyn std::error::Error + 'static)) -> bool {
    chain(error).contains("credential")
}
