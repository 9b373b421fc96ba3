//! Many questions a second, and an address that several replicas are behind.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use kube::api::{Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::DynamicObject;
use kube::{Api, Client, Config};

use super::super::scenario::{Scenario, model_deployment};
use crate::controlplane::harness::free_ports;

/// Passes connections on to the backends in turn.
pub(super) struct Balancer {
    /// Where it listens.
    pub(super) port: u16,
    backends: Arc<Mutex<Vec<Backend>>>,
}

/// A replica, as the balancer sees it.
struct Backend {
    port: u16,
    is_in: bool,
    /// Connections that are open to it.
    open: Arc<AtomicUsize>,
}

impl Balancer {
    /// Two backends, both in.
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let [first, second] = free_ports().unwrap();
        let backend = |port| Backend { port, is_in: true, open: Arc::default() };
        let backends = Arc::new(Mutex::new(vec![backend(first), backend(second)]));
        let (all, next) = (Arc::clone(&backends), AtomicUsize::new(0));
        // It ends with the process: what comes when the scenario is over finds nobody.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let all = all.lock().unwrap();
                let among: Vec<&Backend> = all.iter().filter(|backend| backend.is_in).collect();
                let Some(to) = among.get(next.fetch_add(1, Ordering::Relaxed) % among.len().max(1)) else {
                    continue;
                };
                if let Ok(server) = TcpStream::connect(("127.0.0.1", to.port)) {
                    join(client, server, &to.open);
                }
            }
        });
        Self { port, backends }
    }

    pub(super) fn backends(&self) -> Vec<u16> {
        self.backends.lock().unwrap().iter().map(|backend| backend.port).collect()
    }

    /// Sends nobody there any more; how many connections are open to it still.
    pub(super) fn take_out(&self, at: usize) -> usize {
        let backend = &mut self.backends.lock().unwrap()[at];
        backend.is_in = false;
        backend.open.load(Ordering::Relaxed)
    }

    pub(super) fn put_in(&self, at: usize) {
        self.backends.lock().unwrap()[at].is_in = true;
    }

    /// As a Service learns of what has become of its pods: late.
    pub(super) fn take_out_after(&self, at: usize, lag: Duration) -> JoinHandle<()> {
        let backends = Arc::clone(&self.backends);
        thread::spawn(move || {
            thread::sleep(lag);
            backends.lock().unwrap()[at].is_in = false;
        })
    }
}

/// Passes bytes both ways until one side ends.
fn join(client: TcpStream, server: TcpStream, open: &Arc<AtomicUsize>) {
    open.fetch_add(1, Ordering::Relaxed);
    let pass = |mut from: TcpStream, mut to: TcpStream, open: Option<Arc<AtomicUsize>>| {
        thread::spawn(move || {
            let mut buffer = [0; 16 << 10];
            loop {
                match from.read(&mut buffer) {
                    Ok(0) | Err(_) => break,
                    Ok(count) => {
                        if to.write_all(&buffer[..count]).is_err() {
                            break;
                        }
                    }
                }
            }
            let _: io::Result<()> = to.shutdown(Shutdown::Both).and(from.shutdown(Shutdown::Both));
            if let Some(open) = open {
                open.fetch_sub(1, Ordering::Relaxed);
            }
        });
    };
    let _ = client.set_nodelay(true).and(server.set_nodelay(true));
    pass(client.try_clone().unwrap(), server.try_clone().unwrap(), None);
    pass(server, client, Some(Arc::clone(open)));
}

/// What became of the questions.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Those that were let through.
    pub(super) answered: usize,
    /// What was said of the others.
    pub(super) failed: BTreeMap<String, usize>,
    /// The slowest.
    pub(super) slowest: Duration,
}

/// So many dry runs of an apply each second, until it is stopped.
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Counts>,
}

impl Load {
    pub(super) fn start(s: &Scenario, per_second: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let (kubeconfig, namespace) = (s.cluster.plane.kubeconfig.clone(), s.namespace.clone());
        let task = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
                let mut config =
                    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
                config.default_retry = false;
                let client = Client::try_from(config).unwrap();
                let resource = kube::core::ApiResource::erase::<loadline::api::ModelDeployment>(&());
                let objects: Api<DynamicObject> = Api::namespaced_with(client, &namespace, &resource);
                let object = model_deployment(
                    "load",
                    &serde_json::json!({"model": {"parameters": "8B"}, "precision": "int4"}),
                );
                let mut counts = Counts::default();
                let mut each = tokio::time::interval(Duration::from_secs(1) / per_second);
                let mut running = tokio::task::JoinSet::new();
                while !stopped.load(Ordering::Relaxed) || !running.is_empty() {
                    tokio::select! {
                        _ = each.tick() => {
                            if !stopped.load(Ordering::Relaxed) {
                                let (objects, object) = (objects.clone(), object.clone());
                                running.spawn(async move {
                                    let started = Instant::now();
                                    let parameters = PatchParams::apply("load").dry_run();
                                    let patch = Patch::Apply(&object);
                                    let answer = objects.patch("load", &parameters, &patch).await;
                                    let said = answer.err().map(|error| match error {
                                        kube::Error::Api(status) => status.message,
                                        other => other.to_string(),
                                    });
                                    (said, started.elapsed())
                                });
                            }
                        }
                        Some(ended) = running.join_next() => {
                            let (error, took) = ended.unwrap();
                            counts.slowest = counts.slowest.max(took);
                            match error {
                                None => counts.answered += 1,
                                Some(error) => *counts.failed.entry(error).or_default() += 1,
                            }
                        }
                    }
                }
                counts
            })
        });
        Self { stop, task }
    }

    pub(super) fn stop(self) -> Counts {
        self.stop.store(true, Ordering::Relaxed);
        self.task.join().unwrap()
    }
}
