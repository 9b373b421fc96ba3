//! The chart, by the real Helm.

use std::fs;
use std::path::PathBuf;

use kube::CustomResourceExt;
use loadline::api::ModelDeployment;

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// `UPDATE=1 cargo test` writes it.
#[test]
fn the_charts_crd_is_the_one_of_the_types() {
    let path = repository().join("charts/loadline/files/crds/modeldeployments.loadline.dev.yaml");
    let wanted = serde_yaml::to_string(&ModelDeployment::crd()).unwrap();
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, &wanted).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == wanted, "{} differs from the types; UPDATE=1 brings it up to date", path.display());
}
