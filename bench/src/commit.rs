//! What it costs to make a record durable, beside an append and a flush of as many bytes.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use marblerun_sealing::{FixedSealKeys, SealMode, TrustClass, TrustContext};
use marblerun_secret::SecretBytes;
use marblerun_storage::{DATA_FILE, Opened, SealedLog, open_directory};

use crate::figure::{Figure, Unit};
use crate::surroundings::Surroundings;
use crate::timing::percentile;

/// About as long as the record of a counted activation.
const PAYLOAD: [u8; 64] = [7; 64];
const ROUNDS: usize = 400;
const GROUP: usize = 64;
/// A slow disk must not hold the bench for long.
const TIME: Duration = Duration::from_secs(5);

/// Measures one record and a group of records per flush.
///
/// # Errors
///
/// If the disk fails.
pub fn measure(surroundings: &Surroundings) -> Result<Vec<Figure>> {
    let directory = surroundings.directory("commit")?;
    let mut log = create(&directory.join("state"))?;
    let data = directory.join("state").join(DATA_FILE);
    let mut plain = OpenOptions::new().create_new(true).append(true).open(directory.join("plain"))?;

    let mut figures = Vec::new();
    for (name, records) in [("one record", 1), ("64 records in one flush", GROUP)] {
        let payloads = vec![PAYLOAD.as_slice(); records];
        let Times { mut sealed, mut flushed } = alternate(&mut log, &data, &mut plain, &payloads)?;
        let (p99, floor_p99) = (percentile(&mut sealed, 99), percentile(&mut flushed, 99));
        let (median, floor) = (percentile(&mut sealed, 50), percentile(&mut flushed, 50));
        figures.push(Figure::new(format!("{name}, median"), median, Unit::Milliseconds).floor(floor));
        figures.push(Figure::new(format!("{name}, p99"), p99, Unit::Milliseconds).floor(floor_p99));
    }
    Ok(figures)
}

fn create(path: &Path) -> Result<SealedLog> {
    let keys = FixedSealKeys::new(SecretBytes::new(vec![1; 32]), SecretBytes::new(vec![2; 32]));
    match open_directory(path, Arc::new(keys), TrustContext::new(TrustClass::Simulation, Vec::new()))? {
        Opened::New(new) => Ok(new.create(SealMode::default(), &[PAYLOAD.as_slice()])?),
        _ => bail!("expected an empty directory"),
    }
}

struct Times {
    sealed: Vec<f64>,
    flushed: Vec<f64>,
}

/// Both by turns, so that both see the same disk.
fn alternate(log: &mut SealedLog, data: &Path, plain: &mut File, payloads: &[&[u8]]) -> Result<Times> {
    let mut times = Times { sealed: Vec::new(), flushed: Vec::new() };
    let mut length = Surroundings::size(data)?;
    let began = Instant::now();
    while times.sealed.len() < ROUNDS && began.elapsed() < TIME {
        let start = Instant::now();
        log.commit(payloads)?;
        times.sealed.push(start.elapsed().as_secs_f64() * 1e3);

        let grown = Surroundings::size(data)? - length;
        length += grown;
        let bytes = vec![0x5a; grown as usize];
        let start = Instant::now();
        plain.write_all(&bytes)?;
        plain.sync_data()?;
        times.flushed.push(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(times)
}
