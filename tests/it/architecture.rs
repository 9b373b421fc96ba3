//! The invariants of ARCHITECTURE.md that can be checked by reading the source.

use std::path::{Path, PathBuf};

/// The modules that have no kube client, no tokio, no clock, no file system, no network and no environment.
const PURE: &[&str] = &[
    "api",
    "units.rs",
    "precision.rs",
    "bounded",
    "model",
    "estimate",
    "inventory",
    "decide",
    "refusal.rs",
    "spelling.rs",
    "engine",
    "launch",
    "workloads",
    "plan.rs",
    "plan",
    "render",
    "sizing",
    "admission/wire.rs",
    "admission/review.rs",
    "admission/pods.rs",
];

/// What a pure module must not name, and why.
const BANNED: &[(&str, &str)] = &[
    ("kube::Client", "a kube client"),
    ("kube::Api", "a kube client"),
    ("kube::client", "a kube client"),
    ("kube::runtime", "a kube client"),
    ("kube::config", "a kube client"),
    ("kube::api", "a kube client"),
    ("tokio", "a runtime"),
    ("std::fs", "the file system"),
    ("std::net", "the network"),
    ("ureq", "the network"),
    ("std::env", "the environment"),
    ("std::process", "processes"),
    ("SystemTime", "a clock"),
    ("Instant::now", "a clock"),
    ("Timestamp::now", "a clock"),
    ("Zoned::now", "a clock"),
    ("println!", "standard output"),
    ("eprintln!", "standard error"),
    ("tracing::", "a log"),
];

pub(crate) fn sources(path: &Path, found: &mut Vec<PathBuf>) {
    if path.is_dir() {
        for entry in std::fs::read_dir(path).expect("a readable directory") {
            sources(&entry.expect("a readable entry").path(), found);
        }
    } else if path.extension().is_some_and(|extension| extension == "rs") {
        found.push(path.to_owned());
    }
}

/// Is a file tests alone: `tests.rs`, `kv_cache_tests.rs`, or anything below a `tests/`?
pub(crate) fn is_test(file: &Path) -> bool {
    let file = file.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap_or(file);
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    stem.ends_with("tests")
        || stem == "properties"
        || stem == "testing"
        || file.components().any(|part| part.as_os_str() == "tests")
}

/// The lines of a file that are code of the product: neither comments nor what is only there in tests.
pub(crate) fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    /// Where the item is that an attribute stands before.
    enum Test {
        No,
        Begins,
        Within,
    }
    let mut place = Test::No;
    text.lines().enumerate().filter(move |(_, line)| {
        let is_code = matches!(place, Test::No) && !line.starts_with("#[cfg(test)]");
        place = match place {
            _ if line.starts_with("#[cfg(test)]") => Test::Begins,
            Test::Begins if line.starts_with("#[") || line.starts_with("//") => Test::Begins,
            Test::Begins if line.ends_with('{') => Test::Within,
            Test::Within if *line != "}" => Test::Within,
            _ => Test::No,
        };
        is_code && !line.trim_start().starts_with("//")
    })
}

fn violations(text: &str) -> Vec<String> {
    code(text)
        .flat_map(|(number, line)| {
            BANNED
                .iter()
                .filter(move |(name, _)| line.contains(name))
                .map(move |(name, what)| format!("line {}: `{name}` is {what}", number + 1))
        })
        .collect()
}

#[test]
fn the_pure_modules_touch_nothing_outside() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    for module in PURE {
        sources(&root.join(module), &mut files);
    }
    assert!(files.len() > 8, "only {} files were found: has a module moved?", files.len());
    let found: Vec<String> = files
        .iter()
        .filter(|file| !is_test(file))
        .flat_map(|file| {
            let text = std::fs::read_to_string(file).expect("a readable file");
            violations(&text)
                .into_iter()
                .map(|line| format!("{}: {line}", file.display()))
                .collect::<Vec<_>>()
        })
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_check_itself_can_fail() {
    assert_eq!(violations("use kube::Client;\nfn f() { std::fs::read(\"x\"); }\n").len(), 2);
    assert!(violations("/// tokio\n#[cfg(test)]\nmod tests {\n    use tokio;\n}\n").is_empty());
    // What follows a module of tests is code again.
    assert_eq!(violations("#[cfg(test)]\nmod tests;\nuse tokio;\n").len(), 1);
}

#[test]
fn only_decide_makes_a_verdict() {
    // Elsewhere a verdict is read, compared or passed on; it is never assigned from a comparison of memory.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let outside: Vec<String> = files
        .iter()
        .filter(|file| !file.starts_with(root.join("decide")) && !is_test(file))
        .filter(|file| {
            let text = std::fs::read_to_string(file).expect("a readable file");
            // A function's result, `-> Decision {`, makes none.
            let makes = |line: &str| line.replace("-> Decision {", "").contains("Decision {");
            code(&text).any(|(_, line)| line.contains("ClassVerdict {") || makes(line))
        })
        .map(|file| file.display().to_string())
        .collect();
    assert!(outside.is_empty(), "verdicts are made outside decide: {outside:?}");
}

#[test]
fn the_packages_that_were_asked_for_are_used() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    let text: String =
        files.iter().map(|file| std::fs::read_to_string(file).expect("a readable file")).collect();
    for package in ["kube::", "k8s_openapi::", "tokio::", "serde_yaml::", "schemars::", "tracing::"] {
        assert!(text.contains(package), "{package} is not used");
    }
    for directory in ["src", "charts", "crds", "tests", "examples"] {
        assert!(root.join(directory).is_dir(), "there is no {directory}/");
    }
}
