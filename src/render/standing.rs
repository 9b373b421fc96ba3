//! The words for how an object's workload stands: the message of Ready, and of what goes with it.

use super::message;
use super::text::{clip, printable, quoted};
use crate::engine;
use crate::launch::Nothing;
use crate::launch::deployment::Replacement;
use crate::launch::failure::FailureKind;
use crate::launch::record::ROLL_ANNOTATION;
use crate::launch::rollout::Rollout;
use crate::launch::standing::{Standing, Wanted};
use crate::plan::Plan;
use crate::precision::Engine;

/// Why nothing runs, and what would make something run.
#[must_use]
pub fn nothing(nothing: &Nothing) -> String {
    match nothing {
        Nothing::Training => "estimate only: no workload is made of training".to_owned(),
        Nothing::NoEngine => "estimate only: engine.name is none, and neither an image nor a template says what to run".to_owned(),
        Nothing::NoModel => "nothing runs: nothing says where the weights are; set model.huggingFace or model.catalog, name the model in engine.args, bring an image that holds it (engine.image), or set engine.name: none to ask for the estimate alone".to_owned(),
        Nothing::NoImage(engine) => format!(
            "cannot run: {engine} has no image of its own; set engine.image or a template, or engine.name: none to ask for the estimate alone"
        ),
        Nothing::NoCheckpoint { repository, precision, engine, elsewhere: Some(other), .. } => format!(
            "cannot run: {engine} cannot load {} as {precision}; {} holds {}: set model.huggingFace.repository, or set another precision",
            quoted(repository),
            other.repository,
            if other.base == repository { "it".to_owned() } else { format!("{} in that format", other.base) }
        ),
        Nothing::NoCheckpoint { repository, precision, engine, loads: false, .. } => {
            let others: Vec<&str> = engine::loaders(*precision).map(Engine::as_str).collect();
            let other = match others.as_slice() {
                [] => String::new(),
                others => format!(", or engine.name: {}", others.join(" or ")),
            };
            format!(
                "cannot run: {engine} cannot load {} as {precision}, for it loads no such checkpoints; set another precision{other}",
                quoted(repository)
            )
        }
        Nothing::NoCheckpoint { repository, precision, engine, elsewhere: None, .. } => format!(
            "cannot run: {engine} cannot load {} as {precision}; name a repository that holds {precision} (model.huggingFace), or set another precision",
            quoted(repository)
        ),
        Nothing::WrongFiles { place, gguf: true, engine } => format!(
            "cannot run: {engine} does not load the GGUF file of {}; set engine.name: llama-cpp, or name a repository with safetensors (model.huggingFace)",
            quoted(place)
        ),
        Nothing::WrongFiles { place, gguf: false, engine } => format!(
            "cannot run: {engine} loads GGUF files, and {} has safetensors; name a file with model.gguf, or set engine.name: vllm",
            quoted(place)
        ),
    }
}

/// What runs by an earlier spec, where nothing new can be made of this one.
#[must_use]
pub fn serves_on(ready: i32) -> String {
    match ready {
        ..=0 => String::new(),
        1 => "; 1 ready pod of an earlier spec serves on".to_owned(),
        ready => format!("; {ready} ready pods of an earlier spec serve on"),
    }
}

/// The message of Ready.
#[must_use]
pub fn standing(standing: &Standing, plan: &Plan, name: &str, wanted: Wanted, rollout: &Rollout) -> String {
    let needs = || super::needs(&plan.estimate, plan.margin, &plan.requirement);
    let replicas = wanted.replicas;
    let child = rollout.child();
    let ready = child.map_or(0, |child| child.ready);
    let counted = format!("{} of {replicas} replicas ready", ready.min(replicas));
    let serves_on = serves_on(ready);
    let old = child.map_or(0, |child| child.replicas.saturating_sub(child.updated));
    let beside_old = if old > 0 { "; the old pods serve on" } else { "" };
    let text = match standing {
        Standing::EstimateOnly(why) => format!("{}; {}", nothing(why), needs()),
        Standing::CannotRun(why) => format!("{}{serves_on}; {}", nothing(why), needs()),
        Standing::NeverFits => format!("{}{serves_on}", message(plan)),
        Standing::NoRoom | Standing::Progressing if child.is_none() => message(plan),
        Standing::NoRoom => format!("{}{beside_old}", message(plan)),
        Standing::NameTaken => {
            format!("a Deployment {name} is there already and belongs to another; rename one of them")
        }
        Standing::Predecessor => {
            format!("waiting for the Deployment of the earlier ModelDeployment {name} to be deleted")
        }
        Standing::Rejected(why) => format!("the API server refuses the Deployment: {why}{serves_on}"),
        Standing::Denied(why) => format!("the Deployment is not allowed now, and is tried again: {why}"),
        Standing::ScaledToZero => format!("spec.replicas is 0, and nothing runs; {}", message(plan)),
        // Of room for some the plan's own message says for how many.
        Standing::Available | Standing::Progressing | Standing::RoomForSome { .. } => {
            format!("{counted}; {}", message(plan))
        }
        Standing::CreationFailed(why) => format!("{counted}; {}{beside_old}", printable(why)),
        Standing::Overdue(why) => {
            format!("{counted} when the deadline passed: {}{beside_old}", printable(why))
        }
        Standing::Failing { failure, is_overdue } => {
            let overdue = if *is_overdue { " when the deadline passed" } else { "" };
            let container = if failure.container.is_empty() {
                String::new()
            } else {
                format!("container {} ", quoted(&failure.container))
            };
            let said = printable(&failure.said);
            let what = match failure.kind {
                FailureKind::GpuMemory => format!(
                    "{container}ran out of GPU memory ({said}), where {} was estimated; raise safetyMargin above {}, or lower context.length or context.sequences",
                    needs(),
                    plan.margin
                ),
                FailureKind::HostMemory => format!(
                    "{container}ran out of host memory ({said}); raise the memory limit in spec.template"
                ),
                FailureKind::Image => format!("the image of {container}cannot be pulled ({said})"),
                FailureKind::Creation => format!("{container}cannot be created ({said})"),
                FailureKind::Crash => format!("{container}fails ({said})"),
                FailureKind::Pod => format!("a pod was ended ({said})"),
                FailureKind::Scheduling => format!("kube-scheduler finds no node: {said}"),
            };
            format!("{counted}{overdue}; {what}{beside_old}")
        }
        Standing::Replacing(how) => {
            let what = match how {
                Replacement::Surge => {
                    "a new pod waits until a GPU is free beside those of the old pods, which serve on (rollout: InPlace lets it take theirs)"
                }
                Replacement::InPlace(_) | Replacement::Recreate => {
                    "a new pod waits for the GPU of an old one, which goes first: no other is free"
                }
            };
            format!("{counted}; {what}; {}", needs())
        }
    };
    clip(text)
}

/// The message of UpToDate: what the pods were given, and what is needed by now.
#[must_use]
pub fn up_to_date(plan: &Plan, name: &str) -> String {
    let given = plan.decision.requirement;
    if !plan.is_outgrown() {
        return format!(
            "the pods were given {} per GPU on {}",
            given.per_gpu,
            super::text::counted(given.gpus, "GPU")
        );
    }
    clip(format!(
        "the pods were given {} per GPU on {}, and the model {} by now; they are left as they are: `kubectl annotate modeldeployment {name} {ROLL_ANNOTATION}=\"$(date +%s)\" --overwrite` in its namespace makes them anew",
        given.per_gpu,
        super::text::counted(given.gpus, "GPU"),
        super::needs(&plan.estimate, plan.margin, &plan.requirement)
    ))
}

/// The message of an object whose plan is at hand: why it cannot be run, or the cluster's answer.
#[must_use]
pub fn planned(plan: &Plan) -> String {
    match plan.launch.obstacle() {
        Some(obstacle) if plan.launch.impossibility().is_some() => {
            clip(format!("{}; {}", nothing(obstacle), message(plan)))
        }
        Some(obstacle) => clip(format!("{}; {}", message(plan), nothing(obstacle))),
        None => message(plan),
    }
}
