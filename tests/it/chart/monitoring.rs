//! The alerts and the dashboard ask for metrics that there are, and each alert says what to do.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{CHART, objects};
use crate::cluster::text;

fn read(path: &str) -> String {
    std::fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).expect("a file")
}

/// The metrics that docs/metrics.md describes, which a test keeps as the code has them.
fn metrics() -> BTreeSet<String> {
    let names = read("docs/metrics.md");
    names.lines().filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned())).collect()
}

/// The names of ours in an expression, as Prometheus stores them.
fn named(expression: &str) -> Vec<&str> {
    expression
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("loadline_") || word.starts_with("process_"))
        .collect()
}

#[track_caller]
fn check(known: &BTreeSet<String>, expression: &str) {
    let names = named(expression);
    assert!(!names.is_empty(), "{expression} asks for nothing of ours");
    for name in names {
        let family = ["_bucket", "_count", "_sum"].iter().find_map(|suffix| name.strip_suffix(suffix));
        let is_known = known.contains(name) || family.is_some_and(|family| known.contains(family));
        assert!(is_known, "{name} is no metric of ours: {expression}");
    }
}

#[test]
fn the_dashboard_asks_for_metrics_that_there_are() {
    let known = metrics();
    assert!(known.len() > 30, "{known:?}");
    let dashboard: Value =
        serde_json::from_str(&read("charts/loadline/files/dashboards/loadline.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut asked = 0;
    let mut ids = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().expect("a number")), "{}", panel["title"]);
        let place = &panel["gridPos"];
        let edge = |at: &str| place[at].as_u64().expect("a number");
        assert!(edge("x") + edge("w") <= 24, "{}", panel["title"]);
        for target in panel["targets"].as_array().into_iter().flatten() {
            check(&known, text(target, "/expr"));
            asked += 1;
        }
    }
    assert!(asked > 25, "{asked}");
    // Nothing that is counted is left for nobody to see.
    let all: BTreeSet<&str> = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().into_iter().flatten())
        .flat_map(|target| named(text(target, "/expr")))
        .collect();
    let shown = |family: &str| all.iter().any(|name| name.starts_with(family));
    for name in known
        .iter()
        .filter(|name| name.starts_with("loadline_model_deployment") || name.starts_with("loadline_gpu"))
    {
        assert!(shown(name), "{name} is on no panel");
    }
}

#[test]
fn every_alert_asks_for_metrics_that_there_are_and_has_its_page() {
    let known = metrics();
    let alerts: Value = serde_yaml::from_str(&read("charts/loadline/files/alerts.yaml")).expect("YAML");
    let page = read("docs/alerts.md");
    let severities = ["critical", "warning", "info"];
    let mut names = Vec::new();
    for alert in alerts.as_array().expect("a list") {
        let name = text(alert, "/alert");
        check(&known, text(alert, "/expr"));
        assert!(severities.contains(&text(alert, "/labels/severity")), "{name}");
        for part in ["summary", "description"] {
            assert!(text(alert, &format!("/annotations/{part}")).len() > 20, "{name}: {part}");
        }
        names.push(name.to_owned());
    }
    let pages: Vec<String> =
        page.lines().filter_map(|line| line.strip_prefix("## ")).map(str::to_owned).collect();
    assert_eq!(pages, names);
}

#[test]
fn what_watches_is_rendered_where_it_is_asked_for() {
    let names =
        |values: &[&str]| -> Vec<String> { objects(values).into_iter().map(|(name, _)| name).collect() };
    let watching = ["ServiceMonitor/loadline", "PrometheusRule/loadline", "ConfigMap/loadline-dashboard"];
    assert!(names(&[]).iter().all(|name| !watching.contains(&name.as_str())));
    let values = "serviceMonitor.enabled=true,serviceMonitor.labels.release=p,prometheusRule.enabled=true,prometheusRule.runbooks=https://docs.example/alerts.md,dashboard.enabled=true";
    let objects = objects(&["--set", values]);
    let of =
        |name: &str| &objects.iter().find(|(found, _)| found == name).unwrap_or_else(|| panic!("{name}")).1;
    let monitor = of("ServiceMonitor/loadline");
    assert_eq!(monitor["metadata"]["labels"]["release"], "p");
    // It finds the metrics' Service, and not that of the webhooks.
    let finds = |service: &str| {
        let selector = monitor["spec"]["selector"]["matchLabels"].as_object().expect("labels").clone();
        selector.iter().all(|(key, value)| of(service)["metadata"]["labels"][key] == *value)
    };
    assert!(finds("Service/loadline-metrics") && !finds("Service/loadline-webhooks"));
    let rules =
        of("PrometheusRule/loadline")["spec"]["groups"][0]["rules"].as_array().expect("rules").clone();
    assert_eq!(text(&rules[0], "/annotations/runbook_url"), "https://docs.example/alerts.md#loadlinedown");
    // Prometheus' own braces are not Helm's.
    assert!(rules.iter().any(|rule| text(rule, "/annotations/summary").contains("{{ $value }}")));
    let dashboard = of("ConfigMap/loadline-dashboard");
    assert_eq!(dashboard["metadata"]["labels"]["grafana_dashboard"], "1");
    let file = std::fs::read_to_string(format!("{CHART}/files/dashboards/loadline.json")).expect("the file");
    assert_eq!(text(dashboard, "/data/loadline.json"), file.trim_end());
}
