//! hostagent: see the library for what is where.

fn main() -> std::process::ExitCode {
    hostagent::cli::main()
}
