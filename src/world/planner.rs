//! Where plans are made: not on the threads that answer probes and follow watches, and only a few at a time.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::decisions::panic_text;

/// Makes plans, a few at a time, on threads that may take long.
#[derive(Clone, Debug)]
pub struct Planner(Arc<Semaphore>);

/// Planning panicked: a defect, which concerns the one object alone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("planning it broke off, which is a defect of Loadline: {0}")]
pub struct Broken(pub String);

impl Default for Planner {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self(Arc::new(Semaphore::new(cores)))
    }
}

impl Planner {
    /// Does a piece of work.
    ///
    /// # Errors
    /// If it panics.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Broken> {
        // It is never closed.
        let permit = Arc::clone(&self.0).acquire_owned().await.ok();
        let task = tokio::task::spawn_blocking(move || {
            let _permit = permit;
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
        assert_eq!(planner.run(|| 7).await, Ok(7));
        for _ in 0..64 {
            let broken = planner.run(|| std::panic::resume_unwind(Box::new("a defect"))).await;
            assert_eq!(broken, Err::<(), _>(Broken("a defect".to_owned())));
        }
        assert_eq!(planner.run(|| 8).await, Ok(8));
    }
}
