//! What `kubectl apply` is answered, with the real API server asking: refusals, warnings, certificates, replicas that come
//! and go.

mod load;

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use self::load::{Balancer, Load};
use super::guard;
use super::scenario::{Scenario, eventually, model_deployment, scenario};
use crate::cluster::{CONTROLLER, Controller, PATIENCE, SYSTEM_NAMESPACE, text};
use crate::controlplane::harness::free_ports;
use crate::controlplane::harness::wait::until;

const SECRET: &str = "loadline-webhook-certificate";

/// The flags of a controller that serves webhooks at a port.
fn flags(port: u16) -> Vec<String> {
    vec![
        "--label-grace=0s".to_owned(),
        format!("--admission-address=127.0.0.1:{port}"),
        format!("--admission-secret={SYSTEM_NAMESPACE}/{SECRET}"),
        "--admission-configuration=loadline".to_owned(),
        "--admission-name=127.0.0.1".to_owned(),
    ]
}

fn borrowed(flags: &[String]) -> Vec<&str> {
    flags.iter().map(String::as_str).collect()
}

/// Needs more than any node has.
fn large() -> Value {
    json!({"model": {"parameters": "70B"}, "precision": "bf16", "context": {"length": 8192}})
}

fn small() -> Value {
    json!({"model": {"parameters": "8B"}, "precision": "int4", "context": {"length": 8192}})
}

fn with(mut spec: Value, field: &str, value: Value) -> Value {
    spec[field] = value;
    spec
}

/// A scenario with the webhooks installed and one controller that serves them.
fn webhooks(name: &str, values: &[&str], more: &[&str], play: impl FnOnce(&mut Scenario)) {
    scenario(name, |s| {
        let [port] = free_ports().unwrap();
        s.cluster.install_webhooks(&format!("https://127.0.0.1:{port}"), values).unwrap();
        let flags = flags(port);
        s.cluster.run_controller(&[&borrowed(&flags), more].concat()).unwrap();
        wait_until_asked(s);
        play(s);
    });
}

/// Waits until the API server asks, and trusts the answer: it learns of both by and by.
fn wait_until_asked(s: &Scenario) {
    eventually("the API server to ask", || {
        let wrong = model_deployment("probe", &with(small(), "parallelism", json!({"tensor": 3})));
        let ran = s.kubectl_with_input(["create", "--dry-run=server", "-f", "-"], &wrong.to_string())?;
        Ok(ran.stderr.contains("denied the request").then_some(()))
    });
}

/// What kubectl prints on standard error for an object.
fn said(s: &Scenario, verb: &[&str], name: &str, spec: &Value) -> (bool, String) {
    let arguments = verb.iter().copied().chain(["-f", "-"]);
    let ran = s.kubectl_with_input(arguments, &model_deployment(name, spec).to_string()).unwrap();
    (ran.success(), ran.stderr)
}

#[test]
fn kubectl_is_told_what_is_wrong_and_what_does_not_fit() {
    webhooks("asked", &[], &[], |s| {
        let apply = ["apply"];
        let dry = ["apply", "--dry-run=server"];
        assert_eq!(said(s, &apply, "fits", &small()), (true, String::new()));

        let (created, text) = said(s, &apply, "wrong", &with(small(), "parallelism", json!({"tensor": 3})));
        assert!(!created && text.contains("denied the request: spec.parallelism.tensor: "), "{text}");

        for (mode, label, expected) in [
            (None, None, Some("Warning: accepted, and its pods wait: needs ")),
            (None, Some("deny"), None),
            (None, Some("ignore"), Some("")),
            (Some("Deny"), Some("ignore"), None),
            (Some("Ignore"), Some("deny"), Some("")),
            (Some("Warn"), Some("deny"), Some("Warning: accepted, and its pods wait: needs ")),
        ] {
            let label = label.map_or("loadline.dev/admission-".to_owned(), |label| {
                format!("loadline.dev/admission={label}")
            });
            s.run(["label", "namespace", &s.namespace, "--overwrite", &label]);
            let spec = mode.map_or_else(large, |mode| with(large(), "admission", json!(mode)));
            // The label is watched: it is known a moment later.
            let mut last = (false, String::new());
            let found = until(&format!("{mode:?} {label}"), PATIENCE, || {
                last = said(s, &dry, "large", &spec);
                Ok(match expected {
                    None => (!last.0 && last.1.contains("denied the request: no node takes it now: needs "))
                        .then_some(()),
                    Some("") => (last.0 && last.1.is_empty()).then_some(()),
                    Some(warning) => (last.0 && last.1.starts_with(warning)).then_some(()),
                })
            });
            found.unwrap_or_else(|error| panic!("{error}: {last:?}"));
            // What is asked in earnest is answered as a dry run is, which writes nothing.
            assert!(s.get("modeldeployment", "large").unwrap().is_null());
            assert_eq!(said(s, &apply, "large", &spec), last);
            s.run(["delete", "mdep", "large", "--ignore-not-found"]);
        }
        let metrics = s.cluster.controller_answer("/metrics").unwrap();
        assert!(metrics.contains("loadline_admission_reviews_total{answer=\"denied\"}"), "{metrics}");
    });
}

#[test]
fn what_was_accepted_once_can_be_changed_and_deleted() {
    scenario("ratchet", |s| {
        // Before there were webhooks.
        let wrong = with(small(), "parallelism", json!({"tensor": 3}));
        s.apply("old", &wrong);
        let [port] = free_ports().unwrap();
        s.cluster.install_webhooks(&format!("https://127.0.0.1:{port}"), &[]).unwrap();
        let flags = flags(port);
        s.cluster.run_controller(&borrowed(&flags)).unwrap();
        wait_until_asked(s);
        let (changed, text) = said(s, &["apply"], "old", &with(wrong.clone(), "replicas", json!(2)));
        assert!(changed && text.starts_with("Warning: it was wrong before"), "{text}");
        let (changed, text) = said(s, &["apply"], "old", &with(small(), "parallelism", json!({"tensor": 5})));
        assert!(!changed && text.contains("denied the request"), "{text}");
        s.run(["label", "mdep", "old", "team=a"]);
        s.run(["scale", "mdep", "old", "--replicas=0"]);
        s.run(["delete", "mdep", "old", "--timeout=20s"]);
    });
}

/// On servers that cannot change pods by a policy.
#[test]
fn bare_pods_are_given_what_they_lack_by_the_webhook() {
    webhooks("pods", &["--set=admission.pods.give=webhook"], &["--admission-pods"], |s| {
        s.apply("llama", &with(small(), "precision", json!("fp16")));
        s.wait_ready("llama", "True", "Available");
        guard::wait_until_given(s);
        let names = guard::check_given(s, "webhook");
        s.run(["delete", "pod", "--wait=false"].map(str::to_owned).into_iter().chain(names));
        // With nobody to give, the policy refuses; pods that name nothing wait for nobody.
        s.cluster.kill_controller();
        let error = guard::create(s, &guard::pod("bare", json!({}))).expect_err("it lacks its terms");
        assert!(error.contains("the pod names ModelDeployment llama"), "{error}");
        let mut unnamed = guard::pod("unnamed", json!({}));
        unnamed["metadata"] = json!({"name": "unnamed"});
        guard::create(s, &unnamed).unwrap();
    });
}

#[test]
fn with_nobody_to_answer_nothing_is_held_up() {
    webhooks("down", &[], &[], |s| {
        s.cluster.kill_controller();
        let started = Instant::now();
        let wrong = with(small(), "parallelism", json!({"tensor": 3}));
        assert!(said(s, &["apply"], "let-through", &wrong).0);
        assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
        s.run(["delete", "mdep", "let-through", "--timeout=20s"]);
    });
}

#[test]
fn who_wants_it_is_held_up_and_nobody_else() {
    webhooks("fail", &["--set=admission.failurePolicy=Fail"], &[], |s| {
        s.apply("there", &small());
        s.cluster.kill_controller();
        let (created, text) = said(s, &["apply"], "new", &small());
        assert!(
            !created && text.contains("failed calling webhook \"modeldeployments.loadline.dev\""),
            "{text}"
        );
        // Everything else goes on: metadata and deletes of ModelDeployments too.
        s.run(["label", "mdep", "there", "team=a"]);
        s.run(["delete", "mdep", "there", "--timeout=20s"]);
        s.run(["create", "configmap", "any"]);
        s.run(["run", "any", "--image=registry.example/any"]);
    });
}

#[test]
fn a_bundle_that_was_blanked_and_a_secret_that_was_deleted_come_back() {
    webhooks("blanked", &[], &[], |s| {
        let bundle = || {
            let get = ["get", "validatingwebhookconfiguration", "loadline", "-o", "json"];
            let found = s.cluster.kubectl(get).unwrap().json().unwrap();
            text(&found, "/webhooks/0/clientConfig/caBundle").to_owned()
        };
        let before = bundle();
        let blank = r#"[{"op": "remove", "path": "/webhooks/0/clientConfig/caBundle"}]"#;
        let patch = ["patch", "validatingwebhookconfiguration", "loadline", "--type=json", "-p", blank];
        s.cluster.kubectl(patch).unwrap().output().unwrap();
        eventually("the bundle to come back", || Ok((bundle() == before).then_some(())));
        let secret = |verb: &[&str]| {
            let arguments = verb.iter().copied().chain(["secret", SECRET, "-n", SYSTEM_NAMESPACE]);
            s.cluster.kubectl(arguments).unwrap().output().unwrap()
        };
        secret(&["delete"]);
        eventually("the Secret to come back", || {
            let get = ["get", "secret", SECRET, "-n", SYSTEM_NAMESPACE];
            Ok(s.cluster.kubectl(get)?.success().then_some(()))
        });
        // Who was trusted is trusted for a while beside whom it is now.
        assert!(bundle().len() > before.len());
        wait_until_asked(s);
        // Helm leaves it alone.
        let kept = bundle();
        s.run(["get", "mdep"]);
        let upgrade = ["--reuse-values", "--set=controller.logFormat=text"];
        let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/loadline");
        let arguments = ["upgrade", "loadline", chart, "-n", SYSTEM_NAMESPACE];
        s.cluster.plane.helm(arguments.iter().chain(&upgrade)).unwrap().output().unwrap();
        assert_eq!(bundle(), kept);
    });
}

/// Two replicas behind an address, as a Service has them.
struct Replicas {
    all: Vec<Option<Controller>>,
    flags: Vec<Vec<String>>,
}

impl Replicas {
    fn start(s: &mut Scenario, balancer: &Balancer, more: &[&str]) -> Self {
        let lease = format!("--lease={SYSTEM_NAMESPACE}/loadline");
        let flags: Vec<Vec<String>> = balancer
            .backends()
            .into_iter()
            .map(|port| {
                let mut flags = flags(port);
                flags.extend([lease.clone()].into_iter().chain(more.iter().map(|&flag| flag.to_owned())));
                flags
            })
            .collect();
        s.cluster.stop_controller().unwrap();
        let mut replicas = Self { all: vec![None, None], flags };
        for at in 0..2 {
            replicas.run(s, at);
        }
        replicas
    }

    fn run(&mut self, s: &Scenario, at: usize) {
        let mut controller =
            s.cluster.spawn_controller(&format!("replica-{at}"), &borrowed(&self.flags[at])).unwrap();
        s.cluster.wait_for_controller(&mut controller).unwrap();
        self.all[at] = Some(controller);
    }

    fn is_leader(&self, at: usize) -> bool {
        let answer = self.all[at].as_ref().map(|controller| controller.answer("/metrics"));
        answer.is_some_and(|answer| answer.is_ok_and(|text| text.contains("\nloadline_leads 1\n")))
    }

    /// Which of them leads, once one does; how long that took.
    fn leader(&self) -> (usize, Duration) {
        let started = Instant::now();
        let found = eventually("one of the replicas to lead", || Ok((0..2).find(|at| self.is_leader(*at))));
        (found, started.elapsed())
    }
}

/// Admission that must not fail once: the policy is Fail, so that each failure shows.
fn replicas(name: &str, more: &[&str], play: impl FnOnce(&mut Scenario, &Balancer, &mut Replicas)) {
    scenario(name, |s| {
        let balancer = Balancer::start();
        let fail = ["--set=admission.failurePolicy=Fail"];
        s.cluster.install_webhooks(&format!("https://127.0.0.1:{}", balancer.port), &fail).unwrap();
        let mut replicas = Replicas::start(s, &balancer, more);
        wait_until_asked(s);
        play(s, &balancer, &mut replicas);
        drop(replicas);
        s.cluster.run_controller(&["--label-grace=0s"]).unwrap();
    });
}

#[test]
fn no_admission_fails_while_replicas_restart_and_the_leader_dies() {
    replicas("restarts", &[], |s, balancer, replicas| {
        let load = Load::start(s, 50);
        for at in 0..2 {
            // As a rolling update does it: the Service still sends to the old one for a while after it was told to stop.
            let (leader, _) = replicas.leader();
            let controller = replicas.all[at].take().unwrap();
            let lag = balancer.take_out_after(at, Duration::from_secs(3));
            let told = Instant::now();
            let ended = std::thread::spawn(move || controller.process.terminate(Duration::from_secs(20)));
            if leader == at {
                let (other, _) = replicas.leader();
                assert_ne!(other, at);
                eprintln!("hand-over after SIGTERM: {:?}", told.elapsed());
                let log = std::fs::read_to_string(s.cluster.plane.log_of(&format!("replica-{at}"))).unwrap();
                assert!(log.contains("gave the lease back"), "the other waited for it to run out: {log}");
            }
            assert!(ended.join().unwrap().unwrap().success());
            lag.join().unwrap();
            replicas.run(s, at);
            balancer.put_in(at);
        }
        let counts = load.stop();
        eprintln!("rolling restart: {counts:?}");
        assert!(counts.answered > 0 && counts.failed.is_empty(), "{counts:?}");

        // The leader dies without a word.
        let load = Load::start(s, 50);
        let (leader, _) = replicas.leader();
        let open = balancer.take_out(leader);
        replicas.all[leader].take().unwrap().process.kill();
        let (_, took) = replicas.leader();
        eprintln!("take-over after SIGKILL: {took:?}");
        let counts = load.stop();
        eprintln!("leader killed, {open} connections to it: {counts:?}");
        // What was with it when it died nobody can answer: one question a connection at most.
        let lost: usize = counts.failed.values().sum();
        assert!(counts.answered > 0 && lost <= open, "{counts:?}");
        let is_lost = |error: &String| error.contains("failed calling webhook");
        assert!(counts.failed.keys().all(is_lost), "{counts:?}");
    });
}

#[test]
fn no_admission_fails_while_the_certificate_is_made_anew() {
    // Valid from an hour ago for half an hour from now: two thirds of that are over in 20 s.
    replicas("rotation", &["--admission-certificate-lifetime=1830s"], |s, _, _| {
        let certificate = || {
            let get = ["get", "secret", SECRET, "-n", SYSTEM_NAMESPACE, "-o", "jsonpath={.data.tls\\.crt}"];
            // While there is none, there is nothing to see.
            s.cluster.kubectl(get).unwrap().stdout
        };
        // The one that is there lasts.
        s.cluster.kubectl(["delete", "secret", SECRET, "-n", SYSTEM_NAMESPACE]).unwrap().output().unwrap();
        eventually("another certificate", || Ok((!certificate().is_empty()).then_some(())));
        wait_until_asked(s);
        let load = Load::start(s, 50);
        let mut seen = vec![certificate()];
        until("two more certificates", Duration::from_secs(150), || {
            let now = certificate();
            if !now.is_empty() && !seen.contains(&now) {
                seen.push(now);
            }
            Ok((seen.len() > 2).then_some(()))
        })
        .unwrap();
        let counts = load.stop();
        eprintln!("{counts:?}");
        assert!(counts.answered > 0 && counts.failed.is_empty(), "{counts:?}");
    });
}

#[test]
fn a_leader_that_was_paused_past_its_lease_writes_nothing_more() {
    replicas("paused", &[], |s, balancer, replicas| {
        s.apply("before", &small());
        s.wait_ready("before", "True", "Available");
        let (leader, _) = replicas.leader();
        let pid = replicas.all[leader].as_ref().unwrap().process.id().to_string();
        let signal = |name: &str| {
            let status = std::process::Command::new("kill").args([name, &pid]).status().unwrap();
            assert!(status.success());
        };
        balancer.take_out(leader);
        signal("-STOP");
        let other = 1 - leader;
        eventually("the other to lead", || Ok(replicas.is_leader(other).then_some(())));
        // Something that both would write of, the one that was paused as soon as it goes on.
        s.run(["cordon", "h100", "a100", "l4", "t4"]);
        s.wait_node("before", "l4", "NodeCordoned");
        let mark = s.cluster.mark().unwrap();
        signal("-CONT");
        eventually("the paused one to know", || {
            let log = std::fs::read_to_string(s.cluster.plane.log_of(&format!("replica-{leader}")))?;
            Ok(log.contains("no longer the one that writes").then_some(()))
        });
        s.run(["uncordon", "h100", "a100", "l4", "t4"]);
        s.wait_node("before", "l4", "FitsNow");
        // Both are the same ServiceAccount; the Lease's holder alone asks from the other's address.
        let writes = s.cluster.requests_since(mark).unwrap();
        let agents: Vec<_> = writes
            .iter()
            .filter(|request| request.user() == CONTROLLER && request.writes())
            .map(|request| (request.verb().to_owned(), request.resource(), request.replica().to_owned()))
            .collect();
        let from: std::collections::BTreeSet<_> = agents.iter().map(|(_, _, agent)| agent.clone()).collect();
        assert_eq!(from.len(), 1, "two replicas wrote: {agents:?}");
    });
}
