//! How the command-line tools are run: without a terminal, and not for ever.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use azure_identity::Executor;

use crate::sys::process::kill_group;

/// `az` is a Python program and takes seconds; one that waits for a login never ends.
const PATIENCE: Duration = Duration::from_secs(30);
const STEP: Duration = Duration::from_millis(20);

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
    // A token and an error both fit into a pipe, so nothing has to be read before the end.
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() > deadline {
            kill_group(child.id());
            child.wait()?;
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("it did not end within {} s", PATIENCE.as_secs()),
            ));
        }
        std::thread::sleep(STEP);
    };
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    if let Some(mut pipe) = child.stdout.take() {
        pipe.read_to_end(&mut stdout)?;
    }
    if let Some(mut pipe) = child.stderr.take() {
        pipe.read_to_end(&mut stderr)?;
    }
    Ok(Output { status, stdout, stderr })
}
