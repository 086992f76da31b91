//! The packages that `packaging/build` left in `target/packages`, which every host sees in `/opt/packages`.

use super::{Host, Output, command::sha256_of_file, paths};
use crate::region::{
    OBJECTS,
    place::{REGION, SUFFIX},
};
use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use std::{
    env::consts::ARCH,
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// Where hosts see `target/packages`.
pub const DIRECTORY: &str = "/opt/packages";
/// What this source makes.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// What `tests/run` builds to upgrade to.
pub const NEXT_VERSION: &str = "99.0.0";
/// The bucket that packages are published in.
const BUCKET: &str = "our-packages";
const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
/// What goes into a package.
const INSIDE: [&str; 12] = [
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "packaging/build",
    "packaging/config",
    "packaging/deb",
    "packaging/journal",
    "packaging/packer",
    "packaging/papers",
    "packaging/rpm",
    "src",
    "systemd",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Build {
    /// `packaging/build --quick`: the debug build, for scenes that are about something else.
    Quick,
    /// `packaging/build`: as shipped.
    Release,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Deb,
    Rpm,
}

impl Format {
    /// What installs or upgrades to a package of this kind. The root is a Debian one, so rpm is not asked about
    /// dependencies.
    pub fn installer(self) -> &'static [&'static str] {
        match self {
            Format::Deb => &["dpkg", "--install"],
            Format::Rpm => &["rpm", "--upgrade", "--nodeps"],
        }
    }
}

/// The name of a package's file for this machine's architecture.
pub fn file_name(format: Format, version: &str) -> String {
    match (format, ARCH) {
        (Format::Deb, "aarch64") => format!("hostagent_{version}-1_arm64.deb"),
        (Format::Deb, _) => format!("hostagent_{version}-1_amd64.deb"),
        (Format::Rpm, architecture) => format!("hostagent-{version}-1.{architecture}.rpm"),
    }
}

/// The path of a package on this machine.
///
/// # Errors
///
/// When it was not built, or something that goes into it was changed since.
pub fn built(build: Build, format: Format, version: &str) -> Result<PathBuf> {
    let (directory, mut command) = match build {
        Build::Quick => ("quick", "packaging/build --quick".to_owned()),
        Build::Release => ("", "packaging/build".to_owned()),
    };
    if version != VERSION {
        command.push_str(&format!(" --version {version}"));
    }
    let path = paths::packages()?.join(directory).join(file_name(format, version));
    let Ok(found) = fs::metadata(&path) else {
        bail!("no {}: run `{command}` first (tests/run does)", path.display());
    };
    let made = found.modified()?;
    for part in INSIDE {
        if let Some(changed) = changed_since(&Path::new(SOURCES).join(part), made)? {
            bail!("{} is newer than {}: run `{command}` again", changed.display(), path.display());
        }
    }
    Ok(path)
}

/// Where hosts see a package.
pub fn on_the_host(build: Build, format: Format, version: &str) -> String {
    let directory = if build == Build::Quick { "/quick" } else { "" };
    format!("{DIRECTORY}{directory}/{}", file_name(format, version))
}

/// The package of this source, as shipped or else of the debug build; where hosts see it.
///
/// # Errors
///
/// When neither was built, or the sources were changed since; with the command that makes the second.
pub fn at_hand(format: Format) -> Result<String> {
    let build = if built(Build::Release, format, VERSION).is_ok() { Build::Release } else { Build::Quick };
    built(build, format, VERSION)?;
    Ok(on_the_host(build, format, VERSION))
}

/// A file at or below a path that was written later.
fn changed_since(path: &Path, then: SystemTime) -> Result<Option<PathBuf>> {
    let found = fs::metadata(path).with_context(|| format!("could not look at {}", path.display()))?;
    if found.is_dir() {
        for entry in fs::read_dir(path)? {
            if let Some(changed) = changed_since(&entry?.path(), then)? {
                return Ok(Some(changed));
            }
        }
    } else if found.modified()? > then {
        return Ok(Some(path.to_owned()));
    }
    Ok(None)
}

impl Host {
    /// The path of a package on the host; panics with what to run when there is none, or one of older sources.
    #[track_caller]
    pub fn package(&self, build: Build, format: Format, version: &str) -> String {
        if let Err(error) = built(build, format, version) {
            panic!("{error:#}");
        }
        on_the_host(build, format, version)
    }

    /// Puts a package into a bucket of the region's S3; its address and its SHA-256.
    #[track_caller]
    pub fn publish(&self, format: Format, version: &str) -> (String, String) {
        let put = || -> Result<(String, String)> {
            let package = built(Build::Quick, format, version)?;
            let name = file_name(format, version);
            let bucket = self.region_dir().join(OBJECTS).join(BUCKET);
            fs::create_dir_all(&bucket)?;
            fs::copy(&package, bucket.join(&name))?;
            let sum = sha256_of_file(package.to_str().context("the target directory's path is not UTF-8")?)?;
            Ok((format!("https://{BUCKET}.s3.{REGION}.{SUFFIX}/{name}"), sum))
        };
        match put() {
            Ok(published) => published,
            Err(error) => panic!("{error:#}"),
        }
    }

    /// Installs or upgrades to a package.
    #[track_caller]
    pub fn install(&self, build: Build, format: Format, version: &str) -> Output {
        let path = self.package(build, format, version);
        self.exec(&[format.installer(), &[path.as_str()]].concat())
    }

    /// Installs the package that is [`at_hand`], and waits until its service is ready.
    ///
    /// # Errors
    ///
    /// When the package manager or systemd says no.
    pub fn try_install(&self, format: Format, path: &str) -> Result<()> {
        self.must(&[format.installer(), &[path]].concat())?;
        self.must(&["systemctl", "start", "hostagent"])?;
        Ok(())
    }

    /// Installs the package of this source, and waits until its service is ready.
    #[track_caller]
    pub fn install_service(&self) {
        self.install(Build::Quick, Format::Deb, VERSION).ok();
        // The package does not wait for it.
        self.exec(&["systemctl", "start", "hostagent"]).ok();
    }
}
