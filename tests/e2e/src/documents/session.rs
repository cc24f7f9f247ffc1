//! Executing the steps of a page.

use std::fmt::Write as _;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use snapbox::IntoData as _;
use snapbox::filter::NormalizeToExpected;

use super::page::{Page, Step};
use super::repository;
use crate::programs::program;

/// Far above what a page takes on a busy machine.
const PAGE_TIMEOUT: Duration = Duration::from_secs(180);
/// Stands before the exit code of a command in what the shell writes; no output contains it.
const MARK: char = '\u{1e}';
/// A new network namespace has a loopback interface that is down: SIOCSIFFLAGS with IFF_UP and IFF_RUNNING
/// (netdevice(7)).
const LOOPBACK_UP: &str = "import fcntl, socket, struct; \
                           fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sh14x', b'lo', 0x41))";

/// A shell in a directory that was empty, with a network of its own, where all ports are free and nothing else is to be
/// reached; all its processes are killed with this value.
pub(super) struct Session {
    shell: Child,
    written: mpsc::Receiver<Vec<u8>>,
    /// What no command has been taken from yet.
    rest: Vec<u8>,
    deadline: Instant,
    _directory: tempfile::TempDir,
}

impl Session {
    /// Executes all steps; the error names the line of the page that is not true.
    pub(super) fn follow(page: &Page) -> Result<(), String> {
        let mut session = Self::start(page);
        for step in &page.steps {
            let Step::Command { line, command, output: shown } = step else { continue };
            let at = format!("{}:{line}: {command}", page.path);
            let (output, code) = session.next().map_err(|error| format!("{at}\n{error}"))?;
            compare(shown, &output).map_err(|error| format!("{at}\n{error}"))?;
            if code != 0 {
                return Err(format!("{at}\nexpected exit code 0, got {code} with the output\n{output}"));
            }
        }
        Ok(())
    }

    fn start(page: &Page) -> Self {
        let directory = tempfile::Builder::new().prefix("marblerun-document-").tempdir().unwrap();
        for name in ["work", "home"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        let script = directory.path().join("script");
        fs::write(&script, script_of(page)).unwrap();

        let programs = program("marblerun").parent().unwrap().to_owned();
        let tools = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths([programs].into_iter().chain(std::env::split_paths(&tools))).unwrap();
        let mut command = Command::new("unshare");
        if fs::metadata("/proc/self").unwrap().uid() != 0 {
            command.args(["--user", "--map-root-user"]);
        }
        command
            .args(["--net", "bash"])
            .arg(&script)
            .current_dir(directory.path().join("work"))
            .env_clear()
            .env("HOME", directory.path().join("home"))
            .env("LC_ALL", "C")
            .env("PATH", path)
            .env("REPO", repository())
            // The one tool of pages with a large cache; without it, each page would compile Go's standard library.
            .env("GOCACHE", go_cache())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // A group of its own, so that what runs in the background can be killed.
            .process_group(0);
        let mut shell = command.spawn().unwrap();
        let mut stdout = shell.stdout.take().unwrap();
        let (send, written) = mpsc::channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 8192];
            while let Ok(length @ 1..) = stdout.read(&mut buffer) {
                if send.send(buffer[..length].to_vec()).is_err() {
                    break;
                }
            }
        });
        let deadline = Instant::now() + PAGE_TIMEOUT;
        Self { shell, written, rest: Vec::new(), deadline, _directory: directory }
    }

    /// Output and exit code of the next command.
    fn next(&mut self) -> Result<(String, i32), String> {
        loop {
            if let Some(mark) = self.rest.iter().position(|byte| char::from(*byte) == MARK)
                && let Some(length) = self.rest[mark..].iter().position(|byte| *byte == b'\n')
            {
                let taken: Vec<u8> = self.rest.drain(..=mark + length).collect();
                let (output, code) = (String::from_utf8_lossy(&taken[..mark]), &taken[mark + 1..mark + length]);
                let code = String::from_utf8_lossy(code).parse().map_err(|error| format!("exit code: {error}"))?;
                return Ok((output.strip_suffix('\n').unwrap_or(&output).to_owned(), code));
            }
            match self.written.recv_timeout(self.deadline.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.rest.extend(bytes),
                Err(error) => {
                    let text = String::from_utf8_lossy(&self.rest);
                    return Err(format!("the command did not end ({error}); up to now:\n{text}"));
                }
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let group = format!("-{}", self.shell.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
        let _ = self.shell.wait();
    }
}

/// As Go chooses it, with the home directory of whoever runs the tests.
fn go_cache() -> PathBuf {
    let of = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = || of("XDG_CACHE_HOME").or_else(|| Some(of("HOME")?.join(".cache")));
    of("GOCACHE").or_else(|| Some(cache()?.join("go-build"))).unwrap_or_else(|| std::env::temp_dir().join("go-build"))
}

/// One script for the whole page, so that variables and background jobs live on. It ends with the first failure.
fn script_of(page: &Page) -> String {
    let mut script = format!("exec 2>&1\npython3 -c \"{LOOPBACK_UP}\" || exit\n");
    for step in &page.steps {
        let _ = match step {
            Step::Command { command, .. } => writeln!(
                script,
                "{}\ncode_of_this_step=$?; printf '\\n{MARK}%d\\n' $code_of_this_step; [ $code_of_this_step = 0 ] || exit",
                command
            ),
            Step::File { name, content } => {
                let parent = Path::new(name).parent().and_then(Path::to_str).filter(|parent| !parent.is_empty());
                let parent = parent.unwrap_or(".");
                writeln!(script, "mkdir -p {parent} && cat > {name} <<'{MARK}' || exit\n{content}{MARK}")
            }
        };
    }
    script
}

/// A page cannot show whether the last line has a line feed.
fn compare(shown: &str, got: &str) -> Result<(), String> {
    let (shown, got) = (shown.trim_end_matches('\n'), got.trim_end_matches('\n'));
    let shown = shown.into_data();
    let got = NormalizeToExpected::new().redact().normalize(got.into_data(), &shown);
    snapbox::Assert::new().try_eq(None, got, shown).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn follow(text: &str) -> Result<(), String> {
        Session::follow(&Page::parse("page", text).unwrap())
    }

    #[test]
    fn variables_files_and_background_jobs_last_and_wildcards_match() {
        follow(
            "```text file: a/b\nx 'y' $z\n```\n```console\n$ word=1; sleep 1000 &\n$ cat a/b; echo $word; jobs -r | wc -l\n\
             x 'y' $z\n1\n1\n$ echo one two three; echo; echo 4; printf end\none [..] three\n...\nend\n$ false || echo $?\n1\n```\n",
        )
        .unwrap();
    }

    #[test]
    fn another_output_is_noticed() {
        for shown in ["", "b\n", "a\nb\n", "a\n...\nb\n"] {
            let error = follow(&format!("```console\n$ echo a\n{shown}```\n")).unwrap_err();
            assert!(error.starts_with("page:2: echo a\n"), "{error}");
        }
        follow("```console\n$ echo b >&2\nb\n```\n").unwrap();
    }

    #[test]
    fn a_command_that_fails_is_noticed() {
        let error = follow("```console\n$ true\n$ (exit 3)\n```\n").unwrap_err();
        assert_eq!(error, "page:3: (exit 3)\nexpected exit code 0, got 3 with the output\n");
        let error = follow("```console\n$ exit 0\n```\n").unwrap_err();
        assert!(error.contains("the command did not end"), "{error}");
    }

    #[test]
    fn pages_have_networks_of_their_own_in_which_the_usual_ports_are_free() {
        let listen = "$ exec 3< <(python3 -c 'import socket, time; s = socket.create_server((\"\", 4433)); \
                      print(\"listening\", flush=True); time.sleep(60)')\n$ read -u 3 line; echo $line\nlistening\n";
        let page = format!("```console\n{listen}```\n");
        let (one, other) = (page.clone(), page);
        let first = std::thread::spawn(move || follow(&one));
        follow(&other).unwrap();
        first.join().unwrap().unwrap();
    }
}
