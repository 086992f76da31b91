//! An image made from a host, as an AMI is made from an instance.

use super::{
    Host,
    command::{Run, run},
};
use anyhow::Result;

/// An image with what was on a host's disk: neither `/run` and `/tmp` nor what its Docker engine holds. Removed when
/// dropped; a host that still runs from it goes on.
#[derive(Debug)]
pub struct Snapshot {
    id: String,
}

impl Snapshot {
    pub(super) fn image(&self) -> &str {
        &self.id
    }
}

impl Host {
    /// Makes an image from this host, which is stopped for the moment and goes on afterwards.
    #[track_caller]
    pub fn snapshot(&self) -> Snapshot {
        match self.try_snapshot() {
            Ok(snapshot) => snapshot,
            Err(error) => panic!("no image of the host {}: {error:#}", self.id()),
        }
    }

    fn try_snapshot(&self) -> Result<Snapshot> {
        // It takes over the host's label, by which it is found should this process die.
        let id = Run::new("docker", &["commit", self.id()]).timeout_s(300).ok()?;
        Ok(Snapshot { id: id.trim().to_owned() })
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        if let Err(error) = run("docker", &["rmi", "--force", &self.id]) {
            eprintln!("could not remove the image {}: {error:#}", self.id);
        }
    }
}
