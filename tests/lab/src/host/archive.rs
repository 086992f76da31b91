//! Image archives as `docker save` makes them, written without an engine: one layer with the lab's program and the
//! libraries it is linked with.

use super::{
    command::{Run, run, sha256, sha256_of_file},
    paths,
};
use anyhow::{Context, Result};
use serde_json::json;
use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

const AGENT_TAG: &str = "amazon/amazon-ecs-agent:latest";
const WORKLOAD_TAG: &str = "hostagent-lab/workload:latest";
/// Part of the cache's key: raise it when what is put into an archive changes.
const FORMAT: u32 = 1;

/// What an image runs.
enum Kind<'a> {
    Agent { version: &'a str },
    Workload,
}

/// An archive of the stand-in agent that says it is of this version.
pub fn agent(version: &str) -> Result<PathBuf> {
    archive(&Kind::Agent { version }, &format!("ecs-agent-v{version}.tar"))
}

/// An archive of the workload image.
pub fn workload() -> Result<PathBuf> {
    archive(&Kind::Workload, "workload.tar")
}

fn archive(kind: &Kind<'_>, name: &str) -> Result<PathBuf> {
    let program = paths::programs()?.join("hostagent-lab");
    let cache = paths::cache()?;
    let lock = fs::File::create(cache.join("archives.lock"))?;
    lock.lock().context("could not take the lock on the image archives")?;
    let key = sha256_of_file(utf8(&program)?)?;
    let directory = cache.join(format!("archives-{FORMAT}-{}", &key[..12]));
    let path = directory.join(name);
    if path.exists() {
        return Ok(path);
    }
    if !directory.exists() {
        forget_old(&cache)?;
    }
    fs::create_dir_all(&directory)?;
    let layer = directory.join("layer.tar");
    if !layer.exists() {
        write_layer(&program, &layer)?;
    }
    write_archive(kind, &layer, &path)?;
    Ok(path)
}

/// Archives of earlier builds of the program.
fn forget_old(cache: &Path) -> Result<()> {
    for entry in fs::read_dir(cache)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("archives-") {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

fn write_layer(program: &Path, layer: &Path) -> Result<()> {
    let scratch = tempfile::tempdir_in(layer.parent().context("a layer lies in a directory")?)?;
    let root = scratch.path().join("root");
    for directory in ["data", "etc/ssl/certs", "log", "tmp"] {
        fs::create_dir_all(root.join(directory))?;
    }
    run("strip", &["-o", utf8(&root.join("agent"))?, utf8(program)?]).context("binutils are needed")?;
    symlink("agent", root.join("workload"))?;
    for library in libraries(&run("ldd", &[utf8(program)?])?) {
        run("cp", &["--dereference", "--parents", library, utf8(&root)?])?;
    }
    let unfinished = scratch.path().join("layer.tar");
    tar(&root, &unfinished)?;
    Ok(fs::rename(unfinished, layer)?)
}

/// The files in what ldd prints: `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)` or `/lib64/ld-linux… (0x…)`.
fn libraries(ldd: &str) -> Vec<&str> {
    ldd.lines().filter_map(|line| line.split_whitespace().find(|field| field.starts_with('/'))).collect()
}

fn write_archive(kind: &Kind<'_>, layer: &Path, path: &Path) -> Result<()> {
    let (tag, config) = match kind {
        Kind::Agent { version } => (
            AGENT_TAG,
            json!({
                "Entrypoint": ["/agent"],
                "Env": ["PATH=/", format!("LAB_AGENT_VERSION={version}")],
                "Healthcheck": { "Test": ["CMD", "/agent", "--healthcheck"] },
            }),
        ),
        Kind::Workload => (WORKLOAD_TAG, json!({ "Entrypoint": ["/workload"], "Env": ["PATH=/"] })),
    };
    let diff_id = format!("sha256:{}", sha256_of_file(utf8(layer)?)?);
    let image = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": config,
        "rootfs": { "type": "layers", "diff_ids": [diff_id] },
    });
    let image = serde_json::to_vec(&image)?;
    let config_name = format!("{}.json", sha256(&image)?);
    let manifest = json!([{ "Config": config_name, "RepoTags": [tag], "Layers": ["layer.tar"] }]);

    let scratch = tempfile::tempdir_in(path.parent().context("an archive lies in a directory")?)?;
    let root = scratch.path().join("root");
    fs::create_dir(&root)?;
    fs::write(root.join(config_name), image)?;
    fs::write(root.join("manifest.json"), serde_json::to_vec(&manifest)?)?;
    fs::hard_link(layer, root.join("layer.tar"))?;
    let unfinished = scratch.path().join("archive.tar");
    tar(&root, &unfinished)?;
    Ok(fs::rename(unfinished, path)?)
}

fn tar(root: &Path, to: &Path) -> Result<()> {
    let arguments =
        ["--directory", utf8(root)?, "--owner=0", "--group=0", "--sort=name", "--file", utf8(to)?, "--create", "."];
    Run::new("tar", &arguments).ok().map(drop)
}

fn utf8(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("the path {} is not UTF-8", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_ldd() {
        let printed = "\tlinux-vdso.so.1 (0x00007ffc)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
                       \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        assert_eq!(libraries(printed), ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"]);
        assert!(libraries("\tstatically linked\n").is_empty());
    }
}
