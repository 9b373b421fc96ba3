//! What whoever runs a cluster lets specs ask for. The controller and `loadline plan` are told it by the same flags, and judge by
//! it here, so that they say the same. What the author of an object may do is the API server's to judge, by the chart's policy.

use std::fmt;
use std::str::FromStr;

use k8s_openapi::api::core::v1::PodSpec;
use serde::{Deserialize, Serialize};

use crate::api::ModelDeploymentSpec;
use crate::engine;
use crate::launch::Template;
use crate::precision::{Engine, UnknownName, named};
use crate::refusal::Refusal;
use crate::units::shorten;

named! {
    /// What of a spec can be turned off.
    Part ("part of a spec") {
        /// `template`.
        Template = "template",
        /// A service account of a template, but for `default`.
        ServiceAccount = "service-account",
        /// `engine.image` and the template's images, but for those that are the engine's own.
        Image = "image",
        /// `engine.args`.
        Arguments = "args",
        /// `tokenSecretRef`.
        TokenSecret = "token-secret",
        /// `configMapRef`.
        ConfigMap = "config-map",
        /// `gguf.url`.
        GgufUrl = "gguf-url",
    }
}

/// The hosts of the public Hub: what is at or below these names.
const HUB: [&str; 2] = ["huggingface.co", "hf.co"];
/// The scheduler that heeds the affinity that Loadline writes.
const SCHEDULER: &str = "default-scheduler";
/// Priority classes of the cluster's own components.
const SYSTEM: &str = "system-";
/// Whom to ask.
const ASK: &str = "ask whoever runs Loadline in this cluster to allow it";

/// What specs may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permits {
    /// What is turned off.
    pub refused: Vec<Part>,
    /// Registries, or paths in them, that images may come from besides the engine's own; any if there are none.
    pub registries: Vec<String>,
    /// Hosts that `gguf.url` may name; names below them too.
    pub hosts: Vec<String>,
    /// Schedulers that a template may name besides the default one.
    pub schedulers: Vec<String>,
    /// Priority classes that a template may name; any but the system's if there are none.
    pub priority_classes: Vec<String>,
    /// Whether a template may ask for the node's network, processes or shared memory.
    pub host_namespaces: bool,
}

impl Default for Permits {
    fn default() -> Self {
        Self {
            refused: Vec::new(),
            registries: Vec::new(),
            hosts: HUB.map(str::to_owned).to_vec(),
            schedulers: Vec::new(),
            priority_classes: Vec::new(),
            host_namespaces: false,
        }
    }
}

/// Checks a spec against what the cluster's settings let it ask for. What is wrong with it by itself is
/// [`check`](super::check)'s to say, and said first.
///
/// # Errors
/// [`Refusal::NotAllowed`] with the field and whom to ask; what [`Template::read`] says.
pub fn permitted(spec: &ModelDeploymentSpec, permits: &Permits) -> Result<(), Refusal> {
    let template = Template::read(spec)?;
    for (part, field) in asked(spec) {
        if permits.refused.contains(&part) {
            return Err(Refusal::not_allowed(
                field,
                "the settings of this cluster turn it off",
                format!("leave it out, or {ASK}"),
            ));
        }
    }
    if let Some(url) = spec.model.gguf.as_ref().and_then(|gguf| gguf.url.as_deref()) {
        permits.address(url)?;
    }
    let engine = spec.engine.as_ref().map_or(Engine::Vllm, |engine| engine.name);
    if let Some(image) = spec.engine.as_ref().and_then(|engine| engine.image.as_deref()) {
        permits.image(engine, "engine.image", image)?;
    }
    let Some(pod) = template.as_ref().map(Template::pod) else { return Ok(()) };
    for (field, image) in images(pod) {
        permits.image(engine, &field, image)?;
    }
    permits.pod(pod)
}

/// What a spec asks for that can be turned off as a whole, with its field.
fn asked(spec: &ModelDeploymentSpec) -> impl Iterator<Item = (Part, &'static str)> {
    let model = &spec.model;
    let gguf = model.gguf.as_ref();
    let has_args = |args: &Vec<String>| !args.is_empty();
    let has_token = |hub: Option<&crate::api::v1alpha1::HuggingFaceRef>| {
        hub.is_some_and(|hub| hub.token_secret_ref.is_some())
    };
    [
        (Part::Template, "template", spec.template.is_some()),
        (
            Part::Arguments,
            "engine.args",
            spec.engine.as_ref().and_then(|engine| engine.args.as_ref()).is_some_and(has_args),
        ),
        (Part::TokenSecret, "model.huggingFace.tokenSecretRef", has_token(model.hugging_face.as_ref())),
        (
            Part::TokenSecret,
            "model.gguf.huggingFace.tokenSecretRef",
            has_token(gguf.and_then(|gguf| gguf.hugging_face.as_ref())),
        ),
        (Part::ConfigMap, "model.configMapRef", model.config_map_ref.is_some()),
        (Part::GgufUrl, "model.gguf.url", gguf.is_some_and(|gguf| gguf.url.is_some())),
    ]
    .into_iter()
    .filter_map(|(part, field, is_set)| is_set.then_some((part, field)))
}

/// The images of a pod, with their fields.
fn images(pod: &PodSpec) -> impl Iterator<Item = (String, &str)> {
    let lists = [
        ("containers", pod.containers.as_slice()),
        ("initContainers", pod.init_containers.as_deref().unwrap_or_default()),
    ];
    let containers = lists.into_iter().flat_map(|(list, containers)| {
        containers.iter().enumerate().filter_map(move |(at, container)| {
            Some((format!("template.spec.{list}[{at}].image"), container.image.as_deref()?))
        })
    });
    let volumes = pod.volumes.iter().flatten().enumerate().filter_map(|(at, volume)| {
        let reference = volume.image.as_ref()?.reference.as_deref()?;
        Some((format!("template.spec.volumes[{at}].image.reference"), reference))
    });
    containers.chain(volumes).filter(|(_, image)| !image.is_empty())
}

impl Permits {
    /// The address of a file: only on a host that is listed, so that a spec learns nothing of any other. The host has to be
    /// written as a name: no form of a number, with or without brackets, is one.
    fn address(&self, url: &str) -> Result<(), Refusal> {
        let refused = |problem: String| {
            let hosts: Vec<String> = self.hosts.iter().map(|host| shorten(host)).collect();
            let remedy = format!(
                "use an https address at {}; or give model.gguf.huggingFace, or {ASK}",
                if hosts.is_empty() { "an allowed host".to_owned() } else { hosts.join(", ") }
            );
            Err(Refusal::not_allowed("model.gguf.url", problem, remedy))
        };
        let rest = url.strip_prefix("https://").unwrap_or_default();
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if authority.contains('@') {
            // It is not repeated: it would be in a status that others read.
            return refused("it has a user or a password in it".to_owned());
        }
        let (host, port) = authority.split_once(':').unwrap_or((authority, "443"));
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
        let is_host = !host.is_empty() && host.chars().all(is_plain) && port.parse::<u16>().is_ok();
        if is_host && self.hosts.iter().any(|allowed| is_or_below(host, allowed)) {
            return Ok(());
        }
        refused(format!("the host \"{}\" is not one of those that may be read from", shorten(authority)))
    }

    fn image(&self, engine: Engine, field: &str, image: &str) -> Result<(), Refusal> {
        if engine::is_own_image(engine, image) {
            return Ok(());
        }
        let shown = shorten(image);
        if self.refused.contains(&Part::Image) {
            return Err(Refusal::not_allowed(
                field,
                format!(
                    "\"{shown}\" is not the engine's own image, and the settings of this cluster allow no other"
                ),
                format!("leave it out, or {ASK}"),
            ));
        }
        if self.registries.is_empty() || self.registries.iter().any(|registry| is_in(image, registry)) {
            return Ok(());
        }
        let registries: Vec<String> = self.registries.iter().map(|registry| shorten(registry)).collect();
        Err(Refusal::not_allowed(
            field,
            format!("\"{shown}\" is from no registry that images may come from"),
            format!("use one of {}, or {ASK}", registries.join(", ")),
        ))
    }

    /// What a template asks for that goes beyond its own pods.
    fn pod(&self, pod: &PodSpec) -> Result<(), Refusal> {
        let named = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
        if let Some(name) = named(&pod.scheduler_name)
            && name != SCHEDULER
            && !self.schedulers.contains(&name)
        {
            return Err(Refusal::not_allowed(
                "template.spec.schedulerName",
                format!(
                    "\"{}\" is not known to heed the affinity that keeps pods on nodes that fit",
                    shorten(&name)
                ),
                format!("leave it out, or {ASK}"),
            ));
        }
        for (field, asks) in
            [("hostNetwork", pod.host_network), ("hostPID", pod.host_pid), ("hostIPC", pod.host_ipc)]
        {
            if asks == Some(true) && !self.host_namespaces {
                return Err(Refusal::not_allowed(
                    format!("template.spec.{field}"),
                    "a pod with it sees what is the node's",
                    format!("leave it out, or {ASK}"),
                ));
            }
        }
        if let Some(name) = named(&pod.priority_class_name) {
            let is_listed = self.priority_classes.contains(&name);
            let is_free = self.priority_classes.is_empty() && !name.starts_with(SYSTEM);
            if !is_listed && !is_free {
                return Err(Refusal::not_allowed(
                    "template.spec.priorityClassName",
                    format!("\"{}\" may evict what is not its author's", shorten(&name)),
                    match self.priority_classes.as_slice() {
                        [] => format!("name a class that is not the system's, or {ASK}"),
                        classes => {
                            let classes: Vec<String> = classes.iter().map(|class| shorten(class)).collect();
                            format!("name one of {}, or {ASK}", classes.join(", "))
                        }
                    },
                ));
            }
        }
        // The API server takes the second for an alias of the first.
        for (field, account) in
            [("serviceAccountName", &pod.service_account_name), ("serviceAccount", &pod.service_account)]
        {
            if let Some(name) = named(account)
                && name != "default"
                && self.refused.contains(&Part::ServiceAccount)
            {
                return Err(Refusal::not_allowed(
                    format!("template.spec.{field}"),
                    format!(
                        "pods would act as \"{}\", and the settings of this cluster turn that off",
                        shorten(&name)
                    ),
                    format!("leave it out, or {ASK}"),
                ));
            }
        }
        Ok(())
    }
}

/// Whether a host is of this name, or of one below it.
fn is_or_below(host: &str, name: &str) -> bool {
    let (host, name) = (host.to_ascii_lowercase(), name.to_ascii_lowercase());
    host == name || host.strip_suffix(&name).is_some_and(|rest| rest.ends_with('.') && !name.is_empty())
}

/// Whether an image is of a registry, or of a path in one.
fn is_in(image: &str, registry: &str) -> bool {
    let registry = full(registry.trim_end_matches('/'), false);
    full(image, true).strip_prefix(&registry).is_some_and(|rest| rest.starts_with('/'))
}

/// An image's name with its registry, as container runtimes read it: what has no dot or port before the first slash is at
/// Docker Hub.
fn full(image: &str, is_image: bool) -> String {
    let first = image.split('/').next().unwrap_or_default();
    let has_registry =
        (image.contains('/') || !is_image) && (first.contains(['.', ':']) || first == "localhost");
    if has_registry {
        image.to_owned()
    } else if is_image && !image.contains('/') {
        format!("docker.io/library/{image}")
    } else {
        format!("docker.io/{image}")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::decide::Reason;

    fn judged(spec: &Value, permits: &Permits) -> Result<(), Refusal> {
        let mut spec = spec.clone();
        if spec.get("model").is_none() {
            spec["model"] = json!({"catalog": "llama-3.1-8b"});
        }
        permitted(&serde_json::from_value(spec).unwrap(), permits)
    }

    #[track_caller]
    fn refused(spec: &Value, permits: &Permits, field: &str) -> String {
        let refusal = judged(spec, permits).expect_err(field);
        assert_eq!(refusal.reason(), Reason::NotAllowed, "{refusal}");
        assert_eq!(refusal.field(), Some(field), "{refusal}");
        let text = refusal.to_string();
        assert!(text.contains("; ") && text.contains("ask whoever runs Loadline"), "no remedy: {text}");
        text
    }

    #[test]
    fn each_part_can_be_turned_off_and_is_on_by_itself() {
        let token = json!({"name": "hub", "key": "token"});
        for (part, spec, field) in [
            (Part::Template, json!({"template": {}}), "template"),
            (
                Part::ServiceAccount,
                json!({"template": {"spec": {"serviceAccountName": "", "serviceAccount": "admin"}}}),
                "template.spec.serviceAccount",
            ),
            (Part::Image, json!({"engine": {"name": "vllm", "image": "evil/vllm-openai"}}), "engine.image"),
            (
                Part::Image,
                json!({"template": {"spec": {"containers": [{"image": "vllm/vllm-openai:v0.9"}, {"image": "evil"}]}}}),
                "template.spec.containers[1].image",
            ),
            (
                Part::Image,
                json!({"template": {"spec": {"volumes": [{"name": "v", "image": {"reference": "evil"}}]}}}),
                "template.spec.volumes[0].image.reference",
            ),
            (
                Part::Arguments,
                json!({"engine": {"name": "vllm", "args": ["--trust-remote-code"]}}),
                "engine.args",
            ),
            (
                Part::TokenSecret,
                json!({"model": {"huggingFace": {"repository": "a/b", "tokenSecretRef": token}}}),
                "model.huggingFace.tokenSecretRef",
            ),
            (
                Part::TokenSecret,
                json!({"model": {"gguf": {"huggingFace": {"repository": "a/b", "file": "c.gguf", "tokenSecretRef": token}}}}),
                "model.gguf.huggingFace.tokenSecretRef",
            ),
            (
                Part::ConfigMap,
                json!({"model": {"configMapRef": {"name": "a", "key": "b"}}}),
                "model.configMapRef",
            ),
            (Part::GgufUrl, json!({"model": {"gguf": {"url": "https://hf.co/x.gguf"}}}), "model.gguf.url"),
        ] {
            assert_eq!(judged(&spec, &Permits::default()), Ok(()), "{spec}");
            let off = Permits { refused: vec![part], ..Permits::default() };
            refused(&spec, &off, field);
            let others: Vec<Part> = Part::ALL.iter().copied().filter(|other| *other != part).collect();
            let is_template = spec.get("template").is_some() && part != Part::Template;
            let others =
                others.into_iter().filter(|other| !(is_template && *other == Part::Template)).collect();
            assert_eq!(judged(&spec, &Permits { refused: others, ..Permits::default() }), Ok(()), "{part}");
        }
    }

    #[test]
    fn the_engines_own_image_is_always_allowed() {
        let strict = Permits {
            refused: vec![Part::Image],
            registries: vec!["r.example".to_owned()],
            ..Permits::default()
        };
        for image in ["vllm/vllm-openai:v0.19.0", "docker.io/vllm/vllm-openai@sha256:0"] {
            assert_eq!(
                judged(&json!({"engine": {"name": "vllm", "image": image}}), &strict),
                Ok(()),
                "{image}"
            );
        }
    }

    #[test]
    fn images_come_from_the_registries_that_are_listed() {
        for (image, registry, is_allowed) in [
            ("r.example/team/x:1", "r.example", true),
            ("r.example/team/x:1", "r.example/team", true),
            ("r.example/team/x:1", "r.example/team/", true),
            ("r.example/teamx/x", "r.example/team", false),
            ("r.example.evil/x", "r.example", false),
            ("r.example:5000/x", "r.example", false),
            ("r.example:5000/x", "r.example:5000", true),
            ("evil/r.example/x", "r.example", false),
            ("nginx", "docker.io", true),
            ("nginx:latest", "docker.io/library", true),
            ("team/x@sha256:00", "docker.io/team", true),
            ("team/x", "team", true),
            ("localhost/x", "docker.io", false),
            ("r.example", "r.example", false),
        ] {
            let permits = Permits { registries: vec![registry.to_owned()], ..Permits::default() };
            let spec = json!({"engine": {"name": "none", "image": image}});
            assert_eq!(judged(&spec, &permits).is_ok(), is_allowed, "{image} from {registry}");
            if !is_allowed {
                assert!(refused(&spec, &permits, "engine.image").contains(registry));
            }
        }
    }

    #[test]
    fn an_address_is_of_a_host_that_is_listed_and_written_as_its_name() {
        let url = |url: &str| json!({"model": {"gguf": {"url": url}}});
        let permits = Permits { hosts: vec!["Models.example".to_owned()], ..Permits::default() };
        for host in ["models.example", "a.models.example:8443", "MODELS.example"] {
            assert_eq!(judged(&url(&format!("https://{host}/x.gguf")), &permits), Ok(()), "{host}");
        }
        for host in [
            "internal-admin.corp.example",
            "localhost",
            "2852039166",
            "0xa9fea9fe",
            "0251.0376.0251.0376",
            "169.254.43518",
            "169.254.169.254",
            "[::ffff:169.254.169.254]",
            "[64:ff9b:1::a9fe:a9fe]",
            "kubernetes.default.svc",
            "127.0.0.1:19100",
            "evilmodels.example",
            "models.example.evil.test",
            "models.example@evil.test",
            "models.example\\.evil.test",
            "models.example%2eevil.test",
            "models.example:99999",
            "models.example.",
            "",
        ] {
            let text = refused(&url(&format!("https://{host}/x.gguf")), &permits, "model.gguf.url");
            assert!(text.contains("Models.example"), "{text}");
        }
        let text = refused(&url("https://user:secret@evil.test/x"), &permits, "model.gguf.url");
        assert!(!text.contains("secret"), "{text}");
    }

    #[test]
    fn what_goes_beyond_a_templates_own_pods_has_to_be_opened() {
        let template = |fields: Value| json!({"template": {"spec": fields}});
        let open = Permits {
            schedulers: vec!["volcano".to_owned()],
            priority_classes: vec!["system-cluster-critical".to_owned()],
            host_namespaces: true,
            ..Permits::default()
        };
        for (fields, field) in [
            (json!({"schedulerName": "volcano"}), "schedulerName"),
            (json!({"hostNetwork": true}), "hostNetwork"),
            (json!({"hostPID": true}), "hostPID"),
            (json!({"hostIPC": true}), "hostIPC"),
            (json!({"priorityClassName": "system-cluster-critical"}), "priorityClassName"),
        ] {
            let field = format!("template.spec.{field}");
            refused(&template(fields.clone()), &Permits::default(), &field);
            assert_eq!(judged(&template(fields), &open), Ok(()), "{field}");
        }
        for fields in [
            json!({"schedulerName": "default-scheduler", "hostNetwork": false, "priorityClassName": "batch"}),
            json!({"serviceAccountName": "trainer", "schedulerName": ""}),
        ] {
            assert_eq!(judged(&template(fields), &Permits::default()), Ok(()));
        }
        let text = refused(
            &template(json!({"priorityClassName": "batch"})),
            &open,
            "template.spec.priorityClassName",
        );
        assert!(text.contains("system-cluster-critical"), "{text}");
    }
}
