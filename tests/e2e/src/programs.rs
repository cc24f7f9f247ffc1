//! Finding and running the programs.

use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// Longest run of a program that is expected to end: far above what any needs on a busy machine.
const END_TIMEOUT: Duration = Duration::from_secs(60);

/// The file of one of our programs.
pub(crate) fn program(name: &str) -> PathBuf {
    let directory = match std::env::var_os("MARBLERUN_BIN") {
        Some(directory) => PathBuf::from(directory),
        // target/<profile>/deps/<this test>
        None => std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().to_owned(),
    };
    let file = directory.join(name);
    assert!(file.is_file(), "{} is missing: run `cargo build --workspace --bins` first", file.display());
    file.canonicalize().unwrap()
}

/// How a program ended and what it wrote.
#[derive(Debug)]
pub(crate) struct Finished {
    /// The exit code; of a program that a signal ended 128 + signal.
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    /// Both outputs.
    pub(crate) fn text(&self) -> String {
        format!("{}{}", self.stderr, self.stdout)
    }

    /// The lines that tell of a failure: without progress and the simulator's notices.
    pub(crate) fn complaint(&self) -> String {
        let text = self.text();
        let lines = text.lines().filter(|line| {
            let is_progress = line.starts_with("[PreMain] ") && !line.contains("warning:");
            let is_notice = ["SIMULATION of Occlum", "MRENCLAVE", "mechanism:"]
                .iter()
                .any(|notice| line.strip_prefix("marble-sim: ").is_some_and(|rest| rest.starts_with(notice)));
            // Lines of a start like every other.
            let is_start = line.contains("  INFO ") || line.contains("evidence is that of a software TEE");
            !is_progress && !is_notice && !is_start
        });
        lines.map(|line| format!("{line}\n")).collect()
    }

    /// Fails unless the program succeeded.
    #[track_caller]
    pub(crate) fn success(self) -> Self {
        assert_eq!(self.code, 0, "expected success, got:\n{}", self.text());
        self
    }

    /// Fails unless the program failed and its output holds all `words`.
    #[track_caller]
    pub(crate) fn refused(self, words: &[&str]) -> Self {
        assert_ne!(self.code, 0, "expected a failure, got:\n{}", self.text());
        self.says(words)
    }

    /// Fails unless the output holds all `words`.
    #[track_caller]
    pub(crate) fn says(self, words: &[&str]) -> Self {
        for word in words {
            assert!(self.text().contains(word), "expected {word:?} in the output, got:\n{}", self.text());
        }
        self
    }
}

/// Runs a program to its end.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> Finished {
    Running::start(command).finish()
}

/// A program that runs; it is killed with this value.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    lines: mpsc::Receiver<Vec<u8>>,
    stdout: Option<thread::JoinHandle<String>>,
    stderr: String,
    started: Instant,
}

impl Running {
    #[track_caller]
    pub(crate) fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut stdout = child.stdout.take().unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let stdout = thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = stdout.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        });
        let (send, lines) = mpsc::channel();
        thread::spawn(move || {
            let mut buffer = [0; 8192];
            while let Ok(length @ 1..) = stderr.read(&mut buffer) {
                if send.send(buffer[..length].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self { child, lines, stdout: Some(stdout), stderr: String::new(), started: Instant::now() }
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What was written to standard error up to now.
    pub(crate) fn log(&mut self) -> &str {
        while let Ok(bytes) = self.lines.try_recv() {
            self.stderr.push_str(&String::from_utf8_lossy(&bytes));
        }
        &self.stderr
    }

    /// Waits until the log holds what `find` looks for; fails if the program ends before, or the time.
    #[track_caller]
    pub(crate) fn wait_for<T>(&mut self, what: &str, mut find: impl FnMut(&str) -> Option<T>) -> T {
        let deadline = Instant::now() + END_TIMEOUT;
        loop {
            if let Some(found) = find(&self.stderr) {
                return found;
            }
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.stderr.push_str(&String::from_utf8_lossy(&bytes)),
                Err(error) => panic!("no {what} ({error}), got:\n{}", self.stderr),
            }
        }
    }

    /// Waits for the end.
    #[track_caller]
    pub(crate) fn finish(mut self) -> Finished {
        let deadline = self.started + END_TIMEOUT;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.stderr.push_str(&String::from_utf8_lossy(&bytes)),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    panic!("did not end within {END_TIMEOUT:?}, got:\n{}", self.stderr)
                }
            }
        }
        let status = self.child.wait().unwrap();
        let stdout = self.stdout.take().unwrap().join().unwrap();
        let code =
            status.code().unwrap_or_else(|| 128 + std::os::unix::process::ExitStatusExt::signal(&status).unwrap());
        Finished { code, stdout, stderr: std::mem::take(&mut self.stderr) }
    }

    /// SIGKILL, and nothing of it is left afterwards. Returns the whole log.
    pub(crate) fn kill(&mut self) -> String {
        self.end();
        self.stderr.clone()
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // The pipe closes with the last process of the tree.
        let deadline = Instant::now() + END_TIMEOUT;
        while let Ok(bytes) = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            self.stderr.push_str(&String::from_utf8_lossy(&bytes));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}
