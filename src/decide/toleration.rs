//! Whether a taint keeps a pod off a node, as kube-scheduler's taint and unschedulable plugins decide it.

use super::Toleration;
use crate::inventory::{GpuPool, Taint};

/// The taint of a cordoned node.
pub(super) const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// The taints of a node that is not ready.
pub(super) const NOT_READY: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

/// Whether a taint keeps off pods that do not tolerate it. `PreferNoSchedule` does not.
pub(super) fn keeps_off(taint: &Taint) -> bool {
    matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute")
}

/// Whether any of the tolerations is for this taint.
pub(super) fn tolerated(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations.iter().any(|toleration| {
        let key = if toleration.key.is_empty() { toleration.exists } else { toleration.key == taint.key };
        let effect = toleration.effect.is_empty() || toleration.effect == taint.effect;
        let value = toleration.exists || toleration.value == taint.value;
        key && effect && value
    })
}

/// Whether a taint is the GPU's own: its key is the resource that the pod requests. Kubernetes' admission plugin
/// ExtendedResourceToleration set that convention, and the pods that Loadline writes tolerate it.
pub(super) fn is_gpu_taint(taint: &Taint, pool: &GpuPool) -> bool {
    taint.key == pool.resource || taint.key == pool.vendor.resource()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tolerations_match_as_in_kubernetes() {
        let taint = Taint { key: "team".into(), value: "a".into(), effect: "NoSchedule".into() };
        let toleration = |key: &str, exists, value: &str, effect: &str| Toleration {
            key: key.into(),
            exists,
            value: value.into(),
            effect: effect.into(),
        };
        for (toleration, expected) in [
            (toleration("team", false, "a", "NoSchedule"), true),
            (toleration("team", false, "a", ""), true),
            (toleration("team", false, "b", "NoSchedule"), false),
            (toleration("team", false, "a", "NoExecute"), false),
            (toleration("team", true, "", ""), true),
            (toleration("team", true, "b", "NoSchedule"), true),
            (toleration("other", true, "", ""), false),
            (toleration("", true, "", ""), true),
            (toleration("", true, "", "NoExecute"), false),
            (toleration("", false, "a", ""), false),
        ] {
            assert_eq!(tolerated(std::slice::from_ref(&toleration), &taint), expected, "{toleration:?}");
        }
        assert!(!tolerated(&[], &taint));
    }
}
