//! What Loadline promises, on a real control plane: the API server with RBAC, the real scheduler, nodes and pods played
//! by kwok, the chart installed by Helm, and the controller with the chart's own rights.

mod admission;
mod agreement;
mod bad_input;
mod bindings;
mod definition;
mod devices;
mod edits;
mod failures;
mod faults;
mod guard;
mod honesty;
mod hub;
mod idle;
mod kubectl;
mod numbers;
mod placement;
mod promises;
mod reasons;
mod rollout;
mod scenario;
mod tenants;
mod upgrade;
