//! Which file of `src/` imports which, and that none do so in a ring.
//!
//! What counts as an import is a path that begins with `crate::` or `super::`, in a `use` or in the code, outside of tests
//! and comments. It is followed through the re-exports of the files on its way to the file that has what it names: `mod.rs`
//! stands for its children no longer than it takes to find the right one. That a file declares its own children, and calls
//! or re-exports them by their bare names, is the tree itself and no import.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::architecture::{code, is_test, sources};

/// A module by its path below the crate: `["plan", "check"]`.
type Module = Vec<String>;

/// The files of a tree, each with what it imports.
#[derive(Default)]
struct Tree {
    /// What a name in a module leads to: every `use`, whatever it begins with.
    names: BTreeMap<Module, BTreeMap<String, Module>>,
    /// Paths that count.
    paths: BTreeMap<Module, Vec<Module>>,
}

impl Tree {
    fn read(root: &Path) -> Self {
        let mut files = Vec::new();
        sources(root, &mut files);
        let mut tree = Self::default();
        for file in files.iter().filter(|file| !is_test(file)) {
            let below = file.strip_prefix(root).expect("below the root").with_extension("");
            let mut module: Module =
                below.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
            match module.last().map(String::as_str) {
                Some("mod") => drop(module.pop()),
                Some("lib" | "main") => module.clear(),
                _ => {}
            }
            tree.add(module, &std::fs::read_to_string(file).expect("a readable file"));
        }
        tree
    }

    fn add(&mut self, module: Module, text: &str) {
        let text: String = code(text)
            .map(|(_, line)| line.split(" //").next().unwrap_or_default())
            .collect::<Vec<_>>()
            .join("\n");
        let (mut names, mut paths) = (BTreeMap::new(), Vec::new());
        let (uses, rest) = parted(&text);
        for used in uses.iter().flat_map(|used| leaves(used)) {
            let path = absolute(&module, &used.path);
            if matches!(used.path.first().map(String::as_str), Some("crate" | "super")) {
                paths.push(path.clone());
            }
            names.insert(used.name, path);
        }
        paths.extend(named_in(&rest).iter().map(|path| absolute(&module, path)));
        self.names.insert(module.clone(), names);
        self.paths.insert(module, paths);
    }

    /// The module that has what a path names.
    fn home(&self, path: &[String], steps: usize) -> Option<Module> {
        let (module, rest) = (0..=path.len())
            .rev()
            .map(|at| path.split_at(at))
            .find(|(module, _)| self.paths.contains_key(*module))?;
        // `pub use child::Thing`, and what a child sees of its parent's imports.
        let further =
            rest.first().and_then(|name| self.names.get(module)?.get(name)).filter(|to| *to != path);
        match further {
            Some(to) if steps < 10 => {
                let to: Module = to.iter().chain(rest.iter().skip(1)).cloned().collect();
                self.home(&to, steps + 1).filter(|home| !home.is_empty()).or_else(|| Some(module.to_vec()))
            }
            _ => Some(module.to_vec()),
        }
    }

    /// Which module imports which.
    fn imports(&self) -> BTreeMap<Module, BTreeSet<Module>> {
        let found = |(module, paths): (&Module, &Vec<Module>)| {
            let homes = paths.iter().filter_map(|path| self.home(path, 0));
            (module.clone(), homes.filter(|home| !home.is_empty() && home != module).collect())
        };
        self.paths.iter().map(found).collect()
    }
}

/// The `use` declarations of a text, without their keyword, and the rest of it.
fn parted(text: &str) -> (Vec<String>, String) {
    let (mut uses, mut rest) = (Vec::new(), String::new());
    let mut open: Option<String> = None;
    for line in text.lines() {
        let start = line.trim_start();
        let begins = ["use ", "pub use ", "pub(crate) use ", "pub(super) use "];
        match (&mut open, begins.iter().find_map(|begin| start.strip_prefix(begin))) {
            (None, Some(first)) => open = Some(first.to_owned()),
            (Some(begun), _) => begun.push_str(start),
            (None, None) => {
                rest.push_str(line);
                rest.push('\n');
            }
        }
        if let Some(used) = open.take_if(|begun| begun.ends_with(';')) {
            uses.push(used.trim_end_matches(';').to_owned());
        }
    }
    (uses, rest)
}

/// One thing that a `use` brings in.
struct Used {
    name: String,
    path: Module,
}

/// `a::{b, c::{self, d as e}}` as `a::b`, `a::c` and `a::c::d`.
fn leaves(used: &str) -> Vec<Used> {
    let used = used.trim();
    if let Some((before, group)) = used.split_once('{') {
        let group = group.strip_suffix('}').unwrap_or(group);
        let before = before.trim().trim_end_matches("::");
        let mut depth = 0;
        let parts = group.split(|c| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            c == ',' && depth == 0
        });
        let parts = parts.filter(|part| !part.trim().is_empty());
        return parts.flat_map(|part| leaves(&format!("{before}::{}", part.trim()))).collect();
    }
    let (path, alias) = used.split_once(" as ").map_or((used, None), |(path, alias)| (path, Some(alias)));
    let mut path: Module =
        path.split("::").map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect();
    if path.last().is_some_and(|last| last == "self") {
        path.pop();
    }
    let name = alias.map(str::to_owned).or_else(|| path.last().cloned()).unwrap_or_default();
    vec![Used { name, path }]
}

/// The paths in code that begin with `crate::` or `super::`.
fn named_in(text: &str) -> Vec<Module> {
    let mut found = Vec::new();
    for begin in ["crate::", "super::"] {
        for (at, _) in text.match_indices(begin) {
            let before = text[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            let path: String =
                text[at..].chars().take_while(|c| c.is_alphanumeric() || matches!(c, '_' | ':')).collect();
            found.push(path.split("::").map(str::to_owned).filter(|part| !part.is_empty()).collect());
        }
    }
    found
}

/// A path below the crate.
fn absolute(module: &[String], path: &[String]) -> Module {
    let mut base = module.to_vec();
    let mut rest = path.iter();
    match path.first().map(String::as_str) {
        Some("crate") => {
            base.clear();
            rest.next();
        }
        Some("self") => drop(rest.next()),
        _ => {}
    }
    let mut rest = rest.peekable();
    while rest.next_if(|part| *part == "super").is_some() {
        base.pop();
    }
    base.extend(rest.cloned());
    base
}

/// Every set of two or more that can be reached from each other, each as its members in order.
fn rings<T: Ord + Clone>(imports: &BTreeMap<T, BTreeSet<T>>) -> BTreeSet<Vec<T>> {
    let reached = |from: &T| {
        let mut found: BTreeSet<&T> = BTreeSet::new();
        let mut open: Vec<&T> = imports.get(from).into_iter().flatten().collect();
        while let Some(next) = open.pop() {
            if found.insert(next) {
                open.extend(imports.get(next).into_iter().flatten());
            }
        }
        found
    };
    let all: BTreeMap<&T, BTreeSet<&T>> = imports.keys().map(|from| (from, reached(from))).collect();
    let mutual = |a: &T, b: &T| all[a].contains(b) && all.get(b).is_some_and(|reached| reached.contains(a));
    all.keys()
        .map(|from| all.keys().filter(|to| mutual(from, to)).map(|to| (*to).clone()).collect::<Vec<T>>())
        .filter(|ring| ring.len() > 1)
        .collect()
}

#[test]
fn no_two_files_import_each_other_in_a_ring() {
    let tree = Tree::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let imports = tree.imports();
    assert!(imports.values().map(BTreeSet::len).sum::<usize>() > 500, "the imports were not found");
    let named = |ring: Vec<Module>| ring.iter().map(|module| module.join("/")).collect::<Vec<_>>().join(", ");
    let found: Vec<String> = rings(&imports).into_iter().map(named).collect();
    assert!(found.is_empty(), "rings of files: {found:#?}");
}

#[test]
fn no_two_rooms_import_each_other_in_a_ring() {
    let tree = Tree::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let mut rooms: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (from, to) in tree.imports() {
        let Some(room) = from.first() else { continue };
        let others = to.iter().filter_map(|to| to.first()).filter(|other| *other != room);
        rooms.entry(room.clone()).or_default().extend(others.cloned());
    }
    assert!(rooms.len() > 10 && rooms["plan"].contains("decide"), "the rooms were not found: {rooms:?}");
    assert_eq!(rings(&rooms), BTreeSet::new());
}

#[test]
fn a_ring_is_found_through_re_exports_and_not_in_the_tree_itself() {
    let tree_of = |files: &[(&str, &str)]| {
        let mut tree = Tree::default();
        for (module, text) in files {
            tree.add(module.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect(), text);
        }
        let named =
            |ring: Vec<Module>| ring.iter().map(|module| module.join("/")).collect::<Vec<_>>().join(", ");
        rings(&tree.imports()).into_iter().map(named).collect::<Vec<_>>()
    };
    // A parent that calls its child, which uses what the parent has.
    assert_eq!(
        tree_of(&[
            ("a", "mod b;\npub use b::B;\nfn f() { b::g() }"),
            ("a/b", "use super::f;\npub struct B;")
        ]),
        [""; 0]
    );
    // Two children that reach each other by way of their parent.
    assert_eq!(
        tree_of(&[
            ("a", "pub use b::B;\npub use c::C;"),
            ("a/b", "use super::C;"),
            ("a/c", "fn f() -> crate::a::B { g() }"),
        ]),
        ["a/b, a/c"]
    );
    // Three in a ring; comments and tests are none of it.
    assert_eq!(
        tree_of(&[
            ("a", "use crate::{\n    b::{self, B},\n};"),
            ("b", "use crate::c as other;"),
            ("c", "fn f() { crate::a::g() }"),
            (
                "d",
                "// use crate::e;\n/// [`crate::e`]\nfn f() {}\n#[cfg(test)]\nmod tests {\n use crate::e;\n}"
            ),
            ("e", "use crate::d;"),
        ]),
        ["a, b, c"]
    );
}
