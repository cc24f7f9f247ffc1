//! The signals that ask a command to end.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGHUP, SIGINT and SIGTERM, from now on.
#[derive(Debug)]
pub(crate) struct Signals([(Signal, u8); 3]);

impl Signals {
    /// Takes the signals. They end the process no more by themselves.
    pub(crate) fn take() -> io::Result<Self> {
        let take = |kind: SignalKind, number| Ok::<_, io::Error>((signal(kind)?, number));
        Ok(Self([
            take(SignalKind::hangup(), 1)?,
            take(SignalKind::interrupt(), 2)?,
            take(SignalKind::terminate(), 15)?,
        ]))
    }

    /// Waits for one and gives its number.
    pub(crate) async fn next(&mut self) -> u8 {
        let [(hangup, hangup_number), (interrupt, interrupt_number), (terminate, terminate_number)] = &mut self.0;
        tokio::select! {
            _ = hangup.recv() => *hangup_number,
            _ = interrupt.recv() => *interrupt_number,
            _ = terminate.recv() => *terminate_number,
        }
    }
}
