//! House rules that a compiler does not check: openers, line length, leftovers, dependency directions.

use std::fs;
use std::path::{Path, PathBuf};

const MAX_LINE: usize = 140;
const MAX_FILE: usize = 1200;

/// Which of our crates each crate may name (see ARCHITECTURE.md, "Invariants").
const MAY_USE: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("expr", &["core"]),
    ("state", &["core"]),
    ("connect", &["core", "expr"]),
    ("sql", &["core", "expr"]),
    ("runtime", &["core"]),
    ("control", &["core", "state", "runtime"]),
    ("trial", &["core", "state", "runtime"]),
    ("testbed", &[]),
];

/// Checks all rules; the error lists every breach, one a line.
pub fn check() -> Result<(), String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("the workspace has no root")?;
    let mut files = Vec::new();
    for folder in ["crates", "oracle", "xtask"] {
        rust_files(&root.join(folder), &mut files)?;
    }
    files.sort();
    let mut breaches = Vec::new();
    for file in &files {
        let text = fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
        let name = file.strip_prefix(root).unwrap_or(file).display().to_string();
        check_file(&name, &text, &mut breaches);
    }
    check_directions(root, &mut breaches)?;
    if breaches.is_empty() {
        eprintln!("tidy: {} files follow the house rules", files.len());
        Ok(())
    } else {
        Err(breaches.join("\n"))
    }
}

fn check_file(name: &str, text: &str, breaches: &mut Vec<String>) {
    if !text.starts_with("//! ") {
        breaches.push(format!("{name}: does not open with a `//!` sentence"));
    }
    let lines = text.lines().count();
    if lines > MAX_FILE {
        breaches.push(format!("{name}: {lines} lines; at most {MAX_FILE}"));
    }
    let leftovers =
        [["TO", "DO"].concat(), ["FIX", "ME"].concat(), ["to", "do!("].concat(), ["unimple", "mented!"].concat()];
    for (i, line) in text.lines().enumerate() {
        if line.chars().count() > MAX_LINE && !line.contains("http") && !line.contains('"') && !line.contains("//! |") {
            breaches.push(format!("{name}:{}: longer than {MAX_LINE} characters", i + 1));
        }
        if let Some(leftover) = leftovers.iter().find(|l| line.contains(l.as_str())) {
            breaches.push(format!("{name}:{}: leftover {leftover}", i + 1));
        }
    }
    let operator = name.starts_with("crates/runtime/src/operators/");
    if operator && (text.contains("timely::") || text.contains("use timely")) {
        breaches.push(format!("{name}: an operator names timely"));
    }
}

fn check_directions(root: &Path, breaches: &mut Vec<String>) -> Result<(), String> {
    for (krate, allowed) in MAY_USE {
        let path = root.join("crates").join(krate).join("Cargo.toml");
        let manifest = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let dependencies = manifest.split("[dev-dependencies]").next().unwrap_or_default();
        for line in dependencies.lines() {
            let Some(rest) = line.strip_prefix("millstream-") else { continue };
            let used = rest.split(['.', ' ', '=']).next().unwrap_or_default();
            if !allowed.contains(&used) {
                breaches.push(format!("crates/{krate}/Cargo.toml: {krate} must not use {used}"));
            }
        }
        if manifest.contains("datafusion") {
            breaches.push(format!("crates/{krate}/Cargo.toml: only the oracle of random queries names datafusion"));
        }
        if *krate != "runtime" && dependencies.contains("\ntimely") {
            breaches.push(format!("crates/{krate}/Cargo.toml: only runtime names timely"));
        }
    }
    Ok(())
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) -> Result<(), String> {
    let entries = fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    for entry in entries {
        let path = entry.map_err(|e| e.to_string())?.path();
        if path.is_dir() {
            if path.file_name().is_some_and(|n| n != "target") {
                rust_files(&path, found)?;
            }
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaches_of(name: &str, text: &str) -> Vec<String> {
        let mut breaches = Vec::new();
        check_file(name, text, &mut breaches);
        breaches
    }

    #[test]
    fn the_workspace_follows_the_house_rules() {
        check().unwrap();
    }

    #[test]
    fn a_file_without_an_opener_is_told() {
        assert_eq!(breaches_of("a.rs", "fn main() {}\n").len(), 1);
        assert!(breaches_of("a.rs", "//! Says what lives here.\n").is_empty());
    }

    #[test]
    fn an_operator_that_names_timely_is_told() {
        let text = "//! An operator.\nuse timely::dataflow::Scope;\n";
        assert_eq!(breaches_of("crates/runtime/src/operators/calc.rs", text).len(), 1);
        assert!(breaches_of("crates/runtime/src/worker.rs", text).is_empty());
    }
}
