//! What a tenant gets by way of Loadline, with credentials of his own: no more than his rights allow.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::scenario::{Scenario, eventually, message, model_deployment, scenario, scenario_with};
use crate::cluster::text;
use crate::controlplane::harness::command::Ran;

/// Someone with a service account's token, and what he may do in his namespace.
struct Tenant {
    kubeconfig: PathBuf,
}

/// A rule of a Role.
fn may(group: &str, resource: &str, names: &[&str], verbs: &[&str]) -> Value {
    let mut rule = json!({"apiGroups": [group], "resources": [resource], "verbs": verbs});
    if !names.is_empty() {
        rule["resourceNames"] = json!(names);
    }
    rule
}

/// All that concerns ModelDeployments, and nothing else.
fn author() -> Value {
    json!({"apiGroups": ["loadline.dev"], "resources": ["modeldeployments", "modeldeployments/scale"], "verbs": ["*"]})
}

impl Tenant {
    /// Makes a service account with these rights.
    fn new(s: &Scenario, name: &str, rules: &[Value]) -> Self {
        let subject = json!([{"kind": "ServiceAccount", "name": name, "namespace": s.namespace}]);
        let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name});
        let made = json!({"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}},
            {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": name}, "rules": rules},
            {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": name}, "roleRef": role, "subjects": subject},
        ]});
        s.kubectl_with_input(["create", "-f", "-"], &made.to_string()).unwrap().output().unwrap();
        let token = s.run(["create", "token", name, "--duration=1h"]);
        let kubeconfig = s.cluster.plane.kubeconfig_for_token(name, token.trim()).unwrap();
        let tenant = Self { kubeconfig };
        eventually("the tenant's rights to be known", || {
            let asked = tenant.run(s, &["auth", "can-i", "create", "modeldeployments.loadline.dev"], "")?;
            Ok((asked.stdout.trim() == "yes").then_some(()))
        });
        tenant
    }

    fn run(&self, s: &Scenario, arguments: &[&str], input: &str) -> anyhow::Result<Ran> {
        let kubeconfig = format!("--kubeconfig={}", self.kubeconfig.display());
        s.kubectl_with_input([kubeconfig.as_str()].iter().chain(arguments).copied(), input)
    }

    /// Creates or replaces a ModelDeployment, for show.
    fn tries(&self, s: &Scenario, verb: &str, object: &Value) -> Ran {
        self.run(s, &[verb, "--dry-run=server", "-f", "-"], &object.to_string()).unwrap()
    }
}

fn object(name: &str, mut spec: Value) -> Value {
    if spec.get("model").is_none() {
        spec["model"] = json!({"catalog": "llama-3.1-8b"});
    }
    if spec.get("engine").is_none() {
        spec["engine"] = json!({"name": "vllm"});
    }
    model_deployment(name, &spec)
}

/// Each field by which a spec does what its author may not, the right that would allow it, and a word of the message.
fn cases() -> Vec<(&'static str, Value, Value, &'static str)> {
    let token = json!({"name": "hub", "key": "token"});
    let pods = || may("", "pods", &[], &["create"]);
    vec![
        (
            "template",
            json!({"template": {"spec": {"containers": [{"image": "evil"}]}}}),
            pods(),
            "spec.template",
        ),
        (
            "template by Deployments",
            json!({"template": {}}),
            may("apps", "deployments", &[], &["create"]),
            "spec.template",
        ),
        ("image", json!({"engine": {"name": "vllm", "image": "evil"}}), pods(), "spec.engine.image"),
        (
            "arguments",
            json!({"engine": {"name": "vllm", "args": ["--trust-remote-code"]}}),
            pods(),
            "spec.engine.args",
        ),
        (
            "token",
            json!({"model": {"huggingFace": {"repository": "a/b", "tokenSecretRef": token}}}),
            may("", "secrets", &["hub"], &["get"]),
            "Secret hub",
        ),
        (
            "token of a GGUF file",
            json!({"model": {"gguf": {"huggingFace": {"repository": "a/b", "file": "c.gguf", "tokenSecretRef": token}}}}),
            may("", "secrets", &["hub"], &["get"]),
            "Secret hub",
        ),
        (
            "ConfigMap",
            json!({"model": {"configMapRef": {"name": "theirs", "key": "k"}}}),
            may("", "configmaps", &["theirs"], &["get"]),
            "ConfigMap theirs",
        ),
    ]
}

#[test]
fn what_the_author_may_not_do_himself_he_may_not_ask_for() {
    scenario("authors", |s| {
        let none = Tenant::new(s, "none", &[author()]);
        let mut settled = false;
        for (what, spec, right, word) in cases() {
            let object = object("asked", spec);
            // The API server takes a moment to enforce a policy that was just installed.
            if !settled {
                eventually("the policy to be in force", || {
                    Ok((!none.tries(s, "create", &object).success()).then_some(()))
                });
                settled = true;
            }
            let refusal = none.tries(s, "create", &object).refusal().unwrap();
            assert!(refusal.contains(word) && refusal.contains("ask for the right"), "{what}: {refusal}");
            let name = format!("may-{}", what.to_lowercase().replace(' ', "-"));
            let one = Tenant::new(s, &name, &[author(), right]);
            one.tries(s, "create", &object).output().unwrap_or_else(|error| panic!("{what}: {error}"));
        }
        // What needs no right but that to write ModelDeployments.
        none.tries(s, "create", &object("plain", json!({"context": {"length": 4096}}))).output().unwrap();
        let default = json!({"template": {"spec": {"serviceAccountName": "default"}}});
        let runner = Tenant::new(s, "runner", &[author(), may("", "pods", &[], &["create"])]);
        runner.tries(s, "create", &object("default", default)).output().unwrap();
        // A template whose parts are of the wrong type is for the controller to refuse, not for the policy to fail on.
        for template in [json!({"spec": "x"}), json!({"spec": {"serviceAccountName": 5}})] {
            runner.tries(s, "create", &object("odd", json!({"template": template}))).output().unwrap();
        }
        for fields in [
            json!({"serviceAccountName": "admin"}),
            json!({"serviceAccountName": "", "serviceAccount": "admin"}),
            json!({"serviceAccountName": "default", "serviceAccount": "admin"}),
        ] {
            let object = object("account", json!({"template": {"spec": fields}}));
            let refusal = runner.tries(s, "create", &object).refusal().unwrap();
            assert!(refusal.contains("ServiceAccount admin") && refusal.contains("impersonate"), "{refusal}");
        }
        for (name, right) in [
            ("impersonator", may("", "serviceaccounts", &["admin"], &["impersonate"])),
            ("minter", may("", "serviceaccounts/token", &["admin"], &["create"])),
        ] {
            let one = Tenant::new(s, name, &[author(), may("", "pods", &[], &["create"]), right]);
            let object = object("account", json!({"template": {"spec": {"serviceAccountName": "admin"}}}));
            one.tries(s, "create", &object).output().unwrap();
        }
    });
}

#[test]
fn only_what_is_new_or_changed_is_judged() {
    scenario("authors-edit", |s| {
        let none = Tenant::new(s, "none", &[author()]);
        for (at, (what, spec, _, word)) in cases().into_iter().enumerate() {
            let name = format!("m{at}");
            // An administrator's.
            s.try_apply(&object(&name, spec.clone()).to_string()).unwrap().output().unwrap();
            for arguments in [
                &["scale", "mdep", name.as_str(), "--replicas=2"][..],
                &["label", "mdep", &name, "team=a"],
                &["annotate", "mdep", &name, "note=b"],
                &[
                    "patch",
                    "mdep",
                    &name,
                    "--type=merge",
                    "-p",
                    r#"{"spec": {"context": {"length": 2048}, "replicas": 1}}"#,
                ],
            ] {
                none.run(s, arguments, "")
                    .unwrap()
                    .output()
                    .unwrap_or_else(|error| panic!("{what}: {error}"));
            }
            let patch = |patch: &Value| {
                none.run(s, &["patch", "mdep", &name, "--type=merge", "-p", &patch.to_string()], "").unwrap()
            };
            // Another model in the same container, or with the same token.
            let model = if spec.pointer("/model/huggingFace").is_some() {
                json!({"huggingFace": {"repository": "evil/b"}})
            } else if spec.pointer("/model/gguf").is_some() {
                json!({"gguf": {"huggingFace": {"repository": "evil/b"}}})
            } else if spec.pointer("/model/configMapRef").is_some() {
                json!({"configMapRef": {"key": "other"}})
            } else {
                json!({"catalog": "gpt-oss-20b"})
            };
            let refusal = patch(&json!({"spec": {"model": model}})).refusal().unwrap();
            assert!(refusal.contains(word), "{what}: {refusal}");
            // Taking it away asks for nothing.
            let without = json!({"spec": {"template": null, "engine": {"image": null, "args": null},
                "model": {"catalog": "llama-3.1-8b", "huggingFace": null, "gguf": null, "configMapRef": null}}});
            patch(&without).output().unwrap_or_else(|error| panic!("{what}: {error}"));
        }
        // Secrets were not opened to the controller.
        s.forget_refusals();
    });
}

/// An ordinary administrator of a namespace, by the cluster's own role.
#[test]
fn the_products_own_examples_run_for_a_namespaces_administrator() {
    scenario("authors-admin", |s| {
        let tenant = Tenant::new(s, "boss", &[author()]);
        let subject = format!("--serviceaccount={}:boss", s.namespace);
        s.run(["create", "rolebinding", "boss-admin", "--clusterrole=admin", &subject]);
        eventually("the role to be known", || {
            let asked = tenant.run(s, &["auth", "can-i", "create", "pods"], "")?;
            Ok((asked.stdout.trim() == "yes").then_some(()))
        });
        let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
        let applied = tenant.run(s, &["apply", "-f", examples], "").unwrap().output().unwrap();
        assert!(applied.lines().count() >= 6, "{applied}");
        s.wait_ready("llama-8b-fp16", "True", "Available");
    });
}

/// What the policy leaves to the controller: its own settings, by the words in which `plan` says the same.
#[test]
fn the_controllers_settings_hold_whoever_the_author_is() {
    let options =
        ["--label-grace=0s", "--refuse=service-account,args", "--allowed-registries=registry.example"];
    scenario_with("settings", &options, |s| {
        let template = |fields: Value| json!({"template": {"spec": fields}});
        let cases = [
            ("scheduler", template(json!({"schedulerName": "mine"})), "template.spec.schedulerName"),
            ("network", template(json!({"hostNetwork": true})), "template.spec.hostNetwork"),
            ("pid", template(json!({"hostPID": true})), "template.spec.hostPID"),
            ("ipc", template(json!({"hostIPC": true})), "template.spec.hostIPC"),
            (
                "priority",
                template(json!({"priorityClassName": "system-node-critical"})),
                "template.spec.priorityClassName",
            ),
            (
                "account",
                template(json!({"serviceAccountName": "admin-sa"})),
                "template.spec.serviceAccountName",
            ),
            ("image", json!({"engine": {"name": "vllm", "image": "evil"}}), "engine.image"),
            ("args", json!({"engine": {"name": "vllm", "args": ["--seed", "1"]}}), "engine.args"),
            ("url", json!({"model": {"gguf": {"url": "https://2852039166/x.gguf"}}}), "model.gguf.url"),
        ];
        for (name, spec, field) in cases {
            let object = object(name, spec);
            s.try_apply(&object.to_string()).unwrap().output().unwrap();
            let status = s.wait_ready(name, "False", "NotAllowed");
            let said = message(&status).to_owned();
            assert!(said.contains(field) && said.contains("ask whoever runs Loadline"), "{said}");
            assert!(s.get("deployment", name).unwrap().is_null(), "{name} runs");
        }
        let node = template(json!({"nodeName": "l4-0"}));
        s.try_apply(&object("node", node).to_string()).unwrap().output().unwrap();
        let status = s.wait_ready("node", "False", "InvalidSpec");
        assert!(message(&status).contains("template.spec.nodeName"), "{}", message(&status));
        // Out of it again.
        s.run([
            "patch",
            "mdep",
            "scheduler",
            "--type=json",
            "-p",
            r#"[{"op": "remove", "path": "/spec/template"}]"#,
        ]);
        s.wait("scheduler", "a workload", |status| !text(status, "/status/selector").is_empty());
        s.wait_quiet(Duration::from_secs(2));
    });
}
