//! What goes wrong on purpose.

use super::{SERVICE_KEY, error::ApiError};
use std::{collections::BTreeMap, time::Duration};

/// `action` is a name such as `SendCommand`, or `*` for any. `times` calls meet it, then it is over.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Refused as too many.
    Throttle {
        action: String,
        times: usize,
    },
    /// The credentials of whoever calls from outside have expired, until the faults are cleared.
    ExpiredCredentials,
    /// The answer takes `delay` of real time.
    Slow {
        action: String,
        delay: Duration,
        times: usize,
    },
    Error {
        action: String,
        kind: String,
        message: String,
        times: usize,
    },
    /// Carried out, and the answer is an error of the server all the same.
    LostAnswer {
        action: String,
        times: usize,
    },
}

#[derive(Default)]
pub(super) struct Faults {
    faults: Vec<Fault>,
    expired: bool,
    buckets: BTreeMap<String, (f64, f64)>,
}

/// What a call meets.
#[derive(Default)]
pub(super) struct Met {
    pub refused: Option<ApiError>,
    pub delay: Duration,
    pub lost: bool,
}

impl Faults {
    pub fn add(&mut self, fault: Fault) {
        match fault {
            Fault::ExpiredCredentials => self.expired = true,
            other => self.faults.push(other),
        }
    }

    /// Whether these credentials are still good. Those of the cloud's own role always are.
    pub fn credentials(&self, key: &str) -> Result<(), ApiError> {
        if self.expired && key != SERVICE_KEY {
            let message = "The security token included in the request is expired";
            return Err(ApiError::new("ExpiredTokenException", message));
        }
        Ok(())
    }

    /// What a call of `action` meets now; the faults it meets wear off.
    pub fn meet(&mut self, service: &str, action: &str) -> Met {
        let mut met = Met::default();
        for fault in &mut self.faults {
            let (of, times) = match fault {
                Fault::Throttle { action, times }
                | Fault::Slow { action, times, .. }
                | Fault::Error { action, times, .. }
                | Fault::LostAnswer { action, times } => (action, times),
                Fault::ExpiredCredentials => continue,
            };
            if *times == 0 || (of != "*" && of != action) || met.refused.is_some() {
                continue;
            }
            *times -= 1;
            match fault {
                Fault::Throttle { .. } => met.refused = Some(throttled(service)),
                Fault::Slow { delay, .. } => met.delay += *delay,
                Fault::Error { kind, message, .. } => {
                    let status = if kind.starts_with("Internal") || kind.starts_with("Server") { 500 } else { 400 };
                    met.refused = Some(ApiError { kind: kind.clone(), message: message.clone(), status });
                }
                Fault::LostAnswer { .. } => met.lost = true,
                Fault::ExpiredCredentials => {}
            }
        }
        met
    }

    /// Takes one from the bucket of an action that may be called `rate` times a second; false when it is empty.
    pub fn take(&mut self, action: &str, rate: f64, now_s: f64) -> bool {
        let burst = rate.max(1.0);
        let (left, since) = self.buckets.get(action).copied().unwrap_or((burst, now_s));
        let left = (left + (now_s - since) * rate).min(burst);
        let taken = left >= 1.0;
        self.buckets.insert(action.into(), (if taken { left - 1.0 } else { left }, now_s));
        taken
    }
}

/// Too many calls, in the words of the service.
pub(super) fn throttled(service: &str) -> ApiError {
    match service {
        "ec2" => ApiError { status: 503, ..ApiError::new("RequestLimitExceeded", "Request limit exceeded.") },
        "monitoring" | "sts" => ApiError::new("Throttling", "Rate exceeded"),
        _ => ApiError::new("ThrottlingException", "Rate exceeded"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_wears_off_and_concerns_its_action_alone() {
        let mut faults = Faults::default();
        faults.add(Fault::Throttle { action: "SendCommand".into(), times: 1 });
        assert!(faults.meet("ssm", "ListCommands").refused.is_none());
        assert_eq!(faults.meet("ssm", "SendCommand").refused.unwrap().kind, "ThrottlingException");
        assert!(faults.meet("ssm", "SendCommand").refused.is_none());
    }

    #[test]
    fn a_bucket_fills_with_time() {
        let mut faults = Faults::default();
        let taken = (0..5).filter(|_| faults.take("PutParameter", 3.0, 10.0)).count();
        assert_eq!(taken, 3);
        assert!(faults.take("PutParameter", 3.0, 10.4) && !faults.take("PutParameter", 3.0, 10.4));
    }
}
