//! What each reason means and what to do about it: docs/reasons.md, SARIF's rules.

use std::fmt::Write;

use crate::api::conditions::WorkloadReason;
use crate::decide::Reason;

/// What a reason means, in a sentence.
#[must_use]
pub const fn meaning(reason: Reason) -> &'static str {
    match reason {
        Reason::FitsNow => {
            "The node has enough free GPUs, and each has at least the memory that is needed with the safety margin."
        }
        Reason::GpusBusy => {
            "The node's GPUs have the memory, and bound, unfinished pods have requested so many of them that a replica finds no room."
        }
        Reason::PromisedToAnother => {
            "The node's GPUs have the memory and are free, and they are promised to another ModelDeployment, older than this one, whose pods are still to come. A promise ends when the pods are bound, when the object is gone, or after ten minutes in which they were not bound."
        }
        Reason::ResourcesBusy => {
            "The node's GPUs would do and are free, and other pods have requested so much of its CPU, memory, ephemeral storage, places for pods or other resources that what a pod of spec.template requests finds no room. The first that is short is named."
        }
        Reason::ResourcesTooSmall => {
            "The node's GPUs would do, and it has less CPU, memory, ephemeral storage or other resources than a pod of spec.template requests, whoever else is there. Of a node that does not say how much it has, it is not judged."
        }
        Reason::GpuMemoryTooSmall => {
            "Every GPU that the object may use has less memory than the estimate times the safety margin."
        }
        Reason::TooFewGpus => {
            "The GPUs have the memory, and the node hands out fewer of them than one replica takes (data x tensor x pipeline). A replica is never spread over nodes."
        }
        Reason::NoGpus => {
            "The node hands out no GPU: its allocatable names none of the GPU resources that Loadline knows."
        }
        Reason::NoGpuNodes => "No node of the cluster hands out a GPU.",
        Reason::LabelMissing => {
            "The node hands out GPUs, and no label says how much memory they have. Nothing is assumed: the verdict is unknown."
        }
        Reason::LabelUntrusted => {
            "The node's memory label cannot be believed: it is empty, zero, negative, in the wrong unit, too large for any GPU, far from the card that the product's label names, or of fewer cards than are handed out; or MIG makes it say something else. The verdict is unknown; docs/labels.md has every case."
        }
        Reason::TaintNotTolerated => {
            "The node has a taint with the effect NoSchedule or NoExecute that the object does not tolerate. The taint of the GPU resource itself is tolerated without being asked."
        }
        Reason::NodeNotReady => "The node's Ready condition is not True.",
        Reason::NodeCordoned => "The node is marked unschedulable.",
        Reason::SelectorMismatch => {
            "A label that spec.placement.nodeSelector asks for has another value on the node, or is not there."
        }
        Reason::VendorMismatch => {
            "The node's GPUs are of a vendor that spec.placement.vendors does not allow."
        }
        Reason::SharedGpu => {
            "The node hands each of its GPUs out more than once (time slicing or MPS), and the object wants GPUs of its own. With time slicing nothing keeps the pods from each other's memory."
        }
        Reason::ClaimNeeded => {
            "The node's GPUs have the memory, and a driver of Dynamic Resource Allocation gives them to pods with a ResourceClaim alone: the node hands out none of the extended resource that the object's pods request, whatever its labels say."
        }
        Reason::EstimatePending => "The estimate is being made: the model's files are being read.",
        Reason::ModelNotResolved => {
            "The model's shape could not be had: a repository, file, ConfigMap or catalog entry is not there, cannot be read, or needs a network that this command does not use. The verdict is unknown."
        }
        Reason::InvalidSpec => {
            "The spec contradicts itself or the model, and nothing in the cluster can change that. The message names the field, its value and what would be right."
        }
        Reason::NotSupported => {
            "The spec asks for something that this version does not do. It is refused rather than ignored."
        }
        Reason::NotAllowed => {
            "The spec asks for something that whoever runs this cluster has turned off, or has not opened: a pod template, an image, a Secret, an address or a scheduler. Pods of an earlier spec serve on."
        }
        Reason::CannotRun => {
            "What the object asks for cannot be run, whatever the nodes: the engine cannot load the model in that precision from where it comes from, nothing says where the weights are, or the engine has no image. Pods of an earlier spec serve on."
        }
        Reason::NeverFits => "The requirement per GPU is larger than the largest GPU that is made.",
    }
}

/// What to do about a reason.
#[must_use]
pub const fn remedy(reason: Reason) -> &'static str {
    match reason {
        Reason::FitsNow => "Nothing.",
        Reason::GpusBusy => {
            "Wait for the pods that hold the GPUs, let an autoscaler add a node, or take one of the suggestions. `loadline nodes` shows how many GPUs are free where."
        }
        Reason::PromisedToAnother => {
            "Wait, let an autoscaler add a node, or delete or scale down the object that is before this one."
        }
        Reason::ResourcesBusy => {
            "Wait for the pods that hold it, let an autoscaler add a node, or lower what spec.template requests."
        }
        Reason::ResourcesTooSmall => "Lower what spec.template requests, or add a node that has as much.",
        Reason::GpuMemoryTooSmall => {
            "Take one of the suggestions that the message ends with: a smaller precision, more tensor parallelism, a shorter context; or add a node whose GPUs have the memory."
        }
        Reason::TooFewGpus => {
            "Lower spec.parallelism, or add a node with more GPUs. A smaller precision may let fewer GPUs do."
        }
        Reason::NoGpus => {
            "If the node has a GPU, see whether its device plugin runs: `kubectl describe node` must show the resource under Allocatable."
        }
        Reason::NoGpuNodes => {
            "Add a node with GPUs, or see whether the device plugin runs on those that have them."
        }
        Reason::LabelMissing => {
            "Run GPU Feature Discovery (a part of NVIDIA's GPU operator), or set nvidia.com/gpu.memory to the MiB of one GPU: `kubectl label node NAME nvidia.com/gpu.memory=23034`."
        }
        Reason::LabelUntrusted => {
            "Remove the label so that GPU Feature Discovery writes it again, or set it to the MiB of one GPU, a whole number with no unit."
        }
        Reason::TaintNotTolerated => {
            "Add the taint's key, value and effect to spec.placement.tolerations, if the model may run on the node."
        }
        Reason::NodeNotReady => "See `kubectl describe node`. The node counts again as soon as it is ready.",
        Reason::NodeCordoned => "`kubectl uncordon NAME`, when whoever cordoned it is done.",
        Reason::SelectorMismatch => "Change spec.placement.nodeSelector, or label the node.",
        Reason::VendorMismatch => {
            "Add the vendor to spec.placement.vendors, if the engine's image runs on its GPUs."
        }
        Reason::SharedGpu => {
            "Set spec.placement.sharing: Shared if the model may share a GPU, or use nodes without sharing. A model on several GPUs always needs its own."
        }
        Reason::ClaimNeeded => {
            "Run the vendor's device plugin on the node, which hands out an extended resource such as nvidia.com/gpu, or let the model run on other nodes. Labels that GPU Feature Discovery left behind there can be removed: they are not believed."
        }
        Reason::EstimatePending => {
            "Wait. If it lasts, the Estimated condition says what is being waited for."
        }
        Reason::ModelNotResolved => {
            "See the message: it names the source and what was wrong. Offline, give the model as catalog, config or parameters."
        }
        Reason::InvalidSpec => "Change the field that the message names.",
        Reason::NotSupported => "Change or remove the field that the message names.",
        Reason::NotAllowed => {
            "Do without what the message names, or ask whoever installed Loadline to open it: the table in the chart's README says which value does, and what it opens."
        }
        Reason::CannotRun => {
            "See the message: name a repository that holds the precision, choose one that the engine can make as it loads (fp8 for vLLM), set model.huggingFace or engine.image; or set engine.name: none to ask for the estimate alone."
        }
        Reason::NeverFits => {
            "Divide the model over more GPUs (spec.parallelism.tensor), use a smaller precision, or a shorter context."
        }
    }
}

/// What a condition's own reason means, and what to do about it.
#[must_use]
pub const fn of_workload(reason: WorkloadReason) -> (&'static str, &'static str) {
    match reason {
        WorkloadReason::Estimated => (
            "The model is resolved and its memory estimated; the message has the parts of the estimate. Only the Estimated condition has this reason.",
            "Nothing.",
        ),
        WorkloadReason::Available => (
            "The Deployment is rolled out, and every replica that is wanted is ready. It stays so while the pods are ready, whatever becomes of the nodes: the Placeable condition says whether a node fits now.",
            "Nothing.",
        ),
        WorkloadReason::Progressing => (
            "The Deployment is written and a node fits, and not every replica is ready yet: its pods are being bound, their image pulled, the model loaded, or pods of an earlier template are still there. Also while the Deployment of an earlier ModelDeployment of the same name is being deleted.",
            "Wait; the weights of a large model take their time. If it lasts, see `kubectl describe pods -l loadline.dev/model-deployment=NAME`.",
        ),
        WorkloadReason::ReplicaFailure => (
            "The Deployment is written, and its pods cannot be created: a quota, a LimitRange, Pod Security or an admission webhook is in the way. The message is the API server's.",
            "Do what the message asks for: raise the quota, or change spec.template or spec.placement.",
        ),
        WorkloadReason::EstimateOnly => (
            "The object asks for an estimate only (engine.name: none with no template, or training), and has it. Whether a node would fit is said by the Placeable condition.",
            "Nothing.",
        ),
        WorkloadReason::ScaledToZero => (
            "spec.replicas is 0, and no pod is left. The Placeable condition says whether a node would fit.",
            "Nothing; `kubectl scale modeldeployment NAME --replicas=1` starts one.",
        ),
        WorkloadReason::Replacing => (
            "A new pod waits for the GPUs of old ones: no other GPU is free for it. With rollout: Auto or InPlace an old pod goes first and the new one takes its place; with rollout: Surge it waits until a GPU is free, and the old pods serve on.",
            "Wait; or free a GPU, or set spec.rollout: InPlace where it is Surge.",
        ),
        WorkloadReason::GpuOutOfMemory => (
            "A pod ended because the memory of its GPU did not do: the model takes more than was estimated. The message has the estimate and the engine's own words. It is counted in the metric loadline_estimates_exceeded_total.",
            "Raise spec.safetyMargin, or lower context.length or context.sequences; or set an argument of the engine that makes it plan with more of the GPU. Tell us: an estimate that was exceeded is a defect.",
        ),
        WorkloadReason::HostOutOfMemory => (
            "A container ended because it used more host memory than its limit (OOMKilled). That is not the GPU's memory.",
            "Raise the memory limit in spec.template, or remove it.",
        ),
        WorkloadReason::ImagePullFailed => (
            "The image of a container cannot be pulled. The message is the kubelet's.",
            "Correct spec.engine.image, or give the pods a pull secret by spec.template.spec.imagePullSecrets.",
        ),
        WorkloadReason::ContainerNotCreated => (
            "A container cannot be created: a Secret, ConfigMap or volume that it names is not there, or its command is not in the image. The message is the kubelet's.",
            "Create what the message names, or change spec.template.",
        ),
        WorkloadReason::CrashLooping => (
            "A container ends again and again. The message has its exit code and the end of what it said.",
            "See `kubectl logs --previous -l loadline.dev/model-deployment=NAME`, and change spec.engine.args or spec.template.",
        ),
        WorkloadReason::PodFailed => (
            "A pod was ended as a whole, by an eviction or by its node. The message is the kubelet's.",
            "See what the message names; the Deployment makes another pod.",
        ),
        WorkloadReason::Unschedulable => (
            "The GPUs would do, and kube-scheduler finds no node all the same: CPU, host memory, a volume, a taint or an affinity of the template is in the way. The message is kube-scheduler's.",
            "Lower what spec.template requests, or add nodes.",
        ),
        WorkloadReason::DeadlineExceeded => (
            "The Deployment has waited for its pods longer than its deadline for progress (an hour); the object is stalled. The message says what the pods wait for, where it is known.",
            "Mend what the message names. It goes on by itself as soon as a pod makes progress.",
        ),
        WorkloadReason::AsEstimated => (
            "The pods were given what the estimate comes to. Only the UpToDate condition has this reason.",
            "Nothing.",
        ),
        WorkloadReason::EstimateGrown => (
            "The estimate comes to more than the pods were given, by a newer Loadline or a model that has changed, while the spec is the same. What runs is left as it is. Only the UpToDate condition has this reason.",
            "`kubectl annotate modeldeployment NAME loadline.dev/roll=\"$(date +%s)\" --overwrite` makes the pods anew.",
        ),
        WorkloadReason::NameTaken => (
            "The workload is a Deployment of the same name, and one that belongs to another is there already. It is left alone.",
            "Rename the ModelDeployment, or delete or rename the Deployment. It is looked at again every minute.",
        ),
        WorkloadReason::WorkloadRejected => (
            "The API server refuses the Deployment as invalid, mostly for something in spec.template or spec.engine.image; the object is stalled. The message is the API server's.",
            "Change the field that the message names.",
        ),
        WorkloadReason::WorkloadDenied => (
            "The Deployment is valid, and a quota, an admission webhook or policy, or a right that the controller lacks is in the way of writing it. Pods of an earlier spec run on. The message is the API server's.",
            "Do what the message asks for: raise the quota, satisfy the policy with spec.template, or see the chart's rights. It is tried again every 30 seconds.",
        ),
    }
}

/// The page that documents every reason, in Markdown.
#[must_use]
pub fn page() -> String {
    let mut page = String::from(
        "# Reasons\n\nA verdict is `fits`, `busy`, `unknown` or `rejected`, and it has one of these reasons, for a node or for an object as a whole. \
         They are stable: scripts may match them. `loadline plan` and the status use the same ones.\n",
    );
    for reason in Reason::ALL {
        // Writing to a String does not fail.
        let _ = write!(page, "\n## {reason}\n\n{}\n\nWhat to do: {}\n", meaning(*reason), remedy(*reason));
    }
    page.push_str(
        "\n# Reasons of the status alone\n\nThe conditions of a ModelDeployment, and its events, have the reasons above or one of these, which say how far its workload has come.\n",
    );
    for reason in WorkloadReason::ALL {
        let (meaning, remedy) = of_workload(*reason);
        let _ = write!(page, "\n## {reason}\n\n{meaning}\n\nWhat to do: {remedy}\n");
    }
    page
}
