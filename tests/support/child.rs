//! A test that needs a process of its own starts its own binary again, asking for itself alone.

use std::ffi::OsStr;
use std::process::{Child, Command, Stdio};

const ARGUMENT: &str = "AZTORCH_TEST_CHILD";

/// What the parent passed, when this process is such a child.
pub fn argument() -> Option<String> {
    std::env::var(ARGUMENT).ok()
}

/// Runs the test `name` (with its module) in a new process; there, [`argument`] gives `argument`.
pub fn spawn(name: &str, argument: &str) -> Child {
    spawn_with(name, argument, &[])
}

/// The same, with these environment variables, and none that tells where this process runs on Azure.
pub fn spawn_with(name: &str, argument: &str, environment: &[(&str, &OsStr)]) -> Child {
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    hide_azure(&mut command);
    command
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(ARGUMENT, argument)
        .envs(environment.iter().copied())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this binary, again")
}

/// Takes away what this process's environment says of Azure.
pub fn hide_azure(command: &mut Command) {
    for (variable, _) in std::env::vars_os() {
        if ["AZURE_", "IDENTITY_", "MSI_"].iter().any(|prefix| variable.to_string_lossy().starts_with(prefix)) {
            command.env_remove(variable);
        }
    }
}
