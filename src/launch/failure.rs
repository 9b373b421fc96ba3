//! Why pods do not come up, by what kube-scheduler, the kubelet and the engine say of them.

use crate::inventory::PodFacts;
use crate::inventory::pod_facts::{ContainerFacts, Said, Termination};

/// Why a pod does not come up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What kind of failure it is.
    pub kind: FailureKind,
    /// The container that fails; empty where it is the pod as a whole.
    pub container: String,
    /// What was said of it, in its author's own words.
    pub said: String,
}

/// The kinds of failure that call for different remedies, the most telling first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FailureKind {
    /// The GPU's memory did not do: the estimate was exceeded.
    GpuMemory,
    /// The container's limit of host memory did not do.
    HostMemory,
    /// The image cannot be had.
    Image,
    /// The container cannot be created: a Secret, a volume, a command that is not there.
    Creation,
    /// The container ends again and again.
    Crash,
    /// The pod as a whole was ended, such as by an eviction.
    Pod,
    /// kube-scheduler finds no node.
    Scheduling,
}

/// What engines and their libraries say when the GPU's memory does not do, in lower case: PyTorch and its ROCm build, CUDA's
/// and HIP's own errors as vLLM, SGLang and llama.cpp print them, and what vLLM and SGLang say where weights leave too little
/// for the cache (vllm/v1/core/kv_cache_utils.py, sglang/srt/model_executor, ggml/src/ggml-cuda).
const GPU_OUT_OF_MEMORY: &[&str] = &[
    "cuda out of memory",
    "hip out of memory",
    "xpu out of memory",
    "torch.outofmemoryerror",
    "cuda error: out of memory",
    "cuda_error_out_of_memory",
    "cudaerrormemoryallocation",
    "hiperroroutofmemory",
    "cudamalloc failed: out of memory",
    "no available memory for the cache blocks",
    "larger than the available kv cache memory",
    "less than desired gpu memory utilization",
    "not enough memory. please try to increase --mem-fraction-static",
];

/// Why the pods that are not ready do not come up: of several the most telling. `None` where none fails.
#[must_use]
pub fn failure(pods: &[PodFacts]) -> Option<Failure> {
    pods.iter()
        .filter(|pod| !pod.ready && pod.deleted_at.is_none())
        .filter_map(of_pod)
        .min_by(|a, b| (a.kind, &a.container, &a.said).cmp(&(b.kind, &b.container, &b.said)))
}

fn of_pod(pod: &PodFacts) -> Option<Failure> {
    let containers = pod.containers.iter().filter_map(of_container);
    let whole = pod.said.iter().filter(|_| pod.phase == "Failed").map(|said| Failure {
        kind: FailureKind::Pod,
        container: String::new(),
        said: words(said),
    });
    let unbound = pod.unscheduled.iter().map(|said| Failure {
        kind: FailureKind::Scheduling,
        container: String::new(),
        said: said.message.clone(),
    });
    containers.chain(whole).chain(unbound).min_by_key(|failure| failure.kind)
}

fn of_container(container: &ContainerFacts) -> Option<Failure> {
    let failed = |kind, said: String| Some(Failure { kind, container: container.name.clone(), said });
    let ended = container.terminated.as_ref().or(container.last_termination.as_ref());
    if let Some(ended) = ended.filter(|ended| ended.exit_code != 0 && !container.ready) {
        let kind = if is_of_the_gpu(&ended.message) {
            FailureKind::GpuMemory
        } else if ended.reason == "OOMKilled" {
            FailureKind::HostMemory
        } else {
            FailureKind::Crash
        };
        return failed(kind, end_of(ended));
    }
    let waiting = container.waiting.as_ref()?;
    let kind = match waiting.reason.as_str() {
        "ErrImagePull"
        | "ImagePullBackOff"
        | "InvalidImageName"
        | "ErrImageNeverPull"
        | "ImageInspectError"
        | "RegistryUnavailable" => FailureKind::Image,
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" | "StartError" => {
            FailureKind::Creation
        }
        "CrashLoopBackOff" => FailureKind::Crash,
        _ => return None,
    };
    failed(kind, words(waiting))
}

/// Whether a container's last words say that the GPU's memory did not do.
fn is_of_the_gpu(message: &str) -> bool {
    let message = message.to_lowercase();
    GPU_OUT_OF_MEMORY.iter().any(|words| message.contains(words))
}

/// How a container ended, in its own words where it has any: the last line that says something of memory, else the last.
fn end_of(ended: &Termination) -> String {
    let lines = || ended.message.lines().map(str::trim).filter(|line| !line.is_empty());
    let telling = lines().rfind(|line| is_of_the_gpu(line)).or_else(|| lines().next_back());
    let code = if ended.reason.is_empty() || ended.reason == "Error" {
        format!("exit code {}", ended.exit_code)
    } else {
        format!("{}, exit code {}", ended.reason, ended.exit_code)
    };
    telling.map_or_else(|| code.clone(), |line| format!("{code}: {line}"))
}

fn words(said: &Said) -> String {
    if said.message.is_empty() { said.reason.clone() } else { format!("{}: {}", said.reason, said.message) }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::{Value, json};

    use super::*;

    fn pod(status: &Value) -> PodFacts {
        let pod = json!({"metadata": {"name": "a"}, "status": status});
        PodFacts::from_object(&serde_json::from_value::<Pod>(pod).unwrap())
    }

    fn container(state: &Value, last: &Value) -> PodFacts {
        pod(&json!({"phase": "Running", "containerStatuses": [{
            "name": "model", "ready": false, "restartCount": 3, "image": "", "imageID": "",
            "state": state, "lastState": last,
        }]}))
    }

    fn ended(reason: &str, code: i32, message: &str) -> Value {
        json!({"terminated": {"reason": reason, "exitCode": code, "message": message}})
    }

    #[test]
    fn each_failure_is_told_in_the_words_of_who_says_it() {
        let nothing = json!({});
        let back_off = json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}});
        let cuda = "Traceback\ntorch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB\nEngine core failed\n";
        let vllm =
            "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization`";
        for (case, pod, expected) in [
            ("runs", container(&json!({"running": {}}), &nothing), None),
            ("is pulled", container(&json!({"waiting": {"reason": "ContainerCreating"}}), &nothing), None),
            (
                "out of GPU memory, waiting",
                container(&back_off, &ended("Error", 1, cuda)),
                Some((
                    FailureKind::GpuMemory,
                    "exit code 1: torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB",
                )),
            ),
            (
                "out of GPU memory, started again",
                container(&json!({"running": {}}), &ended("Error", 1, vllm)),
                Some((
                    FailureKind::GpuMemory,
                    "exit code 1: ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization`",
                )),
            ),
            (
                "out of host memory",
                container(&back_off, &ended("OOMKilled", 137, "")),
                Some((FailureKind::HostMemory, "OOMKilled, exit code 137")),
            ),
            (
                "a crash",
                container(&back_off, &ended("Error", 2, "usage: vllm\nerror: no such flag\n\n")),
                Some((FailureKind::Crash, "exit code 2: error: no such flag")),
            ),
            (
                "a crash without words",
                container(&back_off, &nothing),
                Some((FailureKind::Crash, "CrashLoopBackOff: back-off 40s")),
            ),
            ("it ended well", container(&json!({"running": {}}), &ended("Completed", 0, "")), None),
            (
                "no image",
                container(
                    &json!({"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}),
                    &nothing,
                ),
                Some((FailureKind::Image, "ImagePullBackOff: not found")),
            ),
            (
                "no Secret",
                container(
                    &json!({"waiting": {"reason": "CreateContainerConfigError", "message": "secret \"hub\" not found"}}),
                    &nothing,
                ),
                Some((FailureKind::Creation, "CreateContainerConfigError: secret \"hub\" not found")),
            ),
            (
                "evicted",
                pod(&json!({"phase": "Failed", "reason": "Evicted", "message": "low on disk"})),
                Some((FailureKind::Pod, "Evicted: low on disk")),
            ),
            (
                "no node",
                pod(
                    &json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/24 nodes are available: 24 Insufficient cpu."}]}),
                ),
                Some((FailureKind::Scheduling, "0/24 nodes are available: 24 Insufficient cpu.")),
            ),
        ] {
            let found = failure(&[pod]);
            let found = found.as_ref().map(|failure| (failure.kind, failure.said.as_str()));
            assert_eq!(found, expected, "{case}");
        }
    }

    #[test]
    fn the_most_telling_of_several_is_told_and_those_that_serve_or_go_count_for_nothing() {
        let crash = container(&json!({}), &ended("Error", 1, "x"));
        let memory = container(&json!({}), &ended("Error", 1, "CUDA out of memory"));
        let kinds = |pods: &[PodFacts]| failure(pods).map(|failure| failure.kind);
        assert_eq!(kinds(&[crash.clone(), memory.clone()]), Some(FailureKind::GpuMemory));
        let ready = PodFacts { ready: true, ..memory.clone() };
        let gone = PodFacts { deleted_at: Some(jiff::Timestamp::UNIX_EPOCH), ..memory };
        assert_eq!(kinds(&[ready, crash, gone]), Some(FailureKind::Crash));
        assert_eq!(kinds(&[]), None);
    }
}
