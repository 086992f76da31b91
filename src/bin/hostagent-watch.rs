//! hostagent-watch: the service's process, which `hostagent watch` becomes.
//!
//! It runs for years, so it is a program of its own, that holds what waiting takes and nothing else: neither the AWS SDK
//! nor TLS, Docker or D-Bus. What needs those is done by `hostagent`, beside it, in processes that end.

fn main() -> std::process::ExitCode {
    hostagent::cli::watch::main()
}
