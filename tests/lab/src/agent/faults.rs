//! Faults of the agent, for tests of what happens when it does not come back.
//!
//! Words separated by white space, in `LAB_FAULTS` and in the file `faults` of the data directory:
//!
//! - `never-return`: exits with 1 at once; `exit=N`: with N
//! - `never-register`: runs and never registers, so that introspection never opens
//! - `slow-start=MS`: waits before it does anything
//! - `mute-introspection`: accepts connections and never answers

use super::config::Config;
use std::time::Duration;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults {
    pub exit: Option<u8>,
    pub never_register: bool,
    pub slow_start: Duration,
    pub mute_introspection: bool,
}

impl Faults {
    /// The faults in force now; unknown words are an error, so that a misspelt one cannot pass for none.
    pub fn read(config: &Config) -> anyhow::Result<Self> {
        let file = std::fs::read_to_string(config.data_dir.join("faults")).unwrap_or_default();
        Self::parse(&format!("{} {file}", config.faults))
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let mut faults = Self::default();
        for word in text.split_whitespace() {
            match word.split_once('=') {
                None if word == "never-return" => faults.exit = Some(1),
                None if word == "never-register" => faults.never_register = true,
                None if word == "mute-introspection" => faults.mute_introspection = true,
                Some(("exit", code)) => faults.exit = Some(code.parse()?),
                Some(("slow-start", ms)) => faults.slow_start = Duration::from_millis(ms.parse()?),
                _ => anyhow::bail!("unknown fault {word:?}"),
            }
        }
        Ok(faults)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_and_misspelt_ones_refused() -> anyhow::Result<()> {
        assert_eq!(Faults::parse(" \n")?, Faults::default());
        let faults = Faults::parse("never-register\nslow-start=1500 exit=42")?;
        assert!(faults.never_register && faults.exit == Some(42));
        assert_eq!(faults.slow_start, Duration::from_millis(1500));
        assert!(Faults::parse("never-retrun").is_err());
        Ok(())
    }
}
