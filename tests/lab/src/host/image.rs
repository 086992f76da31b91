//! Builds the host image in two steps, each done once for each state of its recipe in `tests/lab/host/`: a base of
//! Debian packages, which takes a minute, and the lab's own files over it.

use super::{
    command::{Run, run, sha256},
    paths,
};
use anyhow::{Context, Result, bail};
use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

const RECIPE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/host");
const BASE: &str = "hostagent-lab/base";
const HOST: &str = "hostagent-lab/host";
const SUITE: &str = "bookworm";
const DEFAULT_MIRROR: &str = "http://deb.debian.org/debian";
/// Trees that nothing on the host reads, a third of what debootstrap leaves; and the ID it made.
const LEFT_OUT: [&str; 7] = [
    "./etc/machine-id",
    "./var/cache/apt/*",
    "./var/lib/apt/lists/*",
    "./usr/share/doc/*",
    "./usr/share/man/*",
    "./usr/share/locale/*",
    "./usr/share/i18n/*",
];
/// Links in the image, as (path, target). The programs themselves are mounted, so that a new build needs no new image.
const LINKS: [(&str, &str); 5] = [
    ("usr/bin/hostagent-lab", "/opt/lab/hostagent-lab"),
    ("usr/libexec/amazon-ecs-init", "/opt/lab/hostagent-lab"),
    ("etc/systemd/system/default.target", "/usr/lib/systemd/system/multi-user.target"),
    ("etc/systemd/system/multi-user.target.wants/lab-link.service", "/usr/lib/systemd/system/lab-link.service"),
    ("etc/systemd/system/multi-user.target.wants/lab-region.service", "/usr/lib/systemd/system/lab-region.service"),
];
/// How the image starts.
const CHANGES: [&str; 4] =
    ["--change", "ENTRYPOINT [\"/usr/local/sbin/lab-init\"]", "--change", "ENV container=docker"];
const DIRECTORIES: [&str; 7] = [
    "etc/ecs",
    "etc/hostagent/config.d",
    "opt/images",
    "opt/lab",
    "opt/overlay",
    "var/lib/ecs/data",
    "var/log/ecs/exec",
];

/// The image's tag; builds it if no image of this recipe is there. Needs root and debootstrap for a new base.
///
/// # Errors
///
/// When the engine does not answer, or the packages cannot be had.
pub(super) fn ensure() -> Result<String> {
    let mut text = format!("{SUITE} {LEFT_OUT:?} {:?}\n", list("packages")?);
    let base = format!("{BASE}:{}", &sha256(text.as_bytes())?[..12]);
    text.push_str(&recipe()?);
    let host = format!("{HOST}:{}", &sha256(text.as_bytes())?[..12]);
    if present(&host)? {
        return Ok(host);
    }
    let lock = fs::File::create(paths::cache()?.join("host-image.lock"))?;
    lock.lock().context("could not take the lock on building the host image")?;
    if !present(&base)? {
        eprintln!("building {base} from Debian packages, about a minute");
        build_base(&base).with_context(|| format!("could not build the base image {base}"))?;
    }
    if !present(&host)? {
        build_host(&base, &host).with_context(|| format!("could not build the host image {host}"))?;
    }
    Ok(host)
}

fn present(tag: &str) -> Result<bool> {
    let found = run("docker", &["image", "ls", "--quiet", tag]).context("the Docker engine does not answer")?;
    Ok(!found.trim().is_empty())
}

/// All that goes into the image besides packages: names, modes and contents of the recipe's files, and the lists above.
fn recipe() -> Result<String> {
    let mut files = Vec::new();
    collect(Path::new(RECIPE), &mut files)?;
    files.sort();
    let mut text = format!("{LINKS:?} {DIRECTORIES:?} {CHANGES:?}\n");
    for file in files {
        let read = || anyhow::Ok((fs::metadata(&file)?.permissions().mode(), fs::read_to_string(&file)?));
        let (mode, content) = read().with_context(|| format!("could not read {}", file.display()))?;
        text.push_str(&format!("== {} {:o}\n{content}", file.strip_prefix(RECIPE)?.display(), mode & 0o100));
    }
    Ok(text)
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

fn build_base(tag: &str) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("only root can build it (debootstrap changes root); run tests/run as root once, or with --no-host");
    }
    let scratch = tempfile::Builder::new().prefix("host-image-").tempdir_in(paths::cache()?)?;
    let root = scratch.path().join("root");
    let root = root.to_str().context("the target directory's path is not UTF-8")?;
    let include = format!("--include={}", list("packages")?.join(","));
    Run::new("debootstrap", &["--variant=minbase", &include, SUITE, root, &mirror()])
        .timeout_s(900)
        .ok()
        .context("debootstrap is needed to make the root file system (apt-get install debootstrap)")?;
    let excluded: Vec<String> = LEFT_OUT.iter().map(|path| format!("--exclude='{path}'")).collect();
    let import = format!("tar --directory \"$1\" {} --create . | docker import - \"$2\"", excluded.join(" "));
    Run::new("bash", &["-o", "pipefail", "-c", &import, "import", root, tag]).timeout_s(300).ok().map(drop)
}

fn build_host(base: &str, tag: &str) -> Result<()> {
    let root = tempfile::tempdir()?;
    for directory in DIRECTORIES {
        fs::create_dir_all(root.path().join(directory))?;
    }
    for unit in list("masked")? {
        link(&root.path().join("etc/systemd/system").join(unit), "/dev/null")?;
    }
    for (path, target) in LINKS {
        link(&root.path().join(path), target)?;
    }
    let root = root.path().to_str().context("the temporary directory's path is not UTF-8")?;
    run("cp", &["--recursive", "--preserve=mode", &format!("{RECIPE}/root/."), root])?;

    // Not `docker build`: which builder an engine's client brings, and whether, differs from one to the next.
    let container = run("docker", &["create", base, "/usr/local/sbin/lab-init"])?;
    let container = container.trim();
    let copy = "tar --directory \"$1\" --owner=0 --group=0 --create . | docker cp - \"$2:/\"";
    let copied = Run::new("bash", &["-o", "pipefail", "-c", copy, "copy", root, container]).ok();
    let commit = [&["commit"], &CHANGES[..], &[container, tag]].concat();
    let committed = copied.and_then(|_| run("docker", &commit));
    run("docker", &["rm", "--force", "--volumes", container])?;
    committed.map(drop)
}

fn link(path: &Path, target: &str) -> Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
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
        assert!(recipe().unwrap().contains("== root/usr/local/sbin/lab-init 100\n"), "it can be executed");
        for (_, target) in LINKS.iter().filter(|(_, target)| target.contains("/lab-")) {
            assert!(Path::new(RECIPE).join(format!("root{target}")).exists(), "{target}");
        }
    }
}
