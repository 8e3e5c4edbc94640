//! Credentials, tokens, and secrets that must not be shown.

mod credentials;
mod environment_variables;
mod identities;
mod refused_tokens;
mod secrets_in_errors;
mod tokens;
