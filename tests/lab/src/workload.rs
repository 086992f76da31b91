//! What runs in a workload container: it asks for its task's credentials again and again, and logs each answer.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    thread::sleep,
    time::Duration,
};

/// The address every task is given for its role's credentials.
const CREDENTIALS: ([u8; 4], u16) = ([169, 254, 170, 2], 80);
const TIMEOUT: Duration = Duration::from_secs(2);
const INTERVAL: Duration = Duration::from_secs(1);

/// `hostagent-lab workload`, also when called as `workload`. Never returns: ends with the container.
pub fn main() -> ! {
    loop {
        match ask() {
            Ok(answer) => println!("credentials: {answer}"),
            Err(error) => println!("credentials: error: {error}"),
        }
        sleep(INTERVAL);
    }
}

/// The status line of the credential endpoint's answer.
fn ask() -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from(CREDENTIALS), TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(b"GET /v2/credentials/none HTTP/1.0\r\nHost: 169.254.170.2\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(4096).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned())
}
