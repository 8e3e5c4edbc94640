//! Runs the command-line tools that give tokens: without a terminal and with a timeout.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use azure_identity::Executor;

use crate::sys::lock::lock;
use crate::sys::process::kill_group;

/// `az` is a Python program and takes seconds. A tool that waits for a login never ends.
const TIMEOUT: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// How long to wait for the rest of a tool's output after its end.
const OUTPUT_TIMEOUT: Duration = Duration::from_secs(1);
/// The largest output that is kept. A token has a few kilobytes.
const MAX_OUTPUT: usize = 1 << 20;

/// Runs a tool, and kills it together with its child processes if it takes longer than 30 s.
///
/// It does not use `tokio::process`, which would install a SIGCHLD handler in the host program.
#[derive(Debug)]
pub(super) struct TimeoutExecutor;

#[async_trait]
impl Executor for TimeoutExecutor {
    async fn run(&self, program: &OsStr, args: &[&OsStr]) -> io::Result<Output> {
        let mut command = Command::new(program);
        command.args(args);
        tokio::task::spawn_blocking(move || run(command)).await.map_err(io::Error::other)?
    }
}

fn run(mut command: Command) -> io::Result<Output> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn()?;
    let deadline = Instant::now() + TIMEOUT;
    let pipes = (child.stdout.take(), child.stderr.take());
    let output = PipeReader::start(pipes.0).and_then(|stdout| Ok((stdout, PipeReader::start(pipes.1)?)));
    let error = loop {
        if let Err(error) = output {
            break error;
        }
        if let Some(status) = child.try_wait()? {
            let (stdout, stderr) = output?;
            return Ok(Output { status, stdout: stdout.take(), stderr: stderr.take() });
        }
        if Instant::now() > deadline {
            let message = format!("it did not end within {} s", TIMEOUT.as_secs());
            break io::Error::new(io::ErrorKind::TimedOut, message);
        }
        std::thread::sleep(POLL_INTERVAL);
    };
    kill_group(child.id());
    child.wait()?;
    Err(error)
}

/// Reads a pipe on a thread while the tool runs, because a full pipe would block the tool.
struct PipeReader {
    bytes: Arc<Mutex<Vec<u8>>>,
    end: Receiver<()>,
}

impl PipeReader {
    fn start(pipe: Option<impl Read + Send + 'static>) -> io::Result<Self> {
        let (bytes, (sender, end)) = (Arc::new(Mutex::new(Vec::new())), channel());
        let collected = bytes.clone();
        std::thread::Builder::new().name("aztorch-pipe".to_owned()).spawn(move || {
            let (mut pipe, mut piece) = (pipe, [0; 4096]);
            // A read error counts as the end of the pipe.
            while let Some(count) = pipe.as_mut().and_then(|pipe| pipe.read(&mut piece).ok()).filter(|&count| count > 0)
            {
                let mut collected = lock(&collected);
                let room = MAX_OUTPUT - collected.len();
                collected.extend_from_slice(&piece[..count.min(room)]);
            }
            drop(sender);
        })?;
        Ok(Self { bytes, end })
    }

    /// The output, after the tool has ended. A child process of the tool may keep the pipe open, so the wait is
    /// limited.
    fn take(self) -> Vec<u8> {
        let _ = self.end.recv_timeout(OUTPUT_TIMEOUT);
        std::mem::take(&mut *lock(&self.bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn large_output_of_a_tool_is_read() {
        let output = run(shell("head -c 300000 /dev/zero >&2; echo token; exit 3")).unwrap();
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(3), &b"token\n"[..]));
        assert!(output.stderr.len() > 1000);
    }

    #[test]
    fn a_child_process_of_a_tool_may_outlive_it() {
        let folder = tempfile::tempdir().unwrap();
        let gate = folder.path().join("gate");
        assert!(Command::new("mkfifo").arg(&gate).status().unwrap().success());
        // The child process holds the pipes open until the test writes to the gate.
        let output = run(shell(&format!("cat '{}' & echo token", gate.display()))).unwrap();
        assert_eq!(output.stdout, b"token\n");
        std::fs::write(&gate, "now").unwrap();
    }
}
