//! Tasks that are to last as long as the process. One that ends, or panics, ends the process, which then says its name:
//! a controller that has gone deaf to one kind of event must not look well.

use std::collections::HashMap;

use tokio::task::{Id, JoinSet};

use super::decisions::panic_text;

/// Tasks that are to last, each with its name. They end when this is dropped.
#[derive(Debug, Default)]
pub struct Tasks {
    running: JoinSet<()>,
    names: HashMap<Id, &'static str>,
}

/// A task that was to last has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its name.
    pub task: &'static str,
    /// What the panic said, if that is what ended it.
    pub panic: Option<String>,
}

impl Tasks {
    /// Starts a task.
    pub fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let id = self.running.spawn(task).id();
        self.names.insert(id, name);
    }

    /// Waits until one ends; for ever if there is none.
    pub async fn ended(&mut self) -> Ended {
        let Some(ended) = self.running.join_next_with_id().await else {
            return std::future::pending().await;
        };
        let (id, panic) = match ended {
            Ok((id, ())) => (id, None),
            Err(error) => {
                let id = error.id();
                (id, error.try_into_panic().ok().map(|panic| panic_text(panic.as_ref())))
            }
        };
        Ended { task: self.names.remove(&id).unwrap_or("a task"), panic }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_ends_is_named_with_what_its_panic_said() {
        let mut tasks = Tasks::default();
        tasks.spawn("the one that lasts", std::future::pending());
        tasks.spawn("the one that ends", async {});
        assert_eq!(tasks.ended().await, Ended { task: "the one that ends", panic: None });
        tasks.spawn("the one that panics", async {
            std::panic::resume_unwind(Box::new("a defect".to_owned()))
        });
        let ended = Ended { task: "the one that panics", panic: Some("a defect".to_owned()) };
        assert_eq!(tasks.ended().await, ended);
    }
}
