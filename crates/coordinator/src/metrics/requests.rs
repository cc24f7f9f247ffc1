//! Requests of the client API by known path; unknown paths are not counted.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use axum::body::HttpBody as _;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;

use super::{Metrics, head, locked};

/// The paths with a series of their own.
const PATHS: [&str; 19] = [
    "/manifest",
    "/update",
    "/secrets",
    "/status",
    "/quote",
    "/recover",
    "/update-manifest",
    "/update-cancel",
    "/api/v2/manifest",
    "/api/v2/update",
    "/api/v2/secrets",
    "/api/v2/status",
    "/api/v2/quote",
    "/api/v2/recover",
    "/api/v2/recover/public-key",
    "/api/v2/sign-quote",
    "/api/v2/monotonic-counter",
    "/api/v2/update-manifest",
    "/api/v2/update-cancel",
];
const SECONDS: [f64; 7] = [0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 5.0];
const BYTES: [f64; 5] = [100.0, 1000.0, 2000.0, 5000.0, 10000.0];

#[derive(Debug)]
struct Histogram<const N: usize> {
    counts: [u64; N],
    count: u64,
    sum: f64,
}

impl<const N: usize> Default for Histogram<N> {
    fn default() -> Self {
        Self { counts: [0; N], count: 0, sum: 0.0 }
    }
}

impl<const N: usize> Histogram<N> {
    fn observe(&mut self, bounds: &[f64; N], value: f64) {
        for (count, bound) in self.counts.iter_mut().zip(bounds) {
            *count += u64::from(value <= *bound);
        }
        self.count += 1;
        self.sum += value;
    }

    fn write(&self, text: &mut String, name: &str, labels: &str, bounds: &[f64; N]) {
        for (count, bound) in self.counts.iter().zip(bounds) {
            let _ = writeln!(text, "{name}_bucket{{{labels},le=\"{bound}\"}} {count}");
        }
        let _ = writeln!(text, "{name}_bucket{{{labels},le=\"+Inf\"}} {}", self.count);
        let _ = writeln!(text, "{name}_sum{{{labels}}} {}\n{name}_count{{{labels}}} {}", self.sum, self.count);
    }
}

#[derive(Debug, Default)]
struct OfPath {
    total: BTreeMap<(u16, &'static str), u64>,
    durations: BTreeMap<&'static str, Histogram<7>>,
    request_bytes: Histogram<5>,
    response_bytes: Histogram<5>,
}

/// Counts by path, in the order of [`PATHS`].
#[derive(Debug, Default)]
pub(super) struct Requests {
    paths: [Mutex<OfPath>; PATHS.len()],
    in_flight: [AtomicI64; PATHS.len()],
}

/// Ends with the request, also if its client hangs up.
struct InFlight(Arc<Metrics>, usize);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.requests.in_flight[self.1].fetch_sub(1, Ordering::Relaxed);
    }
}

/// The layer of the client API that counts requests.
pub(crate) async fn count_requests(State(metrics): State<Arc<Metrics>>, request: Request, next: Next) -> Response {
    let Some(index) = PATHS.iter().position(|path| *path == request.uri().path()) else {
        return next.run(request).await;
    };
    metrics.requests.in_flight[index].fetch_add(1, Ordering::Relaxed);
    let in_flight = InFlight(metrics, index);
    let method = method_label(request.method());
    let request_bytes = request.body().size_hint().lower();
    let start = Instant::now();
    let response = next.run(request).await;
    let mut of_path = locked(&in_flight.0.requests.paths[index]);
    *of_path.total.entry((response.status().as_u16(), method)).or_default() += 1;
    of_path.durations.entry(method).or_default().observe(&SECONDS, start.elapsed().as_secs_f64());
    of_path.request_bytes.observe(&BYTES, bytes(request_bytes));
    of_path.response_bytes.observe(&BYTES, bytes(response.body().size_hint().lower()));
    drop(of_path);
    response
}

/// Bodies are far below the 4 GiB up to which this is exact.
fn bytes(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// A client may invent methods; those share a label.
fn method_label(method: &http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "get",
        "POST" => "post",
        "PUT" => "put",
        "DELETE" => "delete",
        "HEAD" => "head",
        "OPTIONS" => "options",
        "PATCH" => "patch",
        "CONNECT" => "connect",
        "TRACE" => "trace",
        _ => "unknown",
    }
}

impl Requests {
    pub(super) fn write(&self, text: &mut String) {
        let name = "server_client_api_http_request_total";
        head(text, name, "counter", "Requests by path, status code, and method.");
        self.each(|path, counts| {
            for ((code, method), count) in &counts.total {
                let _ = writeln!(text, "{name}{{code=\"{code}\",method=\"{method}\",path=\"{path}\"}} {count}");
            }
        });
        let name = "server_client_api_http_request_duration_histogram_seconds";
        head(text, name, "histogram", "Time until the head of the answer.");
        self.each(|path, counts| {
            for (method, histogram) in &counts.durations {
                histogram.write(text, name, &format!("method=\"{method}\",path=\"{path}\""), &SECONDS);
            }
        });
        let name = "server_client_api_http_request_size_histogram_bytes";
        head(text, name, "histogram", "Announced sizes of request bodies.");
        self.each(|path, counts| counts.request_bytes.write(text, name, &format!("path=\"{path}\""), &BYTES));
        let name = "server_client_api_http_response_size_histogram_bytes";
        head(text, name, "histogram", "Sizes of answers.");
        self.each(|path, counts| counts.response_bytes.write(text, name, &format!("path=\"{path}\""), &BYTES));
        let name = "server_client_api_http_in_flight_requests";
        head(text, name, "gauge", "Requests being answered.");
        for (path, count) in PATHS.iter().zip(&self.in_flight) {
            let _ = writeln!(text, "{name}{{path=\"{path}\"}} {}", count.load(Ordering::Relaxed));
        }
    }

    fn each(&self, mut write: impl FnMut(&str, &OfPath)) {
        for (path, counts) in PATHS.iter().zip(&self.paths) {
            write(path, &locked(counts));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // rules: STA-6.3, R35
    #[test]
    fn invented_methods_share_a_label() {
        assert_eq!(method_label(&http::Method::from_bytes(b"INVENTED").expect("a token")), "unknown");
    }

    #[test]
    fn buckets_are_cumulative() {
        let mut histogram = Histogram::default();
        histogram.observe(&BYTES, 1000.0);
        histogram.observe(&BYTES, 1e9);
        assert_eq!((histogram.counts, histogram.count), ([0, 1, 1, 1, 1], 2));
    }
}
