//! Builds the host image from Debian packages, once for each state of its recipe in `tests/lab/host/`.

use super::{
    command::{Run, run, sha256},
    paths,
};
use anyhow::{Context, Result, bail};
use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

const RECIPE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/host");
const REPOSITORY: &str = "hostagent-lab/host";
const SUITE: &str = "bookworm";
const DEFAULT_MIRROR: &str = "http://deb.debian.org/debian";
/// Trees that nothing on the host reads: a third of what debootstrap leaves.
const LEFT_OUT: [&str; 6] = [
    "./var/cache/apt/*",
    "./var/lib/apt/lists/*",
    "./usr/share/doc/*",
    "./usr/share/man/*",
    "./usr/share/locale/*",
    "./usr/share/i18n/*",
];
/// Links in the image, as (path, target). The programs themselves are mounted, so that a new build needs no new image.
const LINKS: [(&str, &str); 6] = [
    ("usr/bin/hostagent", "/opt/lab/hostagent"),
    ("usr/bin/hostagent-lab", "/opt/lab/hostagent-lab"),
    ("usr/libexec/amazon-ecs-init", "/opt/lab/hostagent-lab"),
    ("etc/systemd/system/default.target", "/usr/lib/systemd/system/multi-user.target"),
    ("etc/systemd/system/multi-user.target.wants/lab-link.service", "/usr/lib/systemd/system/lab-link.service"),
    ("etc/systemd/system/multi-user.target.wants/lab-region.service", "/usr/lib/systemd/system/lab-region.service"),
];
const DIRECTORIES: [&str; 7] = [
    "etc/ecs",
    "etc/hostagent/config.d",
    "opt/images",
    "opt/lab",
    "opt/overlay",
    "var/lib/ecs/data",
    "var/log/ecs/exec",
];

/// The image's tag; builds it if no image of this recipe is there. Needs root and debootstrap to build.
///
/// # Errors
///
/// When the engine does not answer, or the packages cannot be had.
pub(super) fn ensure() -> Result<String> {
    let tag = format!("{REPOSITORY}:{}", &recipe_hash()?[..12]);
    if present(&tag)? {
        return Ok(tag);
    }
    let lock = fs::File::create(paths::cache()?.join("host-image.lock"))?;
    lock.lock().context("could not take the lock on building the host image")?;
    if !present(&tag)? {
        eprintln!("building {tag} from Debian packages, about a minute");
        build(&tag).with_context(|| format!("could not build the host image {tag}"))?;
    }
    Ok(tag)
}

fn present(tag: &str) -> Result<bool> {
    let found = run("docker", &["image", "ls", "--quiet", tag]).context("the Docker engine does not answer")?;
    Ok(!found.trim().is_empty())
}

/// Over the names, modes and contents of all files of the recipe, and over what is written in this file.
fn recipe_hash() -> Result<String> {
    let mut files = Vec::new();
    collect(Path::new(RECIPE), &mut files)?;
    files.sort();
    let mut text = format!("{SUITE} {LEFT_OUT:?} {LINKS:?} {DIRECTORIES:?}\n").into_bytes();
    for file in files {
        text.extend(format!("== {}\n", file.strip_prefix(RECIPE)?.display()).into_bytes());
        text.extend(fs::read(&file).with_context(|| format!("could not read {}", file.display()))?);
    }
    sha256(&text)
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(directory).with_context(|| format!("could not list {}", directory.display()))?;
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}

/// The lines of a recipe file that are no comments.
fn list(name: &str) -> Result<Vec<String>> {
    let text = fs::read_to_string(Path::new(RECIPE).join(name)).with_context(|| format!("no {RECIPE}/{name}"))?;
    Ok(text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect())
}

fn build(tag: &str) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("only root can build it (debootstrap changes root); run tests/run as root once, or with --no-host");
    }
    let scratch = tempfile::Builder::new().prefix("host-image-").tempdir_in(paths::cache()?)?;
    let root = scratch.path().join("root");
    let root_text = root.to_str().context("the target directory's path is not UTF-8")?;
    let include = format!("--include={}", list("packages")?.join(","));
    let mirror = mirror();
    Run::new("debootstrap", &["--variant=minbase", &include, SUITE, root_text, &mirror])
        .timeout_s(900)
        .ok()
        .context("debootstrap is needed to make the root file system (apt-get install debootstrap)")?;
    for unit in list("masked")? {
        link(&root.join("etc/systemd/system").join(unit), "/dev/null")?;
    }
    for directory in DIRECTORIES {
        fs::create_dir_all(root.join(directory))?;
    }
    for (path, target) in LINKS {
        link(&root.join(path), target)?;
    }
    run("cp", &["--archive", "--no-preserve=ownership", &format!("{RECIPE}/root/."), root_text])?;

    let excluded: Vec<String> = LEFT_OUT.iter().map(|path| format!("--exclude='{path}'")).collect();
    let import = format!(
        "tar --directory \"$1\" {} --create . | docker import \
         --change 'ENTRYPOINT [\"/usr/local/sbin/lab-init\"]' --change 'ENV container=docker' - \"$2\"",
        excluded.join(" ")
    );
    Run::new("bash", &["-o", "pipefail", "-c", &import, "import", root_text, tag]).timeout_s(300).ok()?;
    Ok(())
}

fn link(path: &Path, target: &str) -> Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    if path.is_symlink() || path.exists() {
        fs::remove_file(path)?;
    }
    symlink(target, path).with_context(|| format!("could not link {} to {target}", path.display()))
}

/// The mirror this machine takes its own Debian packages from.
fn mirror() -> String {
    let deb822 = fs::read_to_string("/etc/apt/sources.list.d/debian.sources").unwrap_or_default();
    let list = fs::read_to_string("/etc/apt/sources.list").unwrap_or_default();
    mirror_in(&deb822, &list).unwrap_or(DEFAULT_MIRROR).to_owned()
}

fn mirror_in<'a>(deb822: &'a str, list: &'a str) -> Option<&'a str> {
    let uri = |field: &&str| field.starts_with("http://") || field.starts_with("https://");
    let from_deb822 = deb822.lines().find_map(|line| line.strip_prefix("URIs:")?.split_whitespace().find(uri));
    let from_list =
        || list.lines().filter(|line| line.starts_with("deb ")).find_map(|line| line.split_whitespace().find(uri));
    from_deb822.or_else(from_list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_own_mirror_is_used() {
        let deb822 = "Types: deb\n# a comment\nURIs: http://mirror.test/debian\nSuites: bookworm\n";
        assert_eq!(mirror_in(deb822, ""), Some("http://mirror.test/debian"));
        assert_eq!(mirror_in("", "# x\ndeb [arch=amd64] https://m.test/d bookworm main\n"), Some("https://m.test/d"));
        assert_eq!(mirror_in("", ""), None);
    }

    #[test]
    fn the_recipe_is_readable_and_its_units_exist() {
        assert!(list("packages").unwrap().contains(&"docker.io".to_owned()));
        assert_eq!(recipe_hash().unwrap(), recipe_hash().unwrap());
        for (_, target) in LINKS.iter().filter(|(_, target)| target.contains("/lab-")) {
            assert!(Path::new(RECIPE).join(format!("root{target}")).exists(), "{target}");
        }
    }
}
