//! The licences of the crates in the program, from the crates' own files.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::Path,
    process::Command,
};

const OURS: &str = "Apache-2.0";
/// How files with a licence begin.
const LICENCE: [&str; 5] = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "UNLICENSE"];
const HEAD: &str = "\
hostagent is under the Apache License 2.0: see LICENSE. Its program also holds the Rust standard library
(MIT OR Apache-2.0) and the crates below, each with its licence.
";

/// For crates that name this licence and bring no text; whose copyright it is comes before it.
const MIT: &str = "\
Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the \"Software\"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED \"AS IS\", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.";

struct Crate {
    name: String,
    licence: String,
    repository: String,
    directory: String,
}

/// The text of the file THIRD-PARTY.
pub fn collect(target: &str) -> Result<String> {
    let inside = inside(target)?;
    // Text → the crates it is for. Most crates share a handful of texts.
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut as_ours = Vec::new();
    for found in metadata()? {
        if !inside.contains(&found.name) {
            continue;
        }
        let choice = may_be_ours(&found.licence);
        // Under the Apache licence its text, which is beside, and a notice go with the work.
        let wanted = if choice { &["NOTICE"][..] } else { &LICENCE[..] };
        let mut files = files(Path::new(&found.directory), wanted)?;
        let line = format!("{} ({})", found.name, found.licence);
        if choice {
            as_ours.push(line.clone());
        } else if files.is_empty() && found.licence == "MIT" {
            files.push(format!("Copyright (c) the authors of {}\n\n{MIT}", found.repository));
        } else if files.is_empty() {
            bail!("{line} brings no text of its licence");
        }
        for text in files {
            texts.entry(text).or_default().push(line.clone());
        }
    }
    let mut out = format!("{HEAD}\nUnder the Apache License 2.0:\n\n");
    out.extend(as_ours.iter().map(|line| format!("  {line}\n")));
    for (text, crates) in texts {
        out.push_str(&format!("\n{}\n\n", "-".repeat(80)));
        out.extend(crates.iter().map(|line| format!("  {line}\n")));
        out.push_str(&format!("\n{text}\n"));
    }
    Ok(out)
}

/// `name version` of each crate that is compiled into the program for this target.
fn inside(target: &str) -> Result<BTreeSet<String>> {
    let tree = cargo(&[
        "tree",
        "--package=hostagent",
        "--edges=normal,no-proc-macro",
        "--prefix=none",
        "--format={p}",
        "--target",
        target,
    ])?;
    let crates = tree.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        Some(format!("{} {}", fields.next()?, fields.next()?.trim_start_matches('v')))
    });
    Ok(crates.filter(|name| !name.starts_with("hostagent ")).collect())
}

/// Every crate cargo knows of, in the order of their names.
fn metadata() -> Result<Vec<Crate>> {
    let metadata: Value = serde_json::from_str(&cargo(&["metadata", "--format-version=1"])?)?;
    let mut crates = Vec::new();
    for package in metadata["packages"].as_array().context("cargo metadata lists no packages")? {
        let word = |key: &str| package[key].as_str().unwrap_or_default().to_owned();
        let manifest = word("manifest_path");
        let directory = Path::new(&manifest).parent().map(|path| path.display().to_string()).unwrap_or_default();
        let name = format!("{} {}", word("name"), word("version"));
        crates.push(Crate { name, licence: word("license"), repository: word("repository"), directory });
    }
    crates.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(crates)
}

/// Whether one of the alternatives is our own licence.
fn may_be_ours(expression: &str) -> bool {
    !expression.contains(['(', ')']) && expression.replace('/', " OR ").split(" OR ").any(|one| one.trim() == OURS)
}

/// Texts of a crate's files whose names begin so.
fn files(directory: &Path, prefixes: &[&str]) -> Result<Vec<String>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).with_context(|| format!("could not list {}", directory.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().to_uppercase();
        if entry.file_type()?.is_file() && prefixes.iter().any(|prefix| name.starts_with(prefix)) {
            let text = fs::read(entry.path()).with_context(|| format!("could not read {}", entry.path().display()))?;
            let text = String::from_utf8_lossy(&text).replace("\r\n", "\n");
            found.insert(name, text.trim_matches('\n').to_owned());
        }
    }
    Ok(found.into_values().collect())
}

fn cargo(arguments: &[&str]) -> Result<String> {
    let program = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(program)
        .args(arguments)
        .args(["--locked", "--color=never"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .context("could not run cargo")?;
    if !output.status.success() {
        bail!("cargo {} failed: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    String::from_utf8(output.stdout).context("cargo printed something that is not UTF-8")
}
