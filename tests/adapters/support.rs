//! What several of the adapters' tests need.

use axum::Router;
use std::{
    env,
    net::SocketAddr,
    process::{Command, Stdio},
    time::Duration,
};
use tokio::net::TcpListener;

/// Long enough never to be met on a slow machine.
pub const AMPLE: Duration = Duration::from_secs(30);
/// For tests that wait for a deadline to pass.
pub const SHORT: Duration = Duration::from_millis(300);

/// Serves the routes on a free port until the test ends; its base URL.
pub async fn serve(routes: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    format!("http://{addr}")
}

/// An address on which nothing listens.
pub fn closed_port() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Accepts connections and says nothing on them.
pub async fn silent() -> SocketAddr {
    answering(b"").await
}

/// Accepts connections, answers the first words on each with these bytes, and keeps it open.
pub async fn answering(bytes: &'static [u8]) -> SocketAddr {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(bytes).await;
            held.push(stream);
        }
    });
    addr
}

/// This test program once more, for one ignored test that needs an environment or a user of its own.
pub fn again(test: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(again_arguments(test)).stdin(Stdio::null());
    command
}

pub fn again_arguments(test: &str) -> [&str; 5] {
    [test, "--exact", "--ignored", "--nocapture", "--test-threads=1"]
}

/// What such a test has to say to the one that ran it.
pub fn report(text: impl std::fmt::Display) {
    println!("\nREPORT {text}");
}

/// The report in the output of [`again`].
pub fn reported(mut command: Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("REPORT "));
    line.unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&output.stderr))).to_owned()
}
