//! The endpoints' own documentation, made from the types that they read and write: OpenAPI 3.1.

use schemars::generate::{Contract, SchemaGenerator, SchemaSettings};
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value, json};

use super::answers::{ChoicesDocument, EstimateRequest, NamedDocument, NamedRequest, ViewDocument};
use super::cluster::{ObjectDocument, PlanRequest};
use super::measured::MeasuredRow;
use super::models::UploadDocument;
use super::problem::Problem;
use super::{AboutDocument, UPLOADS};
use crate::render::json::{CardDocument, EstimateDocument, ModelEntry, NodesDocument, PlanDocument};

type Of = fn(&mut SchemaGenerator) -> Schema;

/// What an endpoint reads.
enum Reads {
    /// Nothing.
    Nothing,
    /// A parameter of the address, with what it is.
    Parameter(&'static str, &'static str),
    /// A file.
    File,
    /// A document.
    Document(Of),
}

struct Endpoint {
    path: &'static str,
    summary: &'static str,
    reads: Reads,
    writes: Of,
}

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

const ENDPOINTS: &[Endpoint] = &[
    Endpoint {
        path: "/api/v1/about",
        summary: "What this server may do",
        reads: Reads::Nothing,
        writes: of::<AboutDocument>,
    },
    Endpoint {
        path: "/api/v1/models",
        summary: "The built-in catalog: what `loadline estimate --list-models -o json` prints",
        reads: Reads::Nothing,
        writes: of::<Vec<ModelEntry>>,
    },
    Endpoint {
        path: "/api/v1/gpus",
        summary: "The GPUs that have a name: what `loadline estimate --list-gpus -o json` prints",
        reads: Reads::Nothing,
        writes: of::<Vec<CardDocument>>,
    },
    Endpoint {
        path: "/api/v1/choices",
        summary: "The values of every closed list of a spec",
        reads: Reads::Nothing,
        writes: of::<ChoicesDocument>,
    },
    Endpoint {
        path: "/api/v1/measured",
        summary: "What real engines were measured to take of a model",
        reads: Reads::Parameter("model", "The model's repository, as organisation/name"),
        writes: of::<Vec<MeasuredRow>>,
    },
    Endpoint {
        path: "/api/v1/named",
        summary: "What a text stands for: a size, a model of the catalog, a repository, an address of the Hub",
        reads: Reads::Document(of::<NamedRequest>),
        writes: of::<NamedDocument>,
    },
    Endpoint {
        path: UPLOADS,
        summary: "Reads a config.json, or the header of a safetensors or GGUF file: its first MiB, without the weights",
        reads: Reads::File,
        writes: of::<UploadDocument>,
    },
    Endpoint {
        path: "/api/v1/estimate",
        summary: "What a model needs: what `loadline estimate -o json` prints",
        reads: Reads::Document(of::<EstimateRequest>),
        writes: of::<EstimateDocument>,
    },
    Endpoint {
        path: "/api/v1/view",
        summary: "An estimate with all that the page shows beside it",
        reads: Reads::Document(of::<EstimateRequest>),
        writes: of::<ViewDocument>,
    },
    Endpoint {
        path: "/api/v1/nodes",
        summary: "The nodes of the cluster: what `loadline nodes -o json` prints",
        reads: Reads::Nothing,
        writes: of::<NodesDocument>,
    },
    Endpoint {
        path: "/api/v1/doctor",
        summary: "The labels that cannot be believed: what `loadline doctor -o json` prints",
        reads: Reads::Nothing,
        writes: of::<NodesDocument>,
    },
    Endpoint {
        path: "/api/v1/objects",
        summary: "The ModelDeployments that the server was given",
        reads: Reads::Nothing,
        writes: of::<Vec<ObjectDocument>>,
    },
    Endpoint {
        path: "/api/v1/plan",
        summary: "The verdict of each object on each node: what `loadline plan -o json` prints",
        reads: Reads::Document(of::<PlanRequest>),
        writes: of::<PlanDocument<'static>>,
    },
];

/// The document.
#[must_use]
pub fn document() -> Value {
    let generator = |contract| {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
            settings.contract = contract;
        });
        settings.into_generator()
    };
    let (mut reading, mut writing) = (generator(Contract::Deserialize), generator(Contract::Serialize));
    let content = |schema: Schema| json!({"application/json": {"schema": schema}});
    let problem = json!({"description": "Why it is not answered", "content": content(writing.subschema_for::<Problem>())});
    let mut paths = Map::new();
    for endpoint in ENDPOINTS {
        let answer =
            json!({"description": endpoint.summary, "content": content((endpoint.writes)(&mut writing))});
        let mut operation = json!({
            "summary": endpoint.summary,
            "operationId": endpoint.path.rsplit('/').next().unwrap_or(endpoint.path),
            "responses": {"200": answer, "4XX": problem, "5XX": problem},
        });
        let method = match endpoint.reads {
            Reads::Nothing => "get",
            Reads::Parameter(name, what) => {
                operation["parameters"] =
                    json!([{"name": name, "in": "query", "description": what, "schema": {"type": "string"}}]);
                "get"
            }
            Reads::File => {
                operation["requestBody"] =
                    json!({"required": true, "content": {"application/octet-stream": {}}});
                "post"
            }
            Reads::Document(of) => {
                operation["requestBody"] = json!({"required": true, "content": content(of(&mut reading))});
                "post"
            }
        };
        let mut item = Map::new();
        item.insert(method.to_owned(), operation);
        paths.insert(endpoint.path.to_owned(), Value::Object(item));
    }
    let mut schemas = writing.take_definitions(true);
    schemas.extend(reading.take_definitions(true));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Loadline",
            "description": "What GPU memory a model needs, and which nodes have it. Nothing is written. Bytes are integers.",
            "version": "v1",
            "license": {"name": "Apache-2.0"},
        },
        "paths": paths,
        "components": {"schemas": schemas},
    })
}
