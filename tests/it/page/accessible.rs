//! What axe-core finds on every view: nothing serious, nothing critical.

use std::path::PathBuf;

use serde_json::Value;

use super::browser::Browser;
use super::server::Ui;

/// axe-core, as `tests/page/install.sh` fetches it.
fn axe() -> String {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home).expect("a home");
    let path = cache.join("loadline/page/node_modules/axe-core/axe.min.js");
    std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; run tests/page/install.sh", path.display()))
}

/// What is found on the page as it is now.
#[track_caller]
fn check(browser: &mut Browser, axe: &str, view: &str) {
    if browser.value("typeof axe") == "undefined" {
        browser.value(&format!("{axe}; 0"));
    }
    let found = browser.value("axe.run(document).then((result) => ({ passes: result.passes.length, violations: result.violations.map((v) => ({ id: v.id, impact: v.impact, nodes: v.nodes.slice(0, 4).map((n) => n.html + ' ' + n.failureSummary) })) }))");
    assert!(
        found["passes"].as_u64().is_some_and(|passes| passes > 10),
        "{view}: axe-core has not looked: {found}"
    );
    let violations = found["violations"].as_array().expect("violations");
    let grave: Vec<&Value> = violations
        .iter()
        .filter(|one| matches!(one["impact"].as_str(), Some("serious" | "critical")))
        .collect();
    assert!(grave.is_empty(), "{view}: {grave:#?}");
}

#[test]
fn axe_finds_nothing_serious_on_any_view() {
    let axe = axe();
    let ui = Ui::start(
        "--offline --snapshot examples/cluster.snapshot -f examples/llama-8b-fp16.yaml -f examples/too-large.yaml",
    );
    let mut browser = Browser::start();
    for scheme in ["light", "dark"] {
        browser.scheme(scheme);
        browser.open(&format!("{}#model=gemma-2-27b-it&card=L4", ui.address));
        browser.wait_for("#measured", "vllm");
        check(&mut browser, &axe, &format!("{scheme}: the estimate"));
        browser.fill("#context", "0");
        browser.wait_for("#problem", "context");
        check(&mut browser, &axe, &format!("{scheme}: a problem"));
        browser.fill("#context", "4096");
        browser.fill("#model", "llama");
        browser.wait("document.querySelector('#models li')");
        check(&mut browser, &axe, &format!("{scheme}: the list of models"));
        browser.press("Escape");
        browser.click("[name=task][value=train] + span");
        browser.wait_for("#sentence", "Training");
        check(&mut browser, &axe, &format!("{scheme}: training"));
        browser.click("[data-copy=yaml]");
        browser.wait("document.querySelector('#dialog').open");
        check(&mut browser, &axe, &format!("{scheme}: the dialog"));
        browser.press("Escape");
        browser.click("#to-cluster");
        browser.wait_for("#verdicts", "l4-1");
        check(&mut browser, &axe, &format!("{scheme}: the cluster"));
    }
    browser.size(360, 800);
    browser.open(&format!("{}?lang=ko", ui.address));
    browser.wait_for("#sentence", "필요합니다");
    check(&mut browser, &axe, "a phone, in Korean");
}
