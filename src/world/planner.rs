//! Where plans are made: not on the threads that answer probes and follow watches, and only a few at a time.

use super::decisions::panic_text;
use super::turns::Turns;

/// Makes plans, a few at a time, on threads that may take long. No namespace has all of them.
#[derive(Debug)]
pub struct Planner(Turns);

/// Planning panicked: a defect, which concerns the one object alone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("planning it broke off, which is a defect of Loadline: {0}")]
pub struct Broken(pub String);

impl Default for Planner {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from).max(2);
        Self(Turns::new(cores, cores / 2))
    }
}

impl Planner {
    /// Does a piece of work for an object of a namespace.
    ///
    /// # Errors
    /// If it panics.
    pub async fn run<T: Send + 'static>(
        &self,
        namespace: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Broken> {
        let turn = self.0.take(namespace).await;
        let task = tokio::task::spawn_blocking(move || {
            // Whoever waits for the work may be gone: the thread is taken all the same.
            let _turn = turn;
            work()
        });
        task.await.map_err(|error| {
            let text = error.try_into_panic().map(|panic| panic_text(panic.as_ref()));
            Broken(text.unwrap_or_else(|error| error.to_string()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_error_and_the_next_one_works() {
        let planner = Planner::default();
        assert_eq!(planner.run("a", || 7).await, Ok(7));
        for _ in 0..64 {
            let broken = planner.run("a", || std::panic::resume_unwind(Box::new("a defect"))).await;
            assert_eq!(broken, Err::<(), _>(Broken("a defect".to_owned())));
        }
        assert_eq!(planner.run("a", || 8).await, Ok(8));
    }
}
