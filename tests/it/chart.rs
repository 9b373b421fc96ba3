//! The chart, by the real Helm on a real cluster.

mod monitoring;
mod values;

use serde_json::Value;

use crate::cluster::{self, CONTROLLER, PATIENCE, SYSTEM_NAMESPACE, items, text};
use crate::controlplane::harness::command::Ran;
use crate::controlplane::harness::wait::until;

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/loadline");
/// Helm that is built from its module does not know the version that it was built for.
const KUBE_VERSION: &str = "--kube-version=1.34.4";

fn template(values: &[&str]) -> Ran {
    let cluster = cluster::exclusive();
    let arguments = ["template", "loadline", CHART, "--namespace=loadline-system", KUBE_VERSION];
    cluster.plane.helm(arguments.iter().chain(values)).unwrap()
}

/// The objects that the chart makes with these values, as `Kind/name`, in Helm's order.
fn objects(values: &[&str]) -> Vec<(String, Value)> {
    let rendered = template(values).output().unwrap();
    let documents = rendered.split("\n---\n").map(|document| document.trim_start_matches("---\n"));
    let objects = documents.map(|document| serde_yaml::from_str::<Value>(document).unwrap());
    objects
        .filter(|object| !object.is_null())
        .map(|object| (format!("{}/{}", text(&object, "/kind"), text(&object, "/metadata/name")), object))
        .collect()
}

#[test]
fn lint() {
    let cluster = cluster::exclusive();
    let output = cluster.plane.helm(["lint", "--strict", CHART]).unwrap().output().unwrap();
    assert!(output.contains("0 chart(s) failed"), "{output}");
}

#[test]
fn values_decide_what_is_rendered() {
    const CRD: &str = "CustomResourceDefinition/modeldeployments.loadline.dev";
    const REQUIREMENTS: &str = "CustomResourceDefinition/modelrequirements.loadline.dev";
    #[track_caller]
    fn check(values: &[&str], expect: &[&str]) {
        let names: Vec<_> = objects(values).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, expect);
    }
    check(
        &[],
        &[
            "PodDisruptionBudget/loadline",
            "ServiceAccount/loadline",
            CRD,
            REQUIREMENTS,
            "ClusterRole/loadline-admission",
            "ClusterRole/loadline-view",
            "ClusterRole/loadline-edit",
            "ClusterRole/loadline",
            "ClusterRoleBinding/loadline-admission",
            "ClusterRoleBinding/loadline",
            "Role/loadline",
            "RoleBinding/loadline",
            "Service/loadline-webhooks",
            "Service/loadline-metrics",
            "Deployment/loadline",
            "MutatingWebhookConfiguration/loadline",
            "ValidatingAdmissionPolicy/loadline-pods",
            "ValidatingAdmissionPolicy/loadline-authors",
            "ValidatingAdmissionPolicyBinding/loadline-pods",
            "ValidatingAdmissionPolicyBinding/loadline-authors",
            "ValidatingWebhookConfiguration/loadline",
        ],
    );
    check(
        &[
            "--set",
            "crds.install=false,rbac.create=false,rbac.aggregate=false,serviceAccount.create=false,admission.enabled=false,tenants.policy.enabled=false",
        ],
        &["PodDisruptionBudget/loadline", "Service/loadline-metrics", "Deployment/loadline"],
    );
    check(
        &[
            "--set",
            "crds.install=false,rbac.aggregate=false,fullnameOverride=fit,admission.enabled=false,tenants.policy.enabled=false,replicas=1",
        ],
        &[
            "ServiceAccount/fit",
            "ClusterRole/fit-admission",
            "ClusterRole/fit",
            "ClusterRoleBinding/fit-admission",
            "ClusterRoleBinding/fit",
            "Role/fit",
            "RoleBinding/fit",
            "Service/fit-metrics",
            "Deployment/fit",
        ],
    );
}

/// What the controller is told of what specs may ask for.
fn told_of_tenants(values: &[&str]) -> Vec<String> {
    let objects = objects(values);
    let (_, deployment) = objects.iter().find(|(name, _)| name == "Deployment/loadline").expect("rendered");
    let arguments = deployment.pointer("/spec/template/spec/containers/0/args").and_then(Value::as_array);
    let arguments = arguments.expect("arguments").iter().filter_map(Value::as_str);
    let of_tenants = |argument: &&str| argument.starts_with("--refuse") || argument.starts_with("--allow");
    arguments.filter(of_tenants).map(str::to_owned).collect()
}

#[test]
fn where_nobody_judges_the_authors_the_controller_refuses() {
    assert_eq!(told_of_tenants(&[]), Vec::<String>::new());
    let all = ["--refuse=args,config-map,image,service-account,template,token-secret"];
    assert_eq!(told_of_tenants(&["--set", "tenants.policy.enabled=false"]), all);
    // The later flag wins.
    assert_eq!(told_of_tenants(&["--kube-version=1.29.3"]), all);
    let names: Vec<_> = objects(&["--kube-version=1.29.3"]).into_iter().map(|(name, _)| name).collect();
    assert!(!names.iter().any(|name| name.starts_with("ValidatingAdmissionPolicy")), "{names:?}");
    assert_eq!(
        told_of_tenants(&[
            "--set",
            "tenants.policy.enabled=false,tenants.allow.template=true,tenants.allow.ggufUrl=false"
        ]),
        ["--refuse=args,config-map,gguf-url,image,service-account,token-secret"]
    );
    assert_eq!(
        told_of_tenants(&[
            "--set",
            "tenants.registries={r.example,ghcr.io/team},tenants.hosts={models.example},tenants.schedulers={volcano},tenants.priorityClasses={batch},tenants.hostNamespaces=true",
        ]),
        [
            "--allowed-registries=r.example,ghcr.io/team",
            "--allowed-hosts=models.example",
            "--allowed-schedulers=volcano",
            "--allowed-priority-classes=batch",
            "--allow-host-namespaces",
        ]
    );
}

#[test]
fn the_policy_is_bound_to_the_namespaces_that_are_selected() {
    let binding = |values: &[&str]| {
        let all = objects(values);
        let found =
            all.into_iter().find(|(name, _)| name == "ValidatingAdmissionPolicyBinding/loadline-authors");
        found.expect("rendered").1
    };
    assert_eq!(binding(&[]).pointer("/spec/matchResources"), None);
    let values = "tenants.policy.namespaceSelector.matchLabels.tenant=yes";
    let selector = binding(&["--set-string", values]);
    assert_eq!(
        selector.pointer("/spec/matchResources/namespaceSelector/matchLabels/tenant"),
        Some(&"yes".into())
    );
}

/// The page is for whoever asks for it: nothing of the cluster is given to it, and the controller's Service does not find it.
#[test]
fn the_page_is_served_where_it_is_asked_for() {
    assert!(objects(&[]).iter().all(|(name, _)| !name.contains("-ui")));
    let objects = objects(&["--set", "ui.enabled=true,controller.hub.offline=true,ui.service.port=8000"]);
    let of = |name: &str| &objects.iter().find(|(found, _)| found == name).expect(name).1;
    let pod = &of("Deployment/loadline-ui")["spec"]["template"];
    assert_eq!(pod["spec"]["automountServiceAccountToken"], false);
    let arguments = ["ui", "--listen=0.0.0.0:8080", "--public", "--offline"];
    assert_eq!(pod["spec"]["containers"][0]["args"], serde_json::json!(arguments));
    let service = of("Service/loadline-ui");
    assert_eq!(service["spec"]["ports"][0]["port"], 8000);
    let selects = |service: &Value| {
        let selector = service["spec"]["selector"].as_object().expect("a selector").clone();
        selector.iter().all(|(key, value)| pod["metadata"]["labels"][key] == *value)
    };
    assert!(selects(service) && !selects(of("Service/loadline-metrics")), "{pod}");
}

/// Where the Hub's mirror has a certificate of the company's own authority.
#[test]
fn files_and_variables_reach_the_container() {
    let values = "extraEnv[0].name=SSL_CERT_FILE,extraEnv[0].value=/ca/bundle.pem,extraVolumes[0].name=ca,extraVolumes[0].configMap.name=company-ca,extraVolumeMounts[0].name=ca,extraVolumeMounts[0].mountPath=/ca";
    let (_, deployment) = objects(&["--set", values])
        .into_iter()
        .find(|(name, _)| name == "Deployment/loadline")
        .expect("rendered");
    let pod = deployment.pointer("/spec/template/spec").expect("a pod");
    assert_eq!(pod.pointer("/volumes/0/configMap/name"), Some(&"company-ca".into()));
    let container = pod.pointer("/containers/0").expect("a container");
    assert_eq!(container.pointer("/volumeMounts/0/mountPath"), Some(&"/ca".into()));
    let variables = container.pointer("/env").and_then(Value::as_array).expect("variables");
    assert!(variables.iter().any(|variable| variable["value"] == "/ca/bundle.pem"), "{variables:?}");
    let (_, plain) =
        objects(&[]).into_iter().find(|(name, _)| name == "Deployment/loadline").expect("rendered");
    assert_eq!(plain.pointer("/spec/template/spec/volumes"), None);
}

#[test]
fn rendering_twice_gives_the_same() {
    assert_eq!(template(&[]).output().unwrap(), template(&[]).output().unwrap());
}

#[test]
fn the_crd_is_kept_unless_told_otherwise() {
    let policy = |values: &[&str]| {
        let objects = objects(values);
        let (_, crd) = objects.iter().find(|(name, _)| name.starts_with("CustomResourceDefinition")).unwrap();
        crd["metadata"]["annotations"]["helm.sh/resource-policy"].clone()
    };
    assert_eq!(policy(&[]), "keep");
    assert_eq!(policy(&["--set", "crds.keep=false"]), Value::Null);
    let annotated = ["--set", r"crds.annotations.argocd\.argoproj\.io/sync-options=ServerSideApply=true"];
    assert_eq!(policy(&annotated), "keep");
}

#[test]
fn an_image_digest_wins_over_the_tag() {
    let image = |values: &[&str]| {
        let objects = objects(values);
        let (_, deployment) = objects.iter().find(|(name, _)| name == "Deployment/loadline").unwrap();
        text(deployment, "/spec/template/spec/containers/0/image").to_owned()
    };
    assert_eq!(image(&["--set", "image.repository=r/l"]), format!("r/l:{}", env!("CARGO_PKG_VERSION")));
    let digest = format!("sha256:{}", "0".repeat(64));
    let values = format!("image.repository=r/l,image.tag=t,image.digest={digest}");
    assert_eq!(image(&["--set", &values]), format!("r/l@{digest}"));
}

#[test]
fn wrong_values_are_refused_by_name() {
    #[track_caller]
    fn check(value: &str, expect: &str) {
        let error = template(&["--set", value]).refusal().unwrap();
        assert!(error.contains(expect), "{value}: {error}");
    }
    check("replica=1", "additional properties 'replica' not allowed");
    check("replicas=11", "/replicas");
    check("admission.mode=Deny", "/admission/mode");
    check("admission.timeoutSeconds=30", "/admission/timeoutSeconds");
    check("admission.url=http://10.0.0.7", "/admission/url");
    check("image.pullPolicy=Sometimes", "/image/pullPolicy");
    check("image.digest=latest", "/image/digest");
    check("controller.labelGrace=soon", "/controller/labelGrace");
    check("controller.gpuMemoryLabels[0]=example.com/vram", "/controller/gpuMemoryLabels/0");
    check("controller.logformat=json", "additional properties 'logformat' not allowed");
    check("crds.install=perhaps", "/crds/install");
    check("service.port=0", "/service/port");
    check("tenants.allow.template=perhaps", "/tenants/allow/template");
    check("tenants.registries={a b}", "/tenants/registries");
    check("ui.enabled=perhaps", "/ui/enabled");
}

#[test]
fn the_controller_may_do_what_it_does_and_no_more() {
    let cluster = cluster::exclusive();
    let may = |verb: &str, what: &str| {
        let (resource, subresource) = what.split_once('/').unwrap_or((what, ""));
        let subresource = format!("--subresource={subresource}");
        let arguments =
            ["auth", "can-i", verb, resource, &subresource, "--all-namespaces", "--as", CONTROLLER];
        cluster.kubectl(arguments).unwrap().stdout.trim() == "yes"
    };
    let permitted = [
        ("list", "nodes"),
        ("watch", "pods"),
        ("watch", "modeldeployments.loadline.dev"),
        ("patch", "modeldeployments.loadline.dev/status"),
        ("create", "deployments.apps"),
        ("patch", "deployments.apps"),
        ("delete", "deployments.apps"),
        ("create", "events.events.k8s.io"),
        ("get", "configmaps"),
    ];
    for (verb, what) in permitted {
        assert!(may(verb, what), "{verb} {what}");
    }
    let forbidden = [
        ("get", "secrets"),
        ("list", "configmaps"),
        ("create", "pods"),
        ("create", "pods/binding"),
        ("delete", "pods"),
        ("patch", "nodes"),
        ("patch", "modeldeployments.loadline.dev"),
        ("delete", "modeldeployments.loadline.dev"),
        ("create", "clusterroles.rbac.authorization.k8s.io"),
        ("impersonate", "users"),
    ];
    for (verb, what) in forbidden {
        assert!(!may(verb, what), "{verb} {what}");
    }
}

#[test]
fn the_clusters_own_roles_include_model_deployments() {
    let cluster = cluster::exclusive();
    for (role, user) in [("view", "viewer"), ("edit", "editor")] {
        let name = format!("chart-test-{role}");
        let arguments =
            ["create", "rolebinding", &name, "-n", "default", "--clusterrole", role, "--user", user];
        cluster.kubectl(arguments).unwrap().output().unwrap();
    }
    let may = |who: &str, verb: &str| {
        let arguments =
            ["auth", "can-i", verb, "modeldeployments.loadline.dev", "-n", "default", "--as", who];
        cluster.kubectl(arguments).unwrap().stdout.trim() == "yes"
    };
    // The roles are aggregated by the controller manager, in its own time.
    until("the roles to be aggregated", PATIENCE, || {
        Ok((may("viewer", "list") && may("editor", "create")).then_some(()))
    })
    .unwrap();
    assert!(!may("viewer", "create"));
    assert!(may("editor", "delete"));
    assert!(!may("nobody", "list"));
}

/// Install, upgrade, uninstall, install again: the user's objects survive all of it.
#[test]
fn life_of_a_release() {
    let mut cluster = cluster::exclusive();
    cluster.clean().unwrap();
    cluster.create_namespace("chart").unwrap();
    // The namespace enforces the restricted Pod Security Standard: a pod that ran was allowed to.
    let rollout = ["rollout", "status", "deployment/loadline", "-n", SYSTEM_NAMESPACE, "--timeout=60s"];
    cluster.kubectl(rollout).unwrap().output().unwrap();

    let object = r"
apiVersion: loadline.dev/v1alpha1
kind: ModelDeployment
metadata: {name: kept, namespace: chart}
spec: {model: {parameters: 8B}, engine: {name: none}}
";
    cluster.create(object).unwrap();
    let kept = || {
        cluster
            .kubectl(["get", "modeldeployment", "kept", "-n", "chart", "-o", "json"])
            .unwrap()
            .json()
            .unwrap()
    };
    let uid = text(&kept(), "/metadata/uid").to_owned();

    let notes = cluster.install_chart(&["--set", "controller.logFormat=text"]).unwrap();
    assert!(notes.contains("kubectl get modeldeployments -A -o wide"), "{notes}");
    let deployment = ["get", "deployment", "loadline", "-n", SYSTEM_NAMESPACE, "-o", "json"];
    let deployment = cluster.kubectl(deployment).unwrap().json().unwrap();
    let arguments = deployment["spec"]["template"]["spec"]["containers"][0]["args"].as_array().unwrap();
    assert!(arguments.contains(&"--log-format=text".into()), "{arguments:?}");
    assert_eq!(text(&kept(), "/metadata/uid"), uid);

    cluster.stop_controller().unwrap();
    let uninstall = ["uninstall", "loadline", "--namespace", SYSTEM_NAMESPACE, "--wait", "--timeout=60s"];
    let kept = || {
        cluster
            .kubectl(["get", "modeldeployment", "kept", "-n", "chart", "-o", "json"])
            .unwrap()
            .json()
            .unwrap()
    };
    cluster.plane.helm(uninstall).unwrap().output().unwrap();
    let left = ["get", "all,serviceaccounts,clusterroles,clusterrolebindings,crds", "-A", "-o", "json"];
    let left =
        cluster.kubectl(left.iter().copied().chain(["-l", "app.kubernetes.io/instance=loadline"])).unwrap();
    let left = left.json().unwrap();
    let left: Vec<_> = items(&left).iter().map(|object| text(object, "/kind")).collect();
    assert_eq!(left, ["CustomResourceDefinition", "CustomResourceDefinition"]);
    assert_eq!(text(&kept(), "/metadata/uid"), uid);

    cluster.install_chart(&[]).unwrap();
    assert_eq!(text(&kept(), "/metadata/uid"), uid);
    // What the new release grants is a new identity: the next scenario starts the controller with its token.
}
