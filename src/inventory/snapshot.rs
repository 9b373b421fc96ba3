//! A snapshot from a file: what `kubectl get nodes,pods,resourceslices,resourceclaims -A -o json` prints, in JSON or YAML, in one document or several.

mod prune;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::resource::v1 as resource;
use serde::de::{
    Deserialize, DeserializeOwned, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor,
};
use serde_json::{Map, Value};

use self::prune::prune;
use super::{Claims, DeviceId, Node, Pod, Slice, Slices, Snapshot, held};
use crate::bounded::{BoundedValue, Budget};
use crate::units::shorten;

/// The largest snapshot that is read: more than ten thousand nodes as `kubectl` prints them.
pub const MAX_SNAPSHOT_BYTES: usize = 256 << 20;

/// What a snapshot must be, as the errors say it.
const EXPECTED: &str =
    "expected a v1 List of Nodes and Pods, as `kubectl get nodes,pods -A -o json` prints it";

/// Kinds that are read.
const KINDS: [&str; 4] = ["Node", "Pod", "ResourceSlice", "ResourceClaim"];

/// Kinds that may stand beside nodes and pods, and are passed over.
const PASSED_OVER: [&str; 4] = ["NodePool", "NodePoolList", "DeviceClass", "DeviceClassList"];

/// Brackets within brackets in YAML, whose scanner takes time for each level at every token.
const MAX_NESTING: usize = 1000;

/// Why a text is not a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// More text than is read.
    #[error("{bytes} bytes is more than a snapshot may have (at most {})", MAX_SNAPSHOT_BYTES)]
    TooLarge {
        /// Its length.
        bytes: usize,
    },
    /// Neither JSON nor YAML.
    #[error("document {document}: {problem}")]
    Syntax {
        /// Which document, from 1.
        document: usize,
        /// What is wrong, and where.
        problem: String,
    },
    /// Nothing in it.
    #[error("no document in it; {EXPECTED}")]
    Empty,
    /// A document that is not an object with a kind.
    #[error("document {document} has no kind; {EXPECTED}")]
    NoKind {
        /// Which document, from 1.
        document: usize,
    },
    /// A document of another kind, or a list of others only.
    #[error("document {document} holds {kind}; {EXPECTED}")]
    WrongKind {
        /// Which document, from 1.
        document: usize,
        /// The kind found.
        kind: String,
    },
    /// A node or pod that the API server would not accept.
    #[error("{kind} {name}: {field}: {problem}")]
    Object {
        /// `Node` or `Pod`.
        kind: &'static str,
        /// Its name, or where it stands in its list.
        name: String,
        /// The field.
        field: String,
        /// What is wrong, and what would be right.
        problem: String,
    },
}

impl Snapshot {
    /// A snapshot of these nodes and pods. Of pods that hold no extended resource, the sum by node is kept; of two with one
    /// name, the later counts.
    #[must_use]
    pub fn new(nodes: impl IntoIterator<Item = Node>, pods: impl IntoIterator<Item = Pod>) -> Self {
        let nodes = nodes.into_iter().map(|node| (node.name.clone(), Arc::new(node))).collect();
        let pods: BTreeMap<_, _> =
            pods.into_iter().map(|pod| ((pod.namespace.clone(), pod.name.clone()), pod)).collect();
        let (others, pods): (Vec<Pod>, Vec<Pod>) = pods.into_values().partition(Pod::is_other);
        let mut snapshot = Self { nodes, pods, ..Self::default() };
        snapshot.add_others(others);
        snapshot
    }

    /// Counts in pods of which only the sum is kept.
    pub(super) fn add_others(&mut self, pods: Vec<Pod>) {
        for pod in pods {
            if let (Some(node), false) = (pod.node, pod.finished) {
                let sum = self.others.entry(node).or_default();
                *sum = sum.plus(pod.host);
            }
        }
    }

    /// Reads a v1 List, NodeList, PodList, Node or Pod, in JSON or YAML, in one document or several. Other kinds in a
    /// List are passed over.
    ///
    /// # Errors
    /// See [`SnapshotError`].
    pub fn from_text(text: &str) -> Result<Self, SnapshotError> {
        if text.len() > MAX_SNAPSHOT_BYTES {
            return Err(SnapshotError::TooLarge { bytes: text.len() });
        }
        let text = text.trim_start_matches('\u{feff}');
        let mut reading = Reading::default();
        if text.trim_start().starts_with('{') {
            for (index, document) in
                serde_json::Deserializer::from_str(text).into_iter::<Document>().enumerate()
            {
                reading.document(index + 1, document.map_err(|error| error.to_string()))?;
            }
        } else {
            if nests_deeper_than(text, MAX_NESTING) {
                let problem = format!("brackets are nested more than {MAX_NESTING} deep; no snapshot's are");
                return Err(SnapshotError::Syntax { document: 1, problem });
            }
            let budget = Budget::for_text(text.len());
            for (index, document) in serde_yaml::Deserializer::from_str(text).enumerate() {
                let document = DocumentSeed(&budget).deserialize(document).map_err(|error| error.to_string());
                reading.document(index + 1, document)?;
            }
        }
        reading.finish()
    }
}

/// Whether so many brackets are open at once, those in text included.
fn nests_deeper_than(text: &str, limit: usize) -> bool {
    let mut depth = 0_usize;
    text.bytes().any(|byte| {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth > limit
    })
}

/// What has been read so far.
#[derive(Default)]
struct Reading {
    nodes: Vec<Node>,
    pods: Vec<Pod>,
    slices: Slices,
    claims: Claims,
    /// Whether any document could hold nodes.
    relevant: bool,
    /// Whether there was any node or pod.
    any: bool,
}

impl Reading {
    fn document(&mut self, number: usize, document: Result<Document, String>) -> Result<(), SnapshotError> {
        let document = document.map_err(|problem| SnapshotError::Syntax {
            document: number,
            problem: shorten_problem(&problem),
        })?;
        if document.empty {
            return Ok(());
        }
        let kind = document.kind.ok_or(SnapshotError::NoKind { document: number })?;
        match kind.as_str() {
            "List" => self.list(number, document.items, None),
            "NodeList" => self.list(number, document.items, Some("Node")),
            "PodList" => self.list(number, document.items, Some("Pod")),
            "ResourceSliceList" => self.list(number, document.items, Some("ResourceSlice")),
            "ResourceClaimList" => self.list(number, document.items, Some("ResourceClaim")),
            kind if KINDS.contains(&kind) => {
                let object = Value::Object(document.fields);
                self.keep(Read::new(kind, object, &format!("of document {number}"))?);
                Ok(())
            }
            kind if PASSED_OVER.contains(&kind) => Ok(()),
            _ => Err(SnapshotError::WrongKind { document: number, kind: shorten(&kind) }),
        }
    }

    fn list(&mut self, number: usize, items: Vec<Item>, all_are: Option<&str>) -> Result<(), SnapshotError> {
        // Devices alone are no cluster.
        self.relevant |= matches!(all_are, None | Some("Node" | "Pod"));
        let count = items.len();
        let mut other = None;
        for (index, item) in items.into_iter().enumerate() {
            // The items of a NodeList, as the API server sends it, have no kind of their own.
            let kind = item.kind.as_deref().or(all_are).map(ToOwned::to_owned);
            match kind.as_deref() {
                Some(kind) if KINDS.contains(&kind) => {
                    let content = match item.content {
                        Content::Object(object) => Read::new(kind, object, &at(index)),
                        Content::Read(read) => read,
                    };
                    self.keep(content?);
                    other = other.or(Some(None));
                }
                Some(kind) => {
                    let passed_over = PASSED_OVER.contains(&kind);
                    other =
                        if passed_over { Some(None) } else { other.or_else(|| Some(Some(kind.to_owned()))) };
                }
                None => {
                    return Err(SnapshotError::Object {
                        kind: "List",
                        name: format!("of document {number}"),
                        field: format!("items[{index}].kind"),
                        problem: "is missing; every item of a List has a kind".to_owned(),
                    });
                }
            }
        }
        let only_others = count > 0 && !self.any;
        match other {
            Some(Some(kind)) if only_others => Err(SnapshotError::WrongKind {
                document: number,
                kind: format!("a List of {}", shorten(&kind)),
            }),
            _ => Ok(()),
        }
    }

    fn keep(&mut self, read: Read) {
        self.any = true;
        match read {
            Read::Node(node) => {
                self.relevant = true;
                self.nodes.push(*node);
            }
            Read::Pod(pod) => {
                self.relevant = true;
                self.pods.push(*pod);
            }
            Read::Slice(None) => {}
            Read::Slice(Some(slice)) => {
                self.slices.insert(slice.name.clone(), slice);
            }
            Read::Claim(key, devices) if devices.is_empty() => {
                self.claims.remove(&key);
            }
            Read::Claim(key, devices) => {
                self.claims.insert(key, devices);
            }
        }
    }

    fn finish(self) -> Result<Snapshot, SnapshotError> {
        let Self { nodes, pods, slices, claims, relevant, .. } = self;
        if !relevant {
            return Err(SnapshotError::Empty);
        }
        Ok(Snapshot { slices, claims, ..Snapshot::new(nodes, pods) })
    }
}

/// The typed object, of a value that was pruned to what is used.
fn typed<T: DeserializeOwned>(kind: &'static str, object: Value, place: &str) -> Result<T, SnapshotError> {
    let name = object.pointer("/metadata/name").and_then(Value::as_str).map(str::to_owned);
    let error = |field: String, problem: String| SnapshotError::Object {
        kind,
        name: name.as_deref().map_or_else(|| place.to_owned(), |name| format!("\"{}\"", shorten(name))),
        field: shorten(&field),
        problem,
    };
    if name.as_deref().is_none_or(str::is_empty) {
        return Err(error("metadata.name".to_owned(), "is missing; every object has a name".to_owned()));
    }
    serde_path_to_error::deserialize(object).map_err(|problem| {
        let field = problem.path().to_string();
        let problem = problem.into_inner().to_string();
        let remedy = if problem.contains("expected a string") { "; put it in quotes" } else { "" };
        error(field, format!("{}{remedy}", shorten_problem(&problem)))
    })
}

/// A parser's own words, kept to a length that fits a terminal.
fn shorten_problem(problem: &str) -> String {
    const LONGEST: usize = 300;
    problem.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect()
}

/// One document, with its list's items already pruned.
#[derive(Default)]
struct Document {
    empty: bool,
    kind: Option<String>,
    items: Vec<Item>,
    fields: Map<String, Value>,
}

/// One item of a list.
struct Item {
    kind: Option<String>,
    content: Content,
}

/// What an item holds. Of a node or a pod only what Loadline uses is ever held: as a value, a large cluster takes several
/// times the memory of its text.
enum Content {
    /// A node or a pod, or what is wrong with it.
    Read(Result<Read, SnapshotError>),
    /// What it is, only the kind of its list can tell: pruned.
    Object(Value),
}

/// What was read.
enum Read {
    Node(Box<Node>),
    Pod(Box<Pod>),
    /// A slice, if it is of a driver of GPUs.
    Slice(Option<Arc<Slice>>),
    /// A claim, and the GPUs that it holds.
    Claim((String, String), BTreeSet<DeviceId>),
}

impl Read {
    /// Reads one of [`KINDS`].
    fn new(kind: &str, object: Value, place: &str) -> Result<Self, SnapshotError> {
        Ok(match kind {
            "Node" => {
                let node: core::Node = typed("Node", object, place)?;
                Self::Node(Box::new(Node::from_object(&node)))
            }
            "ResourceSlice" => {
                let slice: resource::ResourceSlice = typed("ResourceSlice", object, place)?;
                Self::Slice(Slice::from_object(&slice).map(Arc::new))
            }
            "ResourceClaim" => {
                let claim: resource::ResourceClaim = typed("ResourceClaim", object, place)?;
                let metadata = &claim.metadata;
                let namespace = metadata.namespace.clone().unwrap_or_else(|| "default".to_owned());
                Self::Claim((namespace, metadata.name.clone().unwrap_or_default()), held(&claim))
            }
            _ => {
                let pod: core::Pod = typed("Pod", object, place)?;
                Self::Pod(Box::new(Pod::from_object(&pod)))
            }
        })
    }
}

/// Where an item stands.
fn at(index: usize) -> String {
    format!("at items[{index}]")
}

struct DocumentSeed<'a>(&'a Budget);

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        DocumentSeed(&Budget::unlimited()).deserialize(deserializer)
    }
}

impl<'de> DeserializeSeed<'de> for DocumentSeed<'_> {
    type Value = Document;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Document, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for DocumentSeed<'_> {
    type Value = Document;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a Kubernetes object, such as a v1 List")
    }

    fn visit_unit<E: Error>(self) -> Result<Document, E> {
        Ok(Document { empty: true, ..Document::default() })
    }

    fn visit_none<E: Error>(self) -> Result<Document, E> {
        self.visit_unit()
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Document, A::Error> {
        let mut document = Document::default();
        while let Some(key) = entries.next_key::<String>()? {
            self.0.spend(key.len())?;
            if key == "items" {
                document.items = entries.next_value_seed(ItemsSeed(self.0))?;
                continue;
            }
            let value = entries.next_value_seed(BoundedValue(self.0))?;
            match (key.as_str(), value) {
                ("kind", Value::String(kind)) => document.kind = Some(kind),
                (_, value) => {
                    document.fields.insert(key, value);
                }
            }
        }
        prune(&mut document.fields);
        Ok(document)
    }
}

/// Reads a list item by item, so that only what is used of each is ever held.
struct ItemsSeed<'a>(&'a Budget);

impl<'de> DeserializeSeed<'de> for ItemsSeed<'_> {
    type Value = Vec<Item>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<Item>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ItemsSeed<'_> {
    type Value = Vec<Item>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of Kubernetes objects")
    }

    fn visit_unit<E: Error>(self) -> Result<Vec<Item>, E> {
        Ok(Vec::new())
    }

    fn visit_none<E: Error>(self) -> Result<Vec<Item>, E> {
        Ok(Vec::new())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Vec<Item>, A::Error> {
        let mut items = Vec::new();
        while let Some(mut object) = elements.next_element_seed(BoundedValue(self.0))? {
            let kind = object.get("kind").and_then(Value::as_str).map(str::to_owned);
            if let Some(fields) = object.as_object_mut() {
                prune(fields);
            }
            let content = match kind.as_deref() {
                Some(kind) if KINDS.contains(&kind) => {
                    Content::Read(Read::new(kind, object, &at(items.len())))
                }
                // It is passed over, or what its list says it is not.
                Some(_) => Content::Object(Value::Null),
                None => Content::Object(object),
            };
            items.push(Item { kind, content });
        }
        Ok(items)
    }
}

#[cfg(test)]
mod tests;
