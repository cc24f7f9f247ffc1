//! A spinner on a terminal for what takes longer than a second.

use std::io::IsTerminal as _;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What takes less is not worth a flicker.
const PATIENCE: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(120);

/// Shows that something goes on; ends with the value.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    stop: Option<Sender<()>>,
    waiting: Option<JoinHandle<()>>,
}

impl Progress {
    /// Begins to wait. Nothing is ever shown where standard error is no terminal, or if `quiet`.
    pub(crate) fn start(quiet: bool) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden())
            .with_style(ProgressStyle::default_spinner())
            .with_message("working");
        if quiet || !std::io::stderr().is_terminal() {
            return Self { bar, stop: None, waiting: None };
        }
        let (stop, stopped) = channel();
        let shown = bar.clone();
        let waiting = std::thread::spawn(move || {
            if stopped.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                shown.set_draw_target(ProgressDrawTarget::stderr());
                shown.enable_steady_tick(TICK);
                // Until the value is dropped.
                let _ = stopped.recv();
            }
            shown.finish_and_clear();
        });
        Self { bar, stop: Some(stop), waiting: Some(waiting) }
    }

    /// Writes something while no spinner is in the way.
    pub(crate) fn suspend<T>(&self, write: impl FnOnce() -> T) -> T {
        self.bar.suspend(write)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(waiting) = self.waiting.take() {
            // A spinner that could not be drawn changes no result.
            let _ = waiting.join();
        }
    }
}
