//! Which pods a Kubernetes object makes: of every kind that is read, its pod templates, and how many pods there are of each.

use serde_json::Value;

use super::kserve;
use super::objects::{Objects, at, number, text};
use super::role::Role;

/// The parts of an object that make pods; `None` for a kind that is not read.
pub(super) fn roles(object: &Value, objects: &Objects<'_>) -> Option<Vec<Role>> {
    let kind = text(object, "/kind")?;
    let group = text(object, "/apiVersion").unwrap_or_default().split('/').next().unwrap_or_default();
    let template = |path: &str| at(object, &format!("{path}/spec")).map(Role::of);
    let replicas = number(object, "/spec/replicas");
    let role = match (group, kind) {
        ("v1", "Pod") => Some(Role { replicas: Some(1), ..Role::of(at(object, "/spec")?) }),
        ("apps", "Deployment" | "ReplicaSet") => {
            template("/spec/template").map(|role| Role { replicas, ..role })
        }
        ("apps", "StatefulSet") => {
            template("/spec/template").map(|role| Role { replicas, is_ranked: true, ..role })
        }
        ("apps", "DaemonSet") => template("/spec/template"),
        ("batch", "Job") => template("/spec/template").map(|role| job(role, object, "/spec")),
        ("batch", "CronJob") => template("/spec/jobTemplate/spec/template")
            .map(|role| job(role, object, "/spec/jobTemplate/spec")),
        ("jobset.x-k8s.io", "JobSet") => return Some(job_set(object)),
        ("leaderworkerset.x-k8s.io", "LeaderWorkerSet") => Some(leader_worker_set(object)?),
        ("serving.kserve.io", "InferenceService") => return Some(kserve::inference_service(object, objects)),
        ("serving.kserve.io", "LLMInferenceService") => return Some(kserve::llm(object, objects)),
        _ => return None,
    };
    Some(role.into_iter().collect())
}

fn job(role: Role, job: &Value, path: &str) -> Role {
    let replicas = number(job, &format!("{path}/parallelism"));
    let is_ranked = text(job, &format!("{path}/completionMode")) == Some("Indexed");
    Role { replicas, is_ranked, ..role }
}

fn job_set(object: &Value) -> Vec<Role> {
    let jobs = at(object, "/spec/replicatedJobs").and_then(Value::as_array);
    let of = |one: &Value| {
        let pod = at(one, "/template/spec/template/spec")?;
        let role = job(Role::of(pod), one, "/template/spec");
        Some(Role { name: text(one, "/name").map(str::to_owned), ..role })
    };
    jobs.into_iter().flatten().filter_map(of).collect()
}

fn leader_worker_set(object: &Value) -> Option<Role> {
    let template = at(object, "/spec/leaderWorkerTemplate")?;
    let worker = at(template, "/workerTemplate/spec");
    let leader = at(template, "/leaderTemplate/spec");
    let size = number(template, "/size");
    let variables = size.map(|size| ("LWS_GROUP_SIZE", size.to_string()));
    Some(Role {
        worker: leader.and(worker).cloned(),
        replicas: number(object, "/spec/replicas"),
        ranks: size,
        is_group: size.is_none_or(|size| size > 1),
        variables: variables.into_iter().collect(),
        ..Role::of(leader.or(worker)?)
    })
}
