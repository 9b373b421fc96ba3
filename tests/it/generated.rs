//! Files that are made from the code are as the code makes them. `UPDATE=1 cargo test` writes them anew.

use std::path::Path;

/// Compares a file of the repository with what it should be, or writes it when `UPDATE` is set.
#[track_caller]
pub(crate) fn check(path: &str, wanted: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UPDATE").is_some_and(|value| value == "1") {
        std::fs::create_dir_all(file.parent().expect("a directory")).expect("the directory can be made");
        std::fs::write(&file, wanted).expect("the file can be written");
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        found == wanted,
        "{path} is not what the code makes: run `UPDATE=1 cargo test generated` and commit the result"
    );
}

#[test]
fn crds() {
    for (name, definition) in loadline::api::crds::all() {
        let yaml = loadline::api::crds::yaml(&definition).expect("the definition is YAML");
        check(&format!("crds/{name}.yaml"), &yaml);
        // The chart cannot read files outside its own directory.
        check(&format!("charts/loadline/files/crds/{name}.yaml"), &yaml);
    }
}
