//! The activation: one call, tried again while the Coordinator is unreachable or busy.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use marblerun_api::rpc::{ActivationReq, Parameters};

use crate::config::CoordinatorAddress;
use crate::connection::{self, Answer, TryError};
use crate::credentials::Credentials;
use crate::progress::Event;
use crate::tls;

/// Pause after the first failure; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Longest pause: a Coordinator that comes back is noticed soon.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// A last call that starts just before the end still gets so much time for its answer (but not more than the whole).
const SHORTEST_CALL: Duration = Duration::from_secs(10);

/// Time and chance; a trait so that tests need not wait.
pub trait Pace {
    /// Time since the activation began.
    fn elapsed(&self) -> Duration;
    /// Waits.
    fn sleep(&mut self, pause: Duration);
    /// A random number, for jitter: Marbles that failed together must not return together.
    fn random(&mut self) -> u8;
}

/// The clock and the random number generator of the system.
#[derive(Debug)]
pub struct SystemPace {
    started: Instant,
}

impl SystemPace {
    /// The activation begins now.
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }
}

impl Pace for SystemPace {
    fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    fn sleep(&mut self, pause: Duration) {
        thread::sleep(pause);
    }

    fn random(&mut self) -> u8 {
        let mut byte = [0];
        // Without randomness there is no jitter, which is no reason to give up.
        let _ = aws_lc_rs::rand::fill(&mut byte);
        byte[0]
    }
}

/// Why the Marble was not activated.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum ActivationError {
    /// The Coordinator's answer, or something that waiting does not change.
    #[error(transparent)]
    Refused(TryError),
    /// It was tried until the time was over.
    #[error("gave up after {}", effort(*tries, *timeout))]
    TimedOut {
        /// How often it was tried.
        tries: u32,
        /// The configured time.
        timeout: Duration,
        /// The last failure.
        source: TryError,
    },
    /// The credentials cannot be used for TLS.
    #[error("cannot set up TLS")]
    Tls(#[source] rustls::Error),
    /// The event loop cannot be made.
    #[error("cannot set up the event loop")]
    EventLoop(#[source] std::io::Error),
    /// The answer has no parameters.
    #[error("expected parameters in the Coordinator's answer, got none")]
    NoParameters,
}

fn effort(tries: u32, timeout: Duration) -> String {
    match (tries, timeout.as_secs()) {
        (1, 0) => "1 try".to_owned(),
        (1, seconds) => format!("1 try in {seconds} s"),
        (tries, seconds) => format!("{tries} tries in {seconds} s"),
    }
}

impl ActivationError {
    /// What the operator can do next; the message stands without it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Refused(error) | Self::TimedOut { source: error, .. } => error.hint(),
            Self::Tls(_) | Self::EventLoop(_) | Self::NoParameters => None,
        }
    }
}

/// What an activation delivers.
#[derive(Debug)]
pub struct Activated {
    /// Files, environment and arguments for the application.
    pub parameters: Parameters,
    /// DER of the certificate whose key the Coordinator proved to hold on this connection.
    pub server_certificate: Vec<u8>,
    /// When the Coordinator's answer was complete.
    pub received: Instant,
}

/// Activates with `request` and `credentials` as TLS client certificate.
///
/// Unreachable Coordinators and the statuses `UNAVAILABLE` and `RESOURCE_EXHAUSTED` are tried again, with growing
/// pauses, until `timeout`; nothing else is. Starts no thread. Reports one [`Event::Retrying`] per class of failure.
///
/// # Errors
/// See [`ActivationError`].
pub fn activate(
    address: &CoordinatorAddress,
    credentials: &Credentials,
    request: &ActivationReq,
    timeout: Duration,
    pace: &mut dyn Pace,
    report: &mut dyn FnMut(Event<'_>),
) -> Result<Activated, ActivationError> {
    let tls = Arc::new(tls::client_config(credentials).map_err(ActivationError::Tls)?);
    let one_try = |time_left: Duration| -> Result<Result<Answer, TryError>, ActivationError> {
        let candidates = match connection::resolve(address) {
            Ok(candidates) => candidates,
            Err(error) => return Ok(Err(error)),
        };
        // A runtime per try: nothing lives between them, and none is left when the application starts.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(ActivationError::EventLoop)?;
        Ok(runtime.block_on(Box::pin(connection::call(address, &candidates, tls.clone(), request, time_left))))
    };
    let answer = retry(timeout, pace, report, one_try)?;
    let parameters = answer.response.parameters.ok_or(ActivationError::NoParameters)?;
    Ok(Activated { parameters, server_certificate: answer.server_certificate, received: answer.received })
}

fn retry<T>(
    timeout: Duration,
    pace: &mut dyn Pace,
    report: &mut dyn FnMut(Event<'_>),
    one_try: impl Fn(Duration) -> Result<Result<T, TryError>, ActivationError>,
) -> Result<T, ActivationError> {
    let mut reported = Vec::new();
    let mut tries = 0;
    let mut longest = FIRST_PAUSE;
    let shortest_call = if timeout.is_zero() { SHORTEST_CALL } else { SHORTEST_CALL.min(timeout) };
    loop {
        tries += 1;
        let time_left = timeout.saturating_sub(pace.elapsed()).max(shortest_call);
        let error = match one_try(time_left)? {
            Ok(answer) => return Ok(answer),
            Err(error) if !error.is_retryable() => return Err(ActivationError::Refused(error)),
            Err(error) => error,
        };
        let time_left = timeout.saturating_sub(pace.elapsed());
        if time_left.is_zero() {
            return Err(ActivationError::TimedOut { tries, timeout, source: error });
        }
        if !reported.contains(&error.class()) {
            reported.push(error.class());
            report(Event::Retrying { error: &error });
        }
        let jitter = longest.mul_f64(f64::from(pace.random()) / 510.0);
        pace.sleep((longest / 2 + jitter).min(time_left));
        longest = (longest * 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io;

    use super::*;
    use crate::grpc::CallError;

    #[derive(Default)]
    struct FakePace {
        now: Duration,
        pauses: Vec<Duration>,
        random: u8,
    }

    impl Pace for FakePace {
        fn elapsed(&self) -> Duration {
            self.now
        }
        fn sleep(&mut self, pause: Duration) {
            self.now += pause;
            self.pauses.push(pause);
        }
        fn random(&mut self) -> u8 {
            self.random
        }
    }

    fn refused() -> TryError {
        TryError::Connect {
            address: CoordinatorAddress { host: "a".into(), port: 1 },
            failures: vec![("127.0.0.1:1".parse().unwrap(), io::ErrorKind::ConnectionRefused.into())],
        }
    }

    fn not_grpc(status: u16) -> TryError {
        let status = http::StatusCode::from_u16(status).unwrap();
        TryError::Call(CallError::NotGrpc { status, content_type: String::new() })
    }

    /// Fails `failures` times with what `error` makes, then succeeds with the number of tries.
    fn run(
        pace: &mut FakePace,
        timeout: u64,
        failures: u32,
        error: fn() -> TryError,
    ) -> (Result<u32, ActivationError>, Vec<String>) {
        let mut lines = Vec::new();
        let tries = Cell::new(0);
        let result = retry(Duration::from_secs(timeout), pace, &mut |event| lines.push(event.to_string()), |_| {
            tries.set(tries.get() + 1);
            Ok(if tries.get() > failures { Ok(tries.get()) } else { Err(error()) })
        });
        (result, lines)
    }

    // rules: MESH-4
    #[test]
    fn an_unreachable_coordinator_is_tried_again_and_reported_once() {
        let (result, lines) = run(&mut FakePace::default(), 300, 5, refused);
        assert_eq!(result.unwrap(), 6);
        assert_eq!(lines.len(), 1, "{lines:?}");
    }

    #[test]
    fn pauses_grow_to_a_limit_and_vary_with_chance() {
        let mut low = FakePace::default();
        run(&mut low, 3000, 8, refused).0.unwrap();
        let millis: Vec<u128> = low.pauses.iter().map(Duration::as_millis).collect();
        assert_eq!(millis, [250, 500, 1000, 2000, 4000, 7500, 7500, 7500]);
        let mut high = FakePace { random: 255, ..FakePace::default() };
        run(&mut high, 3000, 8, refused).0.unwrap();
        let millis: Vec<u128> = high.pauses.iter().map(Duration::as_millis).collect();
        assert_eq!(millis, [500, 1000, 2000, 4000, 8000, 15000, 15000, 15000]);
    }

    // rules: MESH-4
    #[test]
    fn tries_end_with_the_timeout_and_the_last_failure_is_told() {
        let mut pace = FakePace::default();
        let error = run(&mut pace, 10, u32::MAX, refused).0.unwrap_err();
        assert_eq!(error.to_string(), "gave up after 7 tries in 10 s");
        assert_eq!(pace.now, Duration::from_secs(10));
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(source, "cannot connect to a:1 (127.0.0.1:1: connection refused)");
        assert!(error.hint().is_some());
    }

    #[test]
    fn a_timeout_of_zero_means_one_try() {
        let mut pace = FakePace::default();
        let error = run(&mut pace, 0, u32::MAX, refused).0.unwrap_err();
        assert!(matches!(error, ActivationError::TimedOut { tries: 1, .. }), "{error}");
        assert!(pace.pauses.is_empty());
    }

    #[test]
    fn a_proxy_without_server_is_waited_for_and_other_web_servers_are_not() {
        assert_eq!(run(&mut FakePace::default(), 300, 1, || not_grpc(503)).0.unwrap(), 2);
        let error = run(&mut FakePace::default(), 300, 1, || not_grpc(404)).0.unwrap_err();
        assert!(matches!(error, ActivationError::Refused(_)), "{error}");
        assert!(error.hint().unwrap().contains("2001"));
    }
}
