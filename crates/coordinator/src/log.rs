//! The log: structured events on standard error, each line bounded.

use std::io::{self, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::LogConfig;

/// No line is longer: log collectors cut or drop what is.
pub const MAX_LINE_BYTES: usize = 60 * 1024;

/// Starts logging for the whole process.
pub fn init(config: LogConfig) {
    let filter = EnvFilter::new(if config.debug { "debug,h2=info,hyper=info,hyper_util=info" } else { "info" });
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(BoundedStderr)
        .with_target(config.debug)
        .with_ansi(io::IsTerminal::is_terminal(&io::stderr()) && std::env::var_os("NO_COLOR").is_none());
    // A second call, in tests, keeps the first subscriber.
    let _ = if config.json { builder.json().try_init() } else { builder.try_init() };
}

struct BoundedStderr;

impl<'a> MakeWriter<'a> for BoundedStderr {
    type Writer = Bounded<io::Stderr>;

    fn make_writer(&'a self) -> Self::Writer {
        Bounded(io::stderr())
    }
}

/// Passes on each event, which arrives as one piece, unless it is too long.
struct Bounded<W>(W);

impl<W: Write> Write for Bounded<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if line.len() <= MAX_LINE_BYTES {
            self.0.write_all(line)?;
        } else if line.first() == Some(&b'{') {
            writeln!(self.0, "{{\"level\":\"WARN\",\"message\":\"a log line of {} bytes was left out\"}}", line.len())?;
        } else {
            self.0.write_all(line.get(..MAX_LINE_BYTES).unwrap_or(line))?;
            writeln!(self.0, "… ({} bytes in all)", line.len())?;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(line: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        Bounded(&mut out).write_all(line).unwrap();
        out
    }

    #[test]
    fn a_line_is_passed_on_as_it_is() {
        assert_eq!(written(b"INFO listening\n"), b"INFO listening\n");
    }

    #[test]
    fn a_line_that_is_too_long_is_cut_and_says_so() {
        let out = written(&vec![b'x'; 1 << 20]);
        assert!(out.len() < 64 * 1024 && out.ends_with(b"(1048576 bytes in all)\n"));
    }

    #[test]
    fn a_json_line_that_is_too_long_is_replaced_by_json() {
        let out = written(&[b"{", vec![b'x'; 1 << 20].as_slice()].concat());
        assert!(out.starts_with(b"{\"level\"") && out.ends_with(b"\"}\n"));
    }
}
