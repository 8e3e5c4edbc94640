//! How the command-line tools are run: without a terminal, and not for ever.

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

/// `az` is a Python program and takes seconds; one that waits for a login never ends.
const PATIENCE: Duration = Duration::from_secs(30);
const STEP: Duration = Duration::from_millis(20);
/// What a tool has written before it ended is read by then.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// A token has some kilobytes.
const MAX_OUTPUT: usize = 1 << 20;

/// Runs a tool, and ends it with all that it started when it takes too long.
///
/// Not tokio's own `process`, which would install a SIGCHLD handler in the host program.
#[derive(Debug)]
pub(super) struct Patient;

#[async_trait]
impl Executor for Patient {
    async fn run(&self, program: &OsStr, args: &[&OsStr]) -> io::Result<Output> {
        let mut command = Command::new(program);
        command.args(args);
        tokio::task::spawn_blocking(move || run(command)).await.map_err(io::Error::other)?
    }
}

fn run(mut command: Command) -> io::Result<Output> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn()?;
    let deadline = Instant::now() + PATIENCE;
    let pipes = (child.stdout.take(), child.stderr.take());
    let said = Collected::begin(pipes.0).and_then(|stdout| Ok((stdout, Collected::begin(pipes.1)?)));
    let why = loop {
        if let Err(error) = said {
            break error;
        }
        if let Some(status) = child.try_wait()? {
            let (stdout, stderr) = said?;
            return Ok(Output { status, stdout: stdout.take(), stderr: stderr.take() });
        }
        if Instant::now() > deadline {
            let why = format!("it did not end within {} s", PATIENCE.as_secs());
            break io::Error::new(io::ErrorKind::TimedOut, why);
        }
        std::thread::sleep(STEP);
    };
    kill_group(child.id());
    child.wait()?;
    Err(why)
}

/// What comes out of a pipe, read while the tool runs, since a full pipe would stop it.
struct Collected {
    bytes: Arc<Mutex<Vec<u8>>>,
    end: Receiver<()>,
}

impl Collected {
    fn begin(pipe: Option<impl Read + Send + 'static>) -> io::Result<Self> {
        let (bytes, (sender, end)) = (Arc::new(Mutex::new(Vec::new())), channel());
        let collected = bytes.clone();
        std::thread::Builder::new().name("aztorch-pipe".to_owned()).spawn(move || {
            let (mut pipe, mut piece) = (pipe, [0; 4096]);
            // A pipe that breaks has ended.
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

    /// All of it, once the tool has ended. Something that the tool has left running may keep the pipe open: that is not
    /// waited for.
    fn take(self) -> Vec<u8> {
        let _ = self.end.recv_timeout(LAST_WORDS);
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
    fn what_a_tool_says_is_taken_however_much_it_is() {
        let output = run(shell("head -c 300000 /dev/zero >&2; echo token; exit 3")).unwrap();
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(3), &b"token\n"[..]));
        assert!(output.stderr.len() > 1000);
    }

    #[test]
    fn a_tool_may_leave_a_process_behind_that_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let gate = folder.path().join("gate");
        assert!(Command::new("mkfifo").arg(&gate).status().unwrap().success());
        // It holds the pipes until somebody writes to the gate.
        let output = run(shell(&format!("cat '{}' & echo token", gate.display()))).unwrap();
        assert_eq!(output.stdout, b"token\n");
        std::fs::write(&gate, "now").unwrap();
    }
}
