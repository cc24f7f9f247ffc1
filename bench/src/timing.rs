//! Timing of short operations.

use std::time::{Duration, Instant};

/// A batch is long against the clock's resolution and short against the scheduler's time slice.
const BATCH: Duration = Duration::from_millis(1);
/// How long one operation is measured.
const TOTAL: Duration = Duration::from_millis(400);
/// Batches that are not counted: caches and branch predictors fill.
const WARM_UP: usize = 5;

/// The typical time of one call in milliseconds: the median over batches, so that interruptions by others do not count.
pub fn milliseconds<T>(mut operation: impl FnMut() -> T) -> f64 {
    let mut calls: u32 = 1;
    let mut times = Vec::new();
    let started = Instant::now();
    let mut warm = 0;
    while started.elapsed() < TOTAL || times.is_empty() {
        let batch = Instant::now();
        for _ in 0..calls {
            std::hint::black_box(operation());
        }
        let elapsed = batch.elapsed();
        if elapsed < BATCH / 2 {
            calls = calls.saturating_mul(2);
        } else if warm < WARM_UP {
            warm += 1;
        } else {
            times.push(elapsed.as_secs_f64() * 1e3 / f64::from(calls));
        }
    }
    percentile(&mut times, 50)
}

/// The value that `percent` of `values` do not exceed. The values are sorted by this.
pub fn percentile(values: &mut [f64], percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    let index = (values.len() * percent).div_ceil(100).saturating_sub(1);
    values.get(index).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occur() {
        let mut values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(percentile(&mut values, 50), 50.0);
        assert_eq!(percentile(&mut values, 99), 99.0);
        assert_eq!(percentile(&mut [7.0], 50), 7.0);
        assert!(percentile(&mut [], 50).is_nan());
    }
}
