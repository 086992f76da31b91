//! The same players on the real Docker Engine, by way of its command line.

use super::stage::Task;
use anyhow::{Context as _, bail};
use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

const LABEL: &str = "hostagent-lab=story";
const AGENT: &str = "ecs-agent";
const PROGRAM: &str = "/hostagent-lab";

/// Containers and an image made for the story. Dropped, they are removed, each by its ID.
pub struct DockerStage {
    image: String,
    containers: Vec<String>,
}

impl DockerStage {
    /// Makes an image of this program and runs the agent and three tasks from it.
    ///
    /// # Errors
    ///
    /// When the engine does not answer, or has a container `ecs-agent` that the story did not make.
    pub async fn set(
        dir: &Path,
        data: &Path,
        ca: &Path,
        mut agent_env: BTreeMap<String, String>,
    ) -> anyhow::Result<Self> {
        make_way()?;
        let mut stage = Self { image: import(dir)?, containers: Vec::new() };
        agent_env.insert("ECS_DATADIR".into(), "/data".into());
        let mut agent: Vec<String> = ["--init", "--net=host", "--restart=on-failure:10"].map(String::from).into();
        agent.extend(["-v".into(), format!("{}:/data", data.display())]);
        agent.extend(["-v".into(), format!("{0}:{0}:ro", ca.display())]);
        agent.extend(agent_env.iter().flat_map(|(name, value)| ["-e".into(), format!("{name}={value}")]));
        if !rustix::process::getuid().is_root() {
            // Whose processes may be looked at by whoever runs the story.
            let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
            agent.extend(["--user".into(), format!("{uid}:{gid}")]);
        }
        agent.extend(["--entrypoint".into(), "/agent".into()]);
        stage.run(AGENT, &agent, &[])?;
        for task in ["web", "worker", "cache"] {
            let options = ["--init", "--net=none", "--entrypoint", PROGRAM].map(String::from);
            stage.run(&format!("ecs-{task}-1-{task}"), &options, &["pause"])?;
        }
        Ok(stage)
    }

    fn run(&mut self, name: &str, options: &[String], command: &[&str]) -> anyhow::Result<()> {
        let mut args = vec!["create", "--name", name, "--label", LABEL];
        args.extend(options.iter().map(String::as_str));
        args.push(&self.image);
        args.extend(command);
        let id = docker(&args)?;
        self.containers.push(id.clone());
        docker(&["start", &id])?;
        Ok(())
    }

    /// `unix:///var/run/docker.sock`, or what `DOCKER_HOST` says.
    pub fn host(&self) -> String {
        env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".into())
    }

    pub async fn tasks(&self) -> anyhow::Result<Vec<Task>> {
        let format = "{{.Name}} {{.Id}} {{.State.Pid}} {{.State.StartedAt}} {{.State.Running}}";
        let task = |id: &String| {
            let line = docker(&["inspect", "--format", format, id])?;
            let mut parts = line.split(' ');
            let mut next = || parts.next().unwrap_or_default().to_string();
            let (name, id, pid, started_at) = (next(), next(), next(), next());
            let name = name.trim_start_matches('/').to_string();
            Ok(Task { name, id, pid: pid.parse().context("PID")?, started_at })
        };
        self.containers.iter().skip(1).map(task).collect()
    }

    pub fn agent_log(&self) -> String {
        self.containers.first().and_then(|id| docker(&["logs", "--tail", "40", id]).ok()).unwrap_or_default()
    }
}

impl Drop for DockerStage {
    fn drop(&mut self) {
        for id in &self.containers {
            remove(&["rm", "--force", "--volumes", id]);
        }
        remove(&["rmi", &self.image]);
    }
}

/// Cleaning up goes on whatever happens, and says what could not be removed.
fn remove(args: &[&str]) {
    if let Err(error) = docker(args) {
        eprintln!("hostagent-lab: {error:#}");
    }
}

/// Removes what an interrupted story has left; refuses to touch anything else of the same name.
fn make_way() -> anyhow::Result<()> {
    let anybody = docker(&["ps", "--all", "--quiet", "--no-trunc", "--filter", &format!("name=^/{AGENT}$")])?;
    let left = docker(&["ps", "--all", "--quiet", "--no-trunc", "--filter", &format!("label={LABEL}")])?;
    let left: BTreeSet<&str> = left.lines().collect();
    if let Some(other) = anybody.lines().find(|id| !left.contains(id)) {
        bail!("this machine has a container {AGENT} ({other}) that the story did not make: it will not touch it");
    }
    for id in left {
        docker(&["rm", "--force", "--volumes", id])?;
    }
    let images = docker(&["images", "--quiet", "--no-trunc", "--filter", &format!("label={LABEL}")])?;
    for image in images.lines() {
        docker(&["rmi", image])?;
    }
    Ok(())
}

/// A root file system of this program and its libraries, as an image; its ID.
fn import(dir: &Path) -> anyhow::Result<String> {
    let root = dir.join("rootfs");
    let program = env::current_exe().context("find this program")?;
    copy(&program, &root.join(PROGRAM.trim_start_matches('/')))?;
    std::os::unix::fs::symlink(PROGRAM, root.join("agent"))?;
    for library in libraries(&program)? {
        copy(&library, &root.join(library.strip_prefix("/").unwrap_or(&library)))?;
    }
    let archive = dir.join("rootfs.tar");
    let tar = Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&archive).arg(".").output().context("run tar")?;
    succeeded("tar", &tar)?;
    let label = format!("LABEL {LABEL}");
    let image = docker(&["import", "--change", &label, &archive.display().to_string()])?;
    fs::remove_file(&archive)?;
    fs::remove_dir_all(&root)?;
    Ok(image)
}

/// The shared libraries that `ldd` lists, the loader among them.
fn libraries(program: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output().context("run ldd")?;
    let text = succeeded("ldd", &output)?;
    let paths = text.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    Ok(paths.map(PathBuf::from).collect())
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let parent = to.parent().context("a path without a parent")?;
    fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
    fs::copy(from, to).with_context(|| format!("copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

fn docker(args: &[&str]) -> anyhow::Result<String> {
    let output = Command::new("docker").args(args).output().context("run docker: is it installed?")?;
    succeeded(&format!("docker {}", args.first().copied().unwrap_or_default()), &output)
}

fn succeeded(what: &str, output: &Output) -> anyhow::Result<String> {
    if !output.status.success() {
        bail!("{what}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_string())
}
