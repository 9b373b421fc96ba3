//! What the endpoints of the cluster answer: the same documents as `loadline nodes`, `doctor` and `plan` print.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::ModelDeploymentSpec;
use crate::inventory::Inventory;
use crate::plan::{Permits, Subject};
use crate::render::json::{self, NodesDocument};
use crate::render::{Found, Origin, Outcome};

use super::models::Models;

/// The most objects of one request.
pub(super) const MOST_OBJECTS: usize = 64;

/// An object of a cluster, or of files.
#[derive(Clone, Debug)]
pub struct Object {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its spec, or every fault.
    pub spec: Result<Box<ModelDeploymentSpec>, Vec<String>>,
}

/// A cluster at one moment, and the objects that are to run there.
#[derive(Debug)]
pub struct Cluster {
    /// Its nodes and pods.
    pub inventory: Inventory,
    /// Its ModelDeployments.
    pub objects: Vec<Object>,
}

/// An object as it was given.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct ObjectDocument {
    namespace: String,
    name: String,
    /// Null where it is none: `plan` says why.
    spec: Option<ModelDeploymentSpec>,
}

/// What is to be planned.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PlanRequest {
    /// Objects; those that the server was given where there are none.
    #[serde(default)]
    pub(super) objects: Vec<PlannedObject>,
}

/// An object to be planned.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PlannedObject {
    /// Its namespace.
    #[serde(default = "default_namespace")]
    namespace: String,
    /// Its name.
    name: String,
    /// Its spec.
    pub(super) spec: ModelDeploymentSpec,
}

fn default_namespace() -> String {
    "default".to_owned()
}

impl Cluster {
    /// What `loadline nodes -o json` prints.
    pub(super) fn nodes(&self) -> NodesDocument {
        json::nodes(&self.inventory)
    }

    /// What `loadline doctor -o json` prints.
    pub(super) fn doctor(&self) -> NodesDocument {
        json::problems(&self.inventory)
    }

    /// The objects that it was given.
    pub(super) fn objects(&self) -> Vec<ObjectDocument> {
        let document = |object: &Object| ObjectDocument {
            namespace: object.namespace.clone(),
            name: object.name.clone(),
            spec: object.spec.as_ref().ok().map(|spec| (**spec).clone()),
        };
        self.objects.iter().map(document).collect()
    }

    /// What comes of the objects of a request, or of the cluster's own.
    pub(super) fn plan(&self, request: &PlanRequest, models: &Models) -> Vec<Outcome> {
        if request.objects.is_empty() {
            let own = |object: &Object| self.outcome(&object.namespace, &object.name, &object.spec, models);
            return self.objects.iter().map(own).collect();
        }
        let asked = |object: &PlannedObject| {
            let spec = Ok(Box::new(object.spec.clone()));
            self.outcome(&object.namespace, &object.name, &spec, models)
        };
        request.objects.iter().map(asked).collect()
    }

    fn outcome(
        &self,
        namespace: &str,
        name: &str,
        spec: &Result<Box<ModelDeploymentSpec>, Vec<String>>,
        models: &Models,
    ) -> Outcome {
        let found = match spec {
            Err(faults) => Found::Malformed(faults.clone()),
            Ok(spec) => {
                let subject = Subject { namespace, name, spec, roll: None, running: None };
                let shape = || models.shape(spec).map_err(|problem| Found::Unresolved(problem.message));
                Found::of(subject, &Permits::default(), &self.inventory, shape)
            }
        };
        Outcome {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            origin: Origin::default(),
            workload: None,
            found,
        }
    }
}
