//! Runs a test in a new process: the test starts its own binary again with its own name.

use std::ffi::OsStr;
use std::process::{Child, Command, Stdio};

const ARGUMENT: &str = "AZTORCH_TEST_CHILD";

/// The argument that the parent passed, if this process is such a child.
pub fn argument() -> Option<String> {
    std::env::var(ARGUMENT).ok()
}

/// The path of a test function as the test harness knows it: its modules and its name, without the binary's name.
pub fn test_path<F: Fn()>(_test: F) -> &'static str {
    let path = std::any::type_name::<F>();
    path.split_once("::").map_or(path, |(_, path)| path)
}

/// Runs the test with the path `name` in a new process, in which [`argument`] returns `argument`.
pub fn spawn(name: &str, argument: &str) -> Child {
    spawn_with(name, argument, &[])
}

/// Runs the test with the path `name` in a new process with these environment variables, in which [`argument`] returns
/// `argument`. Variables of this process that describe an Azure environment are removed.
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

/// Removes the variables of this process that describe an Azure environment.
pub fn hide_azure(command: &mut Command) {
    for (variable, _) in std::env::vars_os() {
        if ["AZURE_", "IDENTITY_", "MSI_"].iter().any(|prefix| variable.to_string_lossy().starts_with(prefix)) {
            command.env_remove(variable);
        }
    }
}
