//! The two brakes: the cluster's halt parameter and the operator's Change Calendars.

use super::{AwsError, ErrorKind, Result, failed};
use aws_config::SdkConfig;
use aws_sdk_ssm::{
    Client,
    types::{CalendarState, ParameterType},
};

/// Parameter Store and Change Calendar.
#[derive(Debug, Clone)]
pub struct Brakes(Client);

impl Brakes {
    pub fn new(config: &SdkConfig) -> Self {
        Self(Client::new(config))
    }

    /// The value of a parameter; `None` when there is none.
    pub async fn parameter(&self, name: &str) -> Result<Option<String>> {
        match self.0.get_parameter().name(name).send().await.map_err(failed("ssm:GetParameter", name)) {
            Ok(answer) => Ok(Some(answer.parameter.and_then(|p| p.value).unwrap_or_default())),
            Err(AwsError { kind: ErrorKind::Missing, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes a parameter; `false` when it is there already, which is left as it is.
    pub async fn put_parameter_once(&self, name: &str, value: &str, description: &str) -> Result<bool> {
        let request = self.0.put_parameter().name(name).value(value).description(description);
        let request = request.r#type(ParameterType::String).overwrite(false);
        match request.send().await.map_err(failed("ssm:PutParameter", name)) {
            Ok(_) => Ok(true),
            Err(AwsError { kind: ErrorKind::Exists, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes a parameter; `false` when there was none.
    pub async fn delete_parameter(&self, name: &str) -> Result<bool> {
        match self.0.delete_parameter().name(name).send().await.map_err(failed("ssm:DeleteParameter", name)) {
            Ok(_) => Ok(true),
            Err(AwsError { kind: ErrorKind::Missing, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether all of these calendars are open now, by their names or ARNs. Several are open only when each is.
    pub async fn is_open(&self, calendars: &[String]) -> Result<bool> {
        let request = self.0.get_calendar_state().set_calendar_names(Some(calendars.to_vec()));
        let answer = request.send().await.map_err(failed("ssm:GetCalendarState", calendars.join(", ")))?;
        Ok(answer.state() == Some(&CalendarState::Open))
    }
}
